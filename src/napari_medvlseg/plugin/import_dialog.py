"""Asks which checkpoint to import, under which name, with which tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.core.backbones.vocabulary import HUB_IDS
from napari_medvlseg.plugin.controls import add_row, named
from napari_medvlseg.plugin.model_fetch import ImportChoice

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = "Checkpoints and bundles (*.pth *.pt *.zip);;All files (*)"
WIDTH = 480
TOLD = (
    "A checkpoint that the authors' code wrote (.pth), on UniMedCLIP, BiomedCLIP, CLIP "
    "or PubMedCLIP, or a model that medvlseg exported or trained (.zip, or the path of "
    "its folder). Nothing in it is run."
)
WORDS_TOLD = (
    f"The folder with vocab.txt or tokenizer.json of {HUB_IDS[0]}, which checkpoints "
    "on UniMedCLIP and BiomedCLIP need and do not hold. Empty: the Hugging Face cache; "
    "if it is not there either, the model says afterwards what to copy where"
)


class ImportDialog(QDialog):
    """A file, and the rarer choices; `choice` tells what was chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Import a checkpoint")
        self.setMinimumWidth(WIDTH)
        self.file = named(
            QLineEdit(self),
            "File",
            "The checkpoint, a model's .zip, or the path of a model's folder",
        )
        self.name = named(
            QLineEdit(self),
            "Name",
            "What the model is called from then on: letters, digits, '.', '_' and '-'",
        )
        self.name.setPlaceholderText("as the file tells")
        self.tokenizer = named(QLineEdit(self), "Tokenizer folder", WORDS_TOLD)
        self.tokenizer.setPlaceholderText("the Hugging Face cache")
        self.replace = named(
            QCheckBox("Replace an installed model of that name", self),
            "Replace",
            "Off: a name that is taken is refused",
        )
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel,
            self,
        )
        self._lay_out()
        self.file.textChanged.connect(self._on_typed)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._on_typed("")

    @property
    def choice(self) -> ImportChoice:
        """What was chosen."""
        tokenizer = self.tokenizer.text().strip()
        return ImportChoice(
            file=Path(self.file.text().strip()).expanduser(),
            name=self.name.text().strip() or None,
            tokenizer=Path(tokenizer).expanduser() if tokenizer else None,
            replace=self.replace.isChecked(),
        )

    def _lay_out(self) -> None:
        """Stack the rows."""
        told = QLabel(TOLD, self)
        told.setWordWrap(True)
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        rows = (
            ("&File", self.file, self._ask_for_file),
            ("&Tokenizer", self.tokenizer, self._ask_for_tokenizer),
        )
        for text, box, ask in rows:
            label = add_row(grid, text, self._with_button(box, ask))
            label.setBuddy(box)
        add_row(grid, "&Name", self.name)
        layout = QVBoxLayout(self)
        layout.addWidget(told)
        layout.addLayout(grid)
        layout.addWidget(self.replace)
        layout.addWidget(self.buttons)

    def _with_button(self, box: QLineEdit, ask: Callable[[], None]) -> QWidget:
        """Return a box for a path with a button that asks for one."""
        button = named(
            QPushButton("Browse …", self),
            f"Browse: {box.accessibleName()}",
            "Choose in a dialog",
        )
        button.setAutoDefault(False)  # Enter imports
        button.clicked.connect(ask)
        holder = QWidget(self)
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(box, 1)
        row.addWidget(button)
        return holder

    def _ask_for_file(self) -> None:
        """Ask for the file."""
        before = self.file.text() or str(Path.home())
        title = "Which checkpoint?"
        chosen, _ = QFileDialog.getOpenFileName(self, title, before, FILES)
        if chosen:
            self.file.setText(chosen)

    def _ask_for_tokenizer(self) -> None:
        """Ask for the folder of the word pieces."""
        before = self.tokenizer.text() or str(Path(self.file.text()).parent)
        title = "Which folder holds vocab.txt or tokenizer.json?"
        chosen = QFileDialog.getExistingDirectory(self, title, before)
        if chosen:
            self.tokenizer.setText(chosen)

    def _on_typed(self, text: str) -> None:
        """Let only a file be imported."""
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            ok.setText("Import")
            ok.setEnabled(bool(text.strip()))
