"""From a run's last checkpoint to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from napari_medvlseg.core.backbones.minilm import (
    HUB_ID,
    PACKAGE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
)
from napari_medvlseg.core.bundle import FIGURES, write_bundle
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.compact import Compact, CompactConfig
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.training.card import card_markdown
from napari_medvlseg.core.training.run import CHECKPOINT
from napari_medvlseg.core.training.samples import STORED_SIZE, TILED
from napari_medvlseg.core.training.wording import SYNONYMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

MIN_FOREGROUND = 0.0003
"""Share of a picture: 20 pixels of 256 x 256."""
DOUBTFUL_FROM = 0.5
"""Nats."""
TILE_OVERLAP = 0.25
SUMMARY = (
    "Finds polyps, skin lesions, breast and brain tumours, lungs, retinal vessels, "
    "cell nuclei and white blood cells in 2D pictures, from English prompts."
)
INTENDED_USE = "Research use only; not a medical device, not for diagnosis."
LICENCE = "Research use only (LICENSE-WEIGHTS)"
EXAMPLES = {
    "breast tumor": "breast tumor in the breast ultrasound image",
    "polyp": "one round polyp in the colonoscopy image",
    "skin lesion": "skin lesion in the dermatoscopy image",
    "brain tumor": "brain tumor in the contrast-enhanced brain MRI image",
    "lungs": "lungs in the chest X-ray image",
    "left lung": "left lung in the chest X-ray image",
    "right lung": "right lung in the chest X-ray image",
    "retinal vessels": "retinal vessels in the fundus photograph",
    "cell nuclei": "cell nuclei in the microscopy image",
    "white blood cell nucleus": "white blood cell nucleus in the blood smear image",
    "white blood cell cytoplasm": "white blood cell cytoplasm in the blood smear image",
}
"""A prompt that works for each class."""


def export_bundle(
    run: Path, folder: Path, figures: Mapping[str, Any] | None = None
) -> None:
    """Write the averaged weights of a run, in half precision, as a bundle.

    Parameters
    ----------
    run : Path
        The folder of a training run.
    folder : Path
        Of the bundle; its name is the model's id.
    figures : mapping, optional
        Of `medvlseg evaluate`, for ``figures.json`` and the card.

    Raises
    ------
    CheckpointError
        If the run has no checkpoint.
    OutputError
        If the disk refuses.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        msg = f"{path}: expected the checkpoint of a training run, found none"
        raise CheckpointError(msg)
    state = torch.load(path, map_location="cpu", weights_only=True)
    settings = state["config"]
    network = Compact(
        CompactConfig(noise_form=settings["noise_form"], dropout=settings["dropout"])
    )
    network.load_state_dict(state["average"])
    measured = dict(figures or {"note": f"not measured; see {FIGURES}"})
    config = _config(folder.name, network, state)
    write_bundle(
        folder,
        weights=save(_half(network.state_dict())),
        config=config,
        card=card_markdown(config, measured),
        figures=measured,
    )


def _config(
    model_id: str, network: Compact, state: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    return {
        "model_id": model_id,
        "title": "Compact",
        "summary": SUMMARY,
        "licence": LICENCE,
        "intended_use": INTENDED_USE,
        "concepts": _concepts(),
        "input": {
            "size": STORED_SIZE,
            "tile": STORED_SIZE,
            "overlap": TILE_OVERLAP,
            "mirror": True,
        },
        "min_foreground": MIN_FOREGROUND,
        "doubtful_from": DOUBTFUL_FROM,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "network": {"architecture": "compact", "config": network.config.to_dict()},
        "text_encoder": {
            "hub_id": HUB_ID,
            "package": PACKAGE,
            "weights_sha256": WEIGHTS_SHA256,
            "tokenizer_sha256": TOKENIZER_SHA256,
        },
        "training": {**state["config"], "steps": state["step"]},
    }


def _concepts() -> list[dict[str, Any]]:
    """Return one entry for each class that the training data show."""
    concepts: dict[str, dict[str, Any]] = {}
    for dataset, targets in TARGETS.items():
        for info in targets:
            concepts[info.class_name] = {
                "name": info.class_name,
                "synonyms": list(SYNONYMS.get(info.class_name, ())),
                "modality": info.modality,
                "example": EXAMPLES[info.class_name],
                "tiling": "tile" if dataset in TILED else "whole",
            }
    return list(concepts.values())


def _half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return half precision; counters stay."""
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
