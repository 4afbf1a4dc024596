"""From a finished run of MedCLIPSeg on volumes to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from napari_medvlseg.core.bundle import write_bundle
from napari_medvlseg.core.card_lines import card_opening
from napari_medvlseg.core.class_texts import ClassSheet, ClassText
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.models.medclipseg import MedCLIPSegConfig
from napari_medvlseg.core.palette import class_colors
from napari_medvlseg.core.training.bipvlseg.card import figure_lines
from napari_medvlseg.core.training.bipvlseg.export import (
    OVERLAP,
    SETTINGS,
    first_words,
    preparation,
    text_encoder_facts,
)
from napari_medvlseg.core.training.bipvlseg.start import NETWORK, WEIGHTS
from napari_medvlseg.core.training.bundling import half
from napari_medvlseg.core.volume_spec import VolumeSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BUNDLE = "medclipseg-3d"
"""The bundle's folder in that of the run."""


def export_medclip_volume_bundle(
    run: Path, folder: Path, figures: Mapping[str, Any] | None = None
) -> None:
    """Write a finished run, in half precision, as a bundle.

    Parameters
    ----------
    run : Path
        What `train_medclip_volume_steps` left at its end.
    folder : Path
        Of the bundle; its name is the model's id.
    figures : mapping, optional
        Of `medvlseg evaluate`, for ``figures.json`` and the card.

    Raises
    ------
    CheckpointError
        If the run is not finished, or damaged.
    OutputError
        If the disk refuses.
    """
    told = read_object(run / NETWORK, "the network of a finished run", CheckpointError)
    settings = read_object(run / SETTINGS, "the settings of a run", CheckpointError)
    try:
        network = MedCLIPSegConfig.from_dict(told["config"])
        state = load_file(run / WEIGHTS)
        spec = _spec(network, {**settings, **told}, str(settings.get("picture", "")))
        text = text_encoder_facts(told["text"])
    except (
        *(OSError, SafetensorError),
        *(KeyError, TypeError, ValueError, IndexError),
    ) as error:
        msg = f"{run}: expected a finished run of MedCLIPSeg, cannot read it ({error})"
        raise CheckpointError(msg) from error
    measured = dict(figures or {"note": "not measured"})
    settings["towers"] = str(settings.get("towers", "")).rpartition("/")[-1]
    config = {
        **first_words(folder.name, spec),
        "volume": spec.to_dict(),
        "min_foreground": 0.0,
        "parameters": sum(x.numel() for x in state.values()),
        "network": {"architecture": "medclipseg", "config": network.to_dict()},
        "text_encoder": text,
        "training": settings,
    }
    write_bundle(
        folder,
        weights=save(half(state)),
        config=config,
        card=_card(config, measured),
        figures=measured,
    )


def _spec(
    network: MedCLIPSegConfig, told: Mapping[str, Any], picture: str
) -> VolumeSpec:
    """Return what the bundle says of volumes and structures."""
    prompts = told["prompts"]
    one, two, three = network.vision_shape.image
    return VolumeSpec(
        sheet=ClassSheet(tuple(ClassText(title=each["name"]) for each in prompts)),
        colors=class_colors(len(prompts)),
        exclusive=False,
        asks=True,
        text_format="names",
        patch=(one, two, three),
        overlap=OVERLAP,
        picture=picture,
        **preparation(told),
        regions=tuple(tuple(each["labels"]) for each in prompts),
    )


def _card(config: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the card in Markdown."""
    training = config["training"]
    volume = config["volume"]
    sides = " x ".join(str(side) for side in volume["patch"])
    taken = (
        f"The whole volume is resized to {sides} voxels"
        if volume["resized"]
        else f"Windows of {sides} voxels"
    )
    start = "M3D-CLIP's" if training["towers"] else "random"
    return "\n".join(
        [
            *card_opening(config),
            f"MedCLIPSeg on volumes; its image tower began with {start} weights.",
            f"{config['parameters'] / 1e6:.1f} million parameters in the bundle, which",
            f"reads prompts with {training['text']}.",
            f"{taken}, axes to {volume['orientation']}.",
            "Each structure is a question of its own; a prompt is its name, or a",
            "sentence with its name.",
            "",
            "## What it was trained on",
            "",
            f"Volumes of whoever trained it ({training['picture']}), with the labels",
            f"{training['structures']}; {training['epochs']} epochs.",
            "",
            "## How well it does",
            "",
            *figure_lines(figures),
            "",
        ]
    )
