"""3D models small enough for tests: one that is algebra, and a BiPVL-Seg."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_medvlseg.core.backbones.bert import BertShape
from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS
from napari_medvlseg.core.bundle import NO_PICTURES, ModelCard
from napari_medvlseg.core.class_texts import ClassSheet, ClassText
from napari_medvlseg.core.io.class_sheet import find_sheet, write_class_sheet
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.training.bipvlseg.config import PRESETS_3D
from napari_medvlseg.core.training.bipvlseg.export import export_volume_bundle
from napari_medvlseg.core.volume_predictor import VolumePredictor
from napari_medvlseg.core.volume_spec import VolumeSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource

SPEC = VolumeSpec(
    sheet=ClassSheet(
        (ClassText(title="Bright blob in an MR image"), ClassText(title="Dark blob"))
    ),
    colors=("#ff0000", "#00ff00"),
    exclusive=True,
    text_format="names",
    patch=(8, 8, 8),
    overlap=0.5,
    spacing_mm=None,
    window=(-1.0, 1.0),
)
"""Classes by grey value: above and below the middle of the window."""


class GreyNetwork:
    """Logits from each voxel's own grey value, and one number of noise a draw."""

    width = 1

    def __init__(self, *, exclusive: bool = True, noise: float = 1.0) -> None:
        self.exclusive = exclusive
        self.noise = noise
        self.texts: Sequence[str] = ()

    @property
    def samples(self) -> bool:
        """Return whether two draws differ."""
        return self.noise > 0

    def to(self, _device: torch.device) -> GreyNetwork:
        """Stay where it is."""
        return self

    def read(self, texts: Sequence[str]) -> Sequence[str]:
        """Keep the texts, to be asked for them."""
        self.texts = texts
        return texts

    def look(self, window: Tensor, _words: Any) -> Tensor:
        """Return the window."""
        return window

    def draw(self, seen: Tensor, draws: int, noise: NoiseSource) -> Tensor:
        """Return logits (S, C, i, j, k) that rise and fall with the grey value."""
        steep = 8 * (seen - 0.5).expand(draws, -1, -1, -1, -1)
        shift = self.noise * noise((draws, 1, 1, 1)).reshape(-1, 1, 1, 1, 1)
        classes = [steep + shift, -steep + shift]
        if not self.exclusive:  # a channel a question
            classes = [classes["dark" in text.lower()] for text in self.texts]
        first = [torch.full_like(steep, 1.0)] if self.exclusive else []
        return torch.cat([*first, *classes], dim=1)


def grey_predictor(
    network: GreyNetwork | None = None, **changes: Any
) -> VolumePredictor:
    """Return a predictor of `GreyNetwork`, with some fields of `SPEC` changed."""
    network = network or GreyNetwork()
    card = ModelCard(
        model_id="grey",
        title="Grey",
        summary="",
        licence="",
        intended_use="",
        concepts=(),
        input=NO_PICTURES,
        min_foreground=0.0,
        doubtful_from=None,
        parameters=0,
        network={},
        figures={},
        sha256="0",
        path=Path("grey"),
        volume=replace(
            SPEC,
            **{
                "exclusive": network.exclusive,
                "asks": not network.exclusive,
                **changes,
            },
        ),
    )
    return VolumePredictor(network, card, device="cpu", precision="float32")


TINY_3D = replace(
    PRESETS_3D["hippocampus-3d"],
    widths=(4, 4, 4, 8, 8),
    patch=(32, 16, 16),
    heads=2,
    key_side=2,
    flipped_draws="",
)


_SMALL_TEXT = replace(
    TEXT_ENCODERS["minilm"],
    shape=BertShape(dim=384, layers=4, heads=12, hidden_dim=8, vocabulary=9),
    stages=(1, 1, 1, 1),
)
"""As wide as MiniLM, whose own weights no run repeats."""


def write_tiny_run(run: Path, **changes: Any) -> Path:
    """Write what a finished run of BiPVL-Seg leaves, of random weights.

    Beside settings, `changes` may tell the `channels` of the image.
    """
    channels = changes.pop("channels", 1)
    settings = replace(TINY_3D, **changes)
    run.mkdir(parents=True, exist_ok=True)
    sheet = find_sheet(settings.sheet)
    config = settings.network(len(sheet.classes), channels)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = BiPVLSeg(config, _SMALL_TEXT)
    state = {n: x for n, x in network.state_dict().items() if not n.startswith("text.")}
    save_file(state, run / "model.safetensors")
    told = {"architecture": "bipvlseg", "config": config.to_dict()}
    (run / "network.json").write_text(json.dumps(told), encoding="utf-8")
    settings_text = json.dumps(settings.to_dict())
    (run / "config.json").write_text(settings_text, encoding="utf-8")
    write_class_sheet(run / "classes.json", sheet, overwrite=True)
    return run


def write_tiny_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle of BiPVL-Seg with random weights; its name is the model's id."""
    run = write_tiny_run(folder.parent / f"{folder.name}-run", **changes)
    export_volume_bundle(run, folder)
    return folder
