"""BiPVL-Seg's training loop: resumable, seeded, logged, in one or more processes."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from napari_medvlseg.core.class_texts import texts_digest
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.class_sheet import find_sheet, write_class_sheet
from napari_medvlseg.core.models.bipvlseg.config import NO_TEXT
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.training.bipvlseg.export import (
    CLASSES,
    bundle_folder,
    export_volume_bundle,
)
from napari_medvlseg.core.training.bipvlseg.objective import (
    Objective,
    load_text_encoder,
    tokenize,
)
from napari_medvlseg.core.training.bipvlseg.start import NETWORK, start_from
from napari_medvlseg.core.training.bipvlseg.validate import class_dsc
from napari_medvlseg.core.training.loop import run_steps
from napari_medvlseg.core.training.volumes.run import VolumeRun, save_weights
from napari_medvlseg.core.volume_sets import label_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_medvlseg.core.training.bipvlseg.config import BiPVLTrainConfig
    from napari_medvlseg.core.training.loop import Record, Recorded
    from napari_medvlseg.core.training.processes import Processes

_logger = logging.getLogger(__name__)


def train_volume_steps(
    data: Path, output: Path, config: BiPVLTrainConfig
) -> Iterator[Record]:
    """Train BiPVL-Seg, from the last checkpoint in `output` if there is one.

    Under ``torchrun`` each process takes its part of every batch.

    Parameters
    ----------
    data : Path
        A folder of labelled volumes, as `volume_cases` describes it.
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv``, ``curves.png`` and at
        the end ``model.safetensors``, ``network.json``, ``classes.json`` and a bundle.
    config : BiPVLTrainConfig

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DatasetError
        If there is nothing to train on, or labels have no class.
    CheckpointError
        If the checkpoint in `output` is of another configuration, or the text encoder
        is not there.
    """
    yield from run_steps(
        lambda processes: _Run(data, output, config, processes), config
    )


class _Run(VolumeRun):
    """The run of BiPVL-Seg, whose classes a sheet describes."""

    config: BiPVLTrainConfig

    def __init__(
        self, data: Path, output: Path, config: BiPVLTrainConfig, processes: Processes
    ) -> None:
        self.sheet = find_sheet(
            config.sheet, ambiguous=config.text_format == "ambiguous"
        )
        _check_count(config, len(self.sheet.classes))
        super().__init__(data, output, config, processes)

    def all_settings(self) -> Recorded:
        """Return the settings with a hash of the texts, which a file may change."""
        config, sheet = self.config, self.sheet
        return _WithTexts(config, texts_digest(sheet, config.text_format))

    def check_labels(self, data: Path, highest: int) -> None:
        """Refuse labels of which the sheet does not tell."""
        regions, classes = self.config.label_regions, len(self.sheet.classes)
        if highest > max((max(region) for region in regions), default=classes):
            told = ", ".join(f"{n} {name}" for n, name in label_names(data).items())
            msg = (
                f"{data}: expected the sheet {self.config.sheet} to tell of each "
                f"label, got labels up to {highest} and {classes} classes; choose "
                "another --sheet, or name the labels of its classes with --labels"
                + (f" (dataset.json tells of {told})" if told else "")
            )
            raise DatasetError(msg)

    def build(self) -> Objective:
        """Build the network, seeded."""
        config = self.config
        shape = config.network(len(self.sheet.classes), len(self.train[0].image))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            network = BiPVLSeg(shape)
        load_text_encoder(network, config)
        if config.start:
            left_out = start_from(network, config.start)
            if left_out and self.processes.first:
                _logger.warning(
                    "%s: not taken from it, since it has other classes: %s",
                    config.start,
                    ", ".join(left_out),
                )
        texts = None
        if config.text != NO_TEXT:
            texts = tokenize(self.sheet, config.text_format, config.text)
        return Objective(network, config, texts)

    def scores(self) -> dict[str, float]:
        """Return the mean DSC of each class, without noise."""
        described = Objective(self.average, self.config, self.objective.texts)
        with torch.inference_mode():
            texts = described.describe(self.device)
        return class_dsc(
            self.average,
            texts[0] if texts else None,
            self.validation,
            self.sheet.names,
            self.config,
        )

    def write_weights(self) -> None:
        """Write `WEIGHTS`, `NETWORK` and `CLASSES`, and a bundle of them."""
        frozen = self.config.text_training == "none"
        state = {
            name: value
            for name, value in self.average.state_dict().items()
            if not (frozen and name.startswith("text."))
        }
        save_weights(state, self.output)
        told = {
            "architecture": "bipvlseg",
            "config": self.average.config.to_dict(),
            "classes": [
                {"name": each.name, "description": text}
                for each, text in zip(
                    self.sheet.classes,
                    self.sheet.descriptions(self.config.text_format),
                    strict=True,
                )
            ],
            "data": self.data,
            "spacing_mm": self.config.spacing_mm,
            "window": self.config.window,
        }
        write_class_sheet(self.output / CLASSES, self.sheet, overwrite=True)
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (self.output / NETWORK).write_text(text, encoding="utf-8")
        export_volume_bundle(self.output, bundle_folder(self.output, self.config.sheet))


class _WithTexts(NamedTuple):
    """The settings of a run, and of what texts it is."""

    config: BiPVLTrainConfig
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return all for a JSON file."""
        return {**self.config.to_dict(), "texts_sha256": self.digest}


def _check_count(config: BiPVLTrainConfig, classes: int) -> None:
    """Refuse labels of another number than the sheet's classes."""
    for name, values in (("labels", config.labels), ("regions", config.label_regions)):
        if values and len(values) != classes:
            msg = (
                f"expected --{name} of each of the {classes} classes of the sheet "
                f"{config.sheet}, got {len(values)}"
            )
            raise DatasetError(msg)
