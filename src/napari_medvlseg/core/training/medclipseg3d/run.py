"""MedCLIPSeg's training on volumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medvlseg.core.backbones.m3dclip import HUB_ID, read_towers
from napari_medvlseg.core.errors import CheckpointError, DatasetError
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg
from napari_medvlseg.core.models.medclipseg.windows import MedCLIPSegWindows
from napari_medvlseg.core.models.medclipseg.words import (
    BERT,
    bert_tokenizer,
    minilm_weights,
)
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.training.bipvlseg.data import to_regions
from napari_medvlseg.core.training.bipvlseg.start import NETWORK
from napari_medvlseg.core.training.loop import run_steps
from napari_medvlseg.core.training.medclipseg.run import Learnt
from napari_medvlseg.core.training.medclipseg3d.config import MINILM
from napari_medvlseg.core.training.medclipseg3d.export import (
    BUNDLE,
    export_medclip_volume_bundle,
)
from napari_medvlseg.core.training.medclipseg3d.objective import Objective
from napari_medvlseg.core.training.volumes.run import VolumeRun, save_weights
from napari_medvlseg.core.training.volumes.validate import volume_logits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from napari_medvlseg.core.training.bipvlseg.data import Volume
    from napari_medvlseg.core.training.loop import Part, Record
    from napari_medvlseg.core.training.medclipseg3d.config import MedCLIPVolumeConfig

TOWERS = ("vision_model.", "text_model.")


def train_medclip_volume_steps(
    data: Path, output: Path, config: MedCLIPVolumeConfig
) -> Iterator[Record]:
    """Train MedCLIPSeg on volumes, from the last checkpoint in `output` if any.

    Under ``torchrun`` each process takes its part of every batch.

    Parameters
    ----------
    data : Path
        A folder of labelled volumes, as `volume_cases` describes it.
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv``, ``curves.png`` and at
        the end ``model.safetensors``, ``network.json`` and a bundle.
    config : MedCLIPVolumeConfig

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DatasetError
        If there is nothing to train on, labels have no name, or images have several
        channels.
    CheckpointError
        If the checkpoint in `output` is of another configuration, or the towers are
        not there.
    """
    yield from run_steps(
        lambda processes: _Run(data, output, config, processes), config
    )


class _Run(VolumeRun):
    """The run of MedCLIPSeg: structures are asked for by their names."""

    config: MedCLIPVolumeConfig

    def check_labels(self, data: Path, highest: int) -> None:
        """Refuse labels without a name, and images of several channels."""
        channels = len(self.train[0].image)
        known = max(max(each.labels) for each in self.config.asked)
        if highest > known or channels != 1:
            msg = (
                f"{data}: expected one channel and labels up to {known}, as "
                f"--structures names them, got {channels} and labels up to {highest}; "
                "name them all: --structures NAME=LABEL+LABEL,..."
            )
            raise DatasetError(msg)

    def build(self) -> Objective:
        """Build the network, seeded, and give it the towers that there are."""
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            network = MedCLIPSeg(config.network())
        if config.text == MINILM:
            network.text_model.transformer.load_state_dict(minilm_weights())
        elif not config.towers:
            msg = (
                f"expected the weights of {HUB_ID} for this preset, got none; give "
                "--towers FILE, or use --preset medclipseg-3d, which needs none"
            )
            raise CheckpointError(msg)
        if config.towers:
            load_towers(network, Path(config.towers))
        for name, parameter in network.named_parameters():
            frozen = name.startswith(BERT) or (
                name.startswith(TOWERS) and not config.train_encoders
            )
            parameter.requires_grad_(parameter.requires_grad and not frozen)
        return Objective(network, config, self.processes)

    def scores(self) -> dict[str, float]:
        """Return the mean DSC of each structure, without noise."""
        config = self.config
        windows = MedCLIPSegWindows(self.average, bert_tokenizer(self.average.config))
        windows.eval()
        with torch.inference_mode():
            asked = windows.read([each.name for each in config.asked])

        def ask(window: Tensor) -> Tensor:
            return windows.draw(windows.look(window, asked), 1, zero_noise)

        scores = [
            self._of_volume(volume_logits(ask, volume, config, self.device), volume)
            for volume in self.validation
        ]
        return {
            each.name: sum(score[index] for score in scores) / len(scores)
            for index, each in enumerate(config.asked)
        }

    def _of_volume(self, logits: Tensor, volume: Volume) -> list[float]:
        """Return the DSC of each structure in a volume."""
        regions = [each.labels for each in self.config.asked]
        there = to_regions(volume.label.float(), regions) > 0
        return [
            dice_similarity_coefficient(mask.numpy(), reference.numpy())
            for mask, reference in zip(logits > 0, there, strict=True)
        ]

    def parts(self) -> Mapping[str, Part]:
        """Return what a checkpoint holds: BERT, six times the rest, is left out."""
        return {
            "objective": Learnt(self.objective.network),
            "average": Learnt(self.average),
            "optimizer": self.optimizer,
        }

    def write_weights(self) -> None:
        """Write the weights, but for MiniLM's, what they are for, and a bundle."""
        config = self.config
        state = {
            name: value
            for name, value in self.average.state_dict().items()
            if not (config.text == MINILM and name.startswith(BERT))
        }
        save_weights(state, self.output)
        told = {
            "architecture": "medclipseg",
            "config": self.average.config.to_dict(),
            "text": config.text,
            "prompts": [
                {"name": each.name, "labels": each.labels} for each in config.asked
            ],
            **{
                name: getattr(config, name)
                for name in (
                    "orientation",
                    "resized",
                    "min_max",
                    "spacing_mm",
                    "flipped_draws",
                )
            },
            "window": config.window,
        }
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (self.output / NETWORK).write_text(text, encoding="utf-8")
        export_medclip_volume_bundle(self.output, self.output / BUNDLE)


def load_towers(network: MedCLIPSeg, path: Path) -> tuple[str, ...]:
    """Give a 3D network M3D-CLIP's published towers, and return what it left out.

    Raises
    ------
    CheckpointError
        If the file is not M3D-CLIP's, or its sizes are others.
    """
    wanted = {
        name: value.shape
        for name, value in network.state_dict().items()
        if name.startswith((*TOWERS, "logit_scale"))
    }
    towers = read_towers(path, wanted)
    network.load_state_dict(towers.state, strict=False)
    return towers.left_out
