"""The model chooser: installed models, released ones by a download, files by import."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.core.bundle import list_models
from napari_medvlseg.core.errors import CheckpointError, MedVLSegError
from napari_medvlseg.core.released import RELEASED, Released, released
from napari_medvlseg.plugin.controls import named
from napari_medvlseg.plugin.import_dialog import ImportDialog
from napari_medvlseg.plugin.model_fetch import (
    ModelFetch,
    Task,
    from_file,
    from_hub,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.plugin.model_fetch import (
        FetchFunction,
        ImportChoice,
        StepLike,
    )

MEGABYTE = 1_000_000
VOLUMES_ONLY = (
    "Not for pictures: open a volume, or choose another model for this image."
)
NAMED = 3
"""Tensors that were left out, of which so many are named."""
WIDTH_IN_LETTERS = 18
"""Of the chooser at least; its list is as wide as its longest line."""


class ModelView(QWidget):
    """Chooses a model, and brings one that is not there."""

    model_changed = Signal(object)
    """The chosen model's card; None where it is not there."""

    def __init__(
        self, fetch: FetchFunction = from_hub, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._cards: dict[str, ModelCard] = {}
        self._is_volume = False
        self._from_hub = fetch
        self._fetch = ModelFetch(self)
        self._brought: ModelCard | None = None
        self._left_out: tuple[str, ...] = ()
        self._make()
        self._lay_out()
        self.chooser.currentIndexChanged.connect(self._on_chosen)
        self.download.clicked.connect(self.start_download)
        self.stop.clicked.connect(self.cancel)
        self.bring.clicked.connect(self._ask_what_to_import)
        self._fetch.progressed.connect(self._on_progressed)
        self._fetch.ended.connect(self._on_ended)

    @property
    def card(self) -> ModelCard | None:
        """The chosen model's card; None where it is not there."""
        return self._cards.get(str(self.chooser.currentData()))

    @property
    def entry(self) -> Released | None:
        """The released checkpoint that is chosen and not there."""
        return None if self.card else released(str(self.chooser.currentData()))

    def usable_card(self) -> ModelCard:
        """Return the chosen model's card.

        Raises
        ------
        CheckpointError
            If it is not there, or not complete.
        """
        card, entry = self.card, self.entry
        if entry is not None:
            msg = (
                f"expected a model that is installed, got {entry.title}; press "
                "Download, or choose another"
            )
            raise CheckpointError(msg)
        if card is None:
            msg = "expected a model, none is installed; install the package again"
            raise CheckpointError(msg)
        if card.lack:
            msg = f"expected a complete model; {card.lack}"
            raise CheckpointError(msg)
        return card

    def set_models(self, cards: Sequence[ModelCard], chosen: str) -> None:
        """Offer the models that are there, then the released ones that are not."""
        self._cards = {card.model_id: card for card in cards}
        self.chooser.blockSignals(True)  # noqa: FBT003 - Qt's
        self.chooser.clear()
        for card in cards:
            lack = " · incomplete" if card.missing else ""
            kind = " · volumes" if card.volume is not None else ""
            self.chooser.addItem(card.title + kind + lack, card.model_id)
        self.chooser.insertSeparator(self.chooser.count())
        for entry in RELEASED:
            if entry.model_id not in self._cards:
                text = f"{entry.title} · download ({entry.size})"
                self.chooser.addItem(text, entry.model_id)
        self._offer_fitting()
        self.chooser.setCurrentIndex(max(self.chooser.findData(chosen), 0))
        self.chooser.blockSignals(False)  # noqa: FBT003 - Qt's
        self._on_chosen()

    def set_is_volume(self, is_volume: bool) -> None:  # noqa: FBT001 - a state
        """Offer 3D models for volumes only, and say why not for a picture."""
        self._is_volume = is_volume
        self._offer_fitting()
        self._tell_chosen()

    def _offer_fitting(self) -> None:
        """Let only what fits the image be chosen."""
        items: Any = self.chooser.model()
        for row in range(self.chooser.count()):
            card = self._cards.get(str(self.chooser.itemData(row)))
            if card is not None and card.volume is not None:
                items.item(row).setEnabled(self._is_volume)
                why = "" if self._is_volume else VOLUMES_ONLY
                self.chooser.setItemData(row, why, Qt.ItemDataRole.ToolTipRole)

    def start_download(self) -> None:
        """Fetch the chosen model in the background."""
        entry = self.entry
        if entry is not None:
            bring = partial(self._from_hub, entry.model_id)
            self._start(Task(entry.title, bring), f"Asking for {entry.title} …")

    def start_import(self, choice: ImportChoice) -> None:
        """Install a checkpoint or a bundle in the background."""
        name = choice.file.name
        bring = partial(from_file, choice)
        self._start(Task(name, bring, is_import=True), f"Reading {name} …")

    def cancel(self) -> None:
        """End what is being brought."""
        task = self._fetch.task
        if task is None:
            return
        self._fetch.cancel()
        self._say(
            "Import cancelled; nothing of it is left."
            if task.is_import
            else "Download cancelled; the next one goes on from there."
        )
        self._show_controls()

    def close_download(self) -> None:
        """End what is being brought, and wait a moment: the window is closed."""
        self._fetch.close()

    def _make(self) -> None:
        """Make the parts."""
        self.chooser = named(QComboBox(self), "Model", "Which model segments the image")
        self.chooser.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.chooser.setMinimumContentsLength(WIDTH_IN_LETTERS)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.chooser.setSizePolicy(policy)
        self.download = named(
            QPushButton("Download", self),
            "Download the model",
            "Fetch the chosen model from huggingface.co, in the background; it is "
            "installed for this user and works offline from then on",
        )
        self.stop = named(
            QPushButton("Cancel", self),
            "Cancel the download or import",
            "Stop it; the next download goes on from there",
        )
        self.bring = named(
            QPushButton("Import a checkpoint …", self),
            "Import a checkpoint",
            "Install a checkpoint of MedCLIPSeg (.pth) or a model's .zip from a file; "
            "nothing in it is run, and no connection is opened",
        )
        self.bar = named(
            QProgressBar(self), "Download", "How much of the model is there"
        )
        self.bar.setTextVisible(False)
        self.status = QLabel(self)
        self.status.setAccessibleName("Status of the download or import")
        self.status.setWordWrap(True)
        self.summary = QLabel(self)
        self.summary.setWordWrap(True)
        for label in (self.summary, self.status):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        """Put the summary below the chooser, and the download below that."""
        row = QHBoxLayout()
        for part in (self.download, self.bring, self.bar, self.stop):
            row.addWidget(part)
        row.setStretchFactor(self.bar, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for label in (self.summary, self.status):
            layout.addWidget(label)
        layout.addLayout(row)
        self._say("")
        self._show_controls()

    def _start(self, task: Task, text: str) -> None:
        """Bring a model, unless one is on its way."""
        if self._fetch.task is not None:
            return
        self._brought, self._left_out = None, ()
        self._fetch.start(task)
        self.bar.setRange(0, 0)
        self._say(text)
        self._show_controls()

    def _ask_what_to_import(self) -> None:
        """Ask for a file, and how it is imported."""
        dialog = ImportDialog(self)
        if dialog.exec() == ImportDialog.DialogCode.Accepted:
            self.start_import(dialog.choice)

    def _show_controls(self) -> None:
        """Show what there is to do."""
        is_busy = self._fetch.task is not None
        self.bring.setVisible(not is_busy)
        self.download.setVisible(self.entry is not None and not is_busy)
        self.bar.setVisible(is_busy)
        self.stop.setVisible(is_busy)

    def _say(self, text: str) -> None:
        """Show one sentence about the download or import."""
        self.status.setText(text)
        self.status.setAccessibleDescription(text)
        self.status.setVisible(bool(text))

    def _on_chosen(self) -> None:
        """Tell what is chosen."""
        self._tell_chosen()
        self._show_controls()
        self.model_changed.emit(self.card)

    def _tell_chosen(self) -> None:
        """Show what the chosen model is, and whether it fits the image."""
        card, entry = self.card, self.entry
        if card is not None:
            lack = f" Incomplete: {card.lack}." if card.lack else ""
            fits = card.volume is None or self._is_volume
            lack += "" if fits else f" {VOLUMES_ONLY}"
            self.summary.setText(card.summary + lack)
            self.summary.setToolTip(_card_tip(card))
        elif entry is not None:
            self.summary.setText(f"{entry.summary} {entry.licence}.")
            self.summary.setToolTip(entry.url)
        else:
            self.summary.setText("No model is installed.")

    def _on_progressed(self, step: StepLike) -> None:
        """Show how far it is."""
        task = self._fetch.task
        if task is None:
            return
        self._brought = step.card
        self._left_out = getattr(step, "unexpected", ())
        self.bar.setRange(0, max(step.total // MEGABYTE, 1))
        self.bar.setValue(step.done // MEGABYTE)
        doing = str(getattr(step, "what", "importing")).capitalize()
        told = f"{step.done / MEGABYTE:.0f} of {step.total / MEGABYTE:.0f} MB"
        self._say(f"{doing} {task.title}: {told}")

    def _on_ended(self, task: Task, error: Exception | None) -> None:
        """Offer the new model, or say why there is none."""
        chosen = str(self.chooser.currentData())
        if task.is_import and self._brought is not None:
            chosen = self._brought.model_id
        self.set_models(list_models(), chosen)
        if error is None:
            self._say(_left_out(self._left_out))
            show_info("The model is installed.")
        elif isinstance(error, MedVLSegError):
            sentence = str(error)
            self._say(sentence[:1].upper() + sentence[1:] + ".")
            show_error(sentence)
        else:
            what = "import" if task.is_import else "download"
            self._say(f"The {what} failed: {type(error).__name__}: {error}")
            notification_manager.receive_error(type(error), error, error.__traceback__)


def _left_out(keys: Sequence[str]) -> str:
    """Say which tensors of a checkpoint its network has no place for."""
    if not keys:
        return ""
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"Left out, as the network has none: {', '.join(keys[:NAMED])}{more}."


def _card_tip(card: ModelCard) -> str:
    """Return what the card says beside its summary."""
    knows = (
        ", ".join(concept.name for concept in card.concepts) or "what its owner says"
    )
    return (
        f"{card.title}: {card.parameters / 1e6:.1f} million parameters. "
        f"Intended use: {card.intended_use} Licence: {card.licence}. Knows: {knows}."
    )
