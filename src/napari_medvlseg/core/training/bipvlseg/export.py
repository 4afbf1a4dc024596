"""From a finished run of BiPVL-Seg to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from napari_medvlseg.core.backbones.minilm import (
    HUB_ID,
    PACKAGE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
)
from napari_medvlseg.core.backbones.text_encoders import (
    TEXT_ENCODERS,
    find_text_folder,
)
from napari_medvlseg.core.bundle import write_bundle
from napari_medvlseg.core.errors import CheckpointError, UnsupportedFormatError
from napari_medvlseg.core.io.class_sheet import read_class_sheet
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.build_volumes import TOKENIZER_FILES
from napari_medvlseg.core.palette import class_colors
from napari_medvlseg.core.training.bipvlseg.card import card_markdown, modality_of
from napari_medvlseg.core.training.bipvlseg.config import regions_of
from napari_medvlseg.core.training.bipvlseg.start import NETWORK, WEIGHTS
from napari_medvlseg.core.training.bundling import INTENDED_USE, half
from napari_medvlseg.core.volume_spec import SIDES, VolumeSpec, world_letters

if TYPE_CHECKING:
    from collections.abc import Mapping


CLASSES = "classes.json"
SETTINGS = "config.json"
OVERLAP = 0.4
"""Of windows: two of 160 voxels span the 256 of a short-axis heart, three with 0.5."""
LICENCE = "Research use only (LICENSE-WEIGHTS)"


def bundle_folder(run: Path, sheet: str) -> Path:
    """Return where the bundle of a run lies: it is called like the sheet."""
    return run / Path(sheet).stem


def export_volume_bundle(
    run: Path, folder: Path, figures: Mapping[str, Any] | None = None
) -> None:
    """Write a finished run, in half precision, as a bundle.

    Parameters
    ----------
    run : Path
        What `train_volume_steps` left at its end.
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
        network = BiPVLConfig.from_dict(told["config"])
        state = load_file(run / WEIGHTS)
        spec = _spec(run, network, settings)
        text = str(settings["text"])
    except (
        *(OSError, SafetensorError, KeyError, TypeError, ValueError),
        UnsupportedFormatError,
    ) as error:
        msg = f"{run}: expected a finished run of BiPVL-Seg, cannot read it ({error})"
        raise CheckpointError(msg) from error
    measured = dict(figures or {"note": "not measured"})
    config = {
        **first_words(folder.name, spec),
        "volume": spec.to_dict(),
        "min_foreground": 0.0,
        "parameters": sum(x.numel() for x in state.values()),
        "network": {"architecture": "bipvlseg", "config": network.to_dict()},
        "text_encoder": text_encoder_facts(text),
        "training": _training(settings, told),
    }
    write_bundle(
        folder,
        weights=save(half(state)),
        config=config,
        card=card_markdown(config, measured),
        figures=measured,
        more=_tokenizer(text),
    )


def _training(settings: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return how it was trained, without the paths of whoever did it."""
    names = {key: Path(str(settings.get(key, ""))).name for key in ("start", "sheet")}
    return {**settings, **names, "data": told.get("data", {})}


def _spec(run: Path, network: BiPVLConfig, settings: Mapping[str, Any]) -> VolumeSpec:
    """Return what the bundle says of volumes and classes."""
    sheet = read_class_sheet(run / CLASSES)
    return VolumeSpec(
        sheet=sheet,
        colors=class_colors(len(sheet.classes)),
        exclusive=not network.overlapping,
        text_format=settings["text_format"],
        patch=network.patch,
        overlap=OVERLAP,
        channels=network.channels,
        regions=_labels(settings),
        **preparation(settings),
    )


def preparation(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run prepared its volumes, as fields of `VolumeSpec`.

    Parameters
    ----------
    told : mapping
        The fields of `VolumeTrainConfig`; its spacing is in the order of the axes.
    """
    orientation = str(told.get("orientation", "RAS"))
    resized, min_max = bool(told.get("resized")), bool(told.get("min_max"))
    spacing, window = told["spacing_mm"], told["window"]
    along = dict(zip(orientation, spacing, strict=False))
    world = tuple(
        float(along[axis]) for pair in SIDES for axis in pair if axis in along
    )
    return {
        "spacing_mm": world if any(spacing) and not resized else None,
        "window": (float(window[0]), float(window[1]))
        if any(window) and not min_max
        else None,
        "orientation": orientation,
        "resized": resized,
        "min_max": min_max,
        "flips": str(told.get("flipped_draws", "")),
        "learnt_flips": world_letters(told["flip_axes"], orientation)
        if "flip_axes" in told
        else None,
    }


def _labels(settings: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Return the labels of each class, where they are not 1, 2 and so on."""
    values = tuple((int(value),) for value in settings.get("labels", ()))
    return values or regions_of(str(settings.get("regions", "")))


def first_words(model_id: str, spec: VolumeSpec) -> dict[str, Any]:
    """Return what a user reads first."""
    names = ", ".join(spec.names)
    titles = [each.title for each in spec.sheet.classes]
    kinds = {spec.picture or modality_of(title) for title in titles}
    return {
        "model_id": model_id,
        "title": model_id,
        "summary": f"Segments whole volumes ({', '.join(sorted(kinds))}): {names}.",
        "licence": LICENCE,
        "intended_use": INTENDED_USE,
        "concepts": [
            {
                "name": each.name,
                "synonyms": [],
                "modality": spec.picture or modality_of(each.title),
                "example": f"{each.name} in the {spec.picture}"
                if spec.picture
                else each.name,
                "tiling": "whole",
            }
            for each in spec.sheet.classes
        ],
    }


def text_encoder_facts(name: str) -> dict[str, Any]:
    """Return what the bundle says of its text encoder."""
    if name not in TEXT_ENCODERS:
        return {}
    if name != "minilm":
        return {"name": name, "hub_id": TEXT_ENCODERS[name].hub_id}
    return {
        "name": name,
        "hub_id": HUB_ID,
        "package": PACKAGE,
        "weights_sha256": WEIGHTS_SHA256,
        "tokenizer_sha256": TOKENIZER_SHA256,
    }


def _tokenizer(name: str) -> dict[str, bytes]:
    """Return the tokenizer's file, where no package carries it."""
    if name not in TEXT_ENCODERS or name == "minilm":
        return {}
    folder = find_text_folder(name)
    there = [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    return {file: (folder / file).read_bytes() for file in there[:1]}
