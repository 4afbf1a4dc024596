"""From a run's last checkpoint to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save
from torch.nn import functional

from napari_medvlseg.core.backbones.minilm import (
    HUB_ID,
    PACKAGE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
    MiniLM,
    find_minilm,
)
from napari_medvlseg.core.bundle import CONFIG, FIGURES, model_card, write_bundle
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.models.build import build_network
from napari_medvlseg.core.models.compact import Compact, CompactConfig
from napari_medvlseg.core.name_book import NAMES, NameBook
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.training.bundling import INTENDED_USE, concept, half
from napari_medvlseg.core.training.card import SOURCES, card_markdown
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.samples import INPUT_SIZE, TILED
from napari_medvlseg.core.training.vocabulary import (
    SYNONYMS,
    clear_names,
    other_names,
    vague_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_medvlseg.core.bundle import ModelCard

MIN_FOREGROUND = 0.001
"""Share of a picture. One of 5,000 references of the training and validation cases is
smaller; of the specks in pictures without anything to find, most are."""
OWN_MIN_FOREGROUND = {"breast tumor": 0.0031, "brain tumor": 0.0006}
"""Where other sizes are known: of 582 breast lesions the smallest cover 0.0028 and
0.0032, and specks in healthy breasts are common; of 1,250 brain tumours 0.0012."""
DOUBTFUL_FROM = 0.7
"""Nats."""
TILE_OVERLAP = 0.25
NAMES_AT_ONCE = 128
SUMMARY = (
    "Finds polyps, skin lesions, breast and brain tumours, lungs, retinal vessels, "
    "cell nuclei and white blood cells in 2D pictures, from English prompts."
)
LICENCE = "Research use only (LICENSE-WEIGHTS)"


class Blend(NamedTuple):
    """The weights of a model to average a run's with.

    Weights between those that a run started from and those that it came to often do
    better on other scanners than either (Wortsman et al., CVPR 2022).
    """

    bundle: str
    """A model id or a bundle's folder."""
    share: float
    """Of the run's weights, 0 to 1."""


def export_bundle(
    run: Path,
    folder: Path,
    figures: Mapping[str, Any] | None = None,
    blend: Blend | None = None,
    noise: Mapping[str, tuple[float, ...]] | None = None,
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
    blend : Blend, optional
        What to average the run's weights with.
    noise : mapping, optional
        ``pixels_noise`` or ``words_noise`` of `CompactConfig`, where the bundle's are
        to be others than the run's.

    Raises
    ------
    CheckpointError
        If the run has no checkpoint, or cannot be blended with that bundle, or a
        factor of the noise is below 0.
    OutputError
        If the disk refuses.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        msg = f"{path}: expected the checkpoint of a training run, found none"
        raise CheckpointError(msg)
    state = torch.load(path, map_location="cpu", weights_only=True)
    settings = state["config"]
    known = state.get("network") or {  # runs of before it was saved
        name: settings[name] for name in ("noise_form", "dropout")
    }
    network = _network({**known, **(noise or {})})
    told: dict[str, Any] = {**settings, "steps": state["step"]}
    if blend is None:
        network.load_state_dict(state["average"])
    else:
        other = model_card(blend.bundle)
        network.load_state_dict(_blended(state["average"], other, blend.share))
        told["blend"] = {
            "weights_sha256": other.sha256,
            "share": blend.share,
            "training": _training_of(other),
        }
    measured = dict(figures or {"note": f"not measured; see {FIGURES}"})
    config = _config(folder.name, network, told)
    write_bundle(
        folder,
        weights=save(half(network.state_dict())),
        config=config,
        card=card_markdown(config, measured),
        figures=measured,
        more={NAMES: name_book().to_bytes()},
    )


def _network(config: Mapping[str, Any]) -> Compact:
    """Return the network of a configuration, without its weights."""
    try:
        return Compact(CompactConfig(**config))
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def name_book() -> NameBook:
    """Return the vectors of every name that the classes have, and of other things."""
    pairs = [
        (concept["name"], name)
        for concept in _concepts()
        for name in clear_names(concept["name"])
    ]
    names = [*(name for _, name in pairs), *other_names()]
    text = MiniLM(find_minilm())
    with torch.inference_mode():
        means = [
            words.mean(dim=0)
            for start in range(0, len(names), NAMES_AT_ONCE)
            for words in text.encode_many(names[start : start + NAMES_AT_ONCE])
        ]
    return NameBook(
        tuple(class_name for class_name, _ in pairs),
        vague_words(),
        functional.normalize(torch.stack(means), dim=1).half().numpy(),
    )


def _blended(
    state: Mapping[str, Tensor], other: ModelCard, share: float
) -> dict[str, Tensor]:
    """Return the average of a run's weights and a bundle's."""
    if not 0 <= share <= 1:
        msg = f"expected a share of the run's weights from 0 to 1, got {share}"
        raise CheckpointError(msg)
    theirs = build_network(other).state_dict()
    if {k: v.shape for k, v in theirs.items()} != {
        k: v.shape for k, v in state.items()
    }:
        msg = f"{other.path}: expected the run's own network, got another; "
        raise CheckpointError(msg + "blend it with the model that it started from")
    return {
        name: torch.lerp(theirs[name], value, share)
        if value.is_floating_point()
        else value
        for name, value in state.items()
    }


def _training_of(card: ModelCard) -> Any:
    """Return how a bundle was trained, its own blends included."""
    path = card.path / CONFIG
    return read_object(path, "a bundle's settings", CheckpointError).get("training")


def _config(
    model_id: str, network: Compact, training: Mapping[str, Any]
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
            "size": INPUT_SIZE,
            "tile": INPUT_SIZE,
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
        "trained_on": [name for name, *_ in SOURCES],
        "training": dict(training),
    }


def _concepts() -> list[dict[str, Any]]:
    """Return one entry for each class that the training data show."""
    concepts: dict[str, dict[str, Any]] = {}
    for dataset, targets in TARGETS.items():
        for info in targets:
            concepts[info.class_name] = concept(
                info,
                SYNONYMS.get(info.class_name, ()),
                tiling="tile" if dataset in TILED else "whole",
                min_foreground=OWN_MIN_FOREGROUND.get(info.class_name),
            )
    return list(concepts.values())
