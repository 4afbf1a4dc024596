"""From a MedCLIPSeg run's last checkpoint to a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from napari_medvlseg.core.backbones.vocabulary import VOCABULARY, vocabulary_text
from napari_medvlseg.core.bundle import FIGURES, write_bundle
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.targets import targets_of
from napari_medvlseg.core.training.bundling import INTENDED_USE, concept, half
from napari_medvlseg.core.training.card import SOURCES, figure_lines
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
from napari_medvlseg.core.training.medclipseg.run import Learnt
from napari_medvlseg.core.training.medclipseg.start import Start, begin, word_file

if TYPE_CHECKING:
    from collections.abc import Mapping

OVERLAP = 0.25
TOWERS = {
    "unimedclip": "UniMedCLIP ViT-B/16 with BiomedBERT",
    "biomedclip": "BiomedCLIP ViT-B/16 with BiomedBERT",
    "clip": "OpenAI CLIP ViT-B/16",
    "pubmedclip": "PubMedCLIP ViT-B/32",
    "small": "a small ViT that began with random weights, and MiniLM-L6",
}
LICENCE = "Research use only, as far as the training data and the towers allow"


def bundle_name(config: MedCLIPSegTrainConfig, sets: Mapping[str, int]) -> str:
    """Return the id of a run's model: its backbone, sets and share of the data.

    Parameters
    ----------
    config : MedCLIPSegTrainConfig
    sets : mapping
        Training pictures by set.
    """
    share = [] if config.fraction == 100 else [str(config.fraction)]
    return "-".join(["medclipseg", config.backbone, *map(str.lower, sets), *share])


def is_medclipseg(run: Path) -> bool:
    """Whether a run trains MedCLIPSeg, as its ``config.json`` tells.

    Raises
    ------
    CheckpointError
        If that cannot be read.
    """
    return "backbone" in read_object(
        run / "config.json", "the settings of a run", CheckpointError
    )


def export_medclipseg(
    run: Path,
    folder: Path | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Path:
    """Write the weights of a run, in half precision, as a bundle.

    Parameters
    ----------
    run : Path
        The folder of a training run; the weights of frozen towers are read again from
        where it began.
    folder : Path, optional
        Of the bundle; its name is the model's id. By default `bundle_name` in the run.
    figures : mapping, optional
        Of `medvlseg evaluate`, for ``figures.json`` and the card.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    CheckpointError
        If the run has no checkpoint, or the towers are not there any more.
    OutputError
        If the disk refuses.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        msg = f"{path}: expected the checkpoint of a training run, found none"
        raise CheckpointError(msg)
    state = torch.load(path, map_location="cpu", weights_only=True)
    config = MedCLIPSegTrainConfig(**state["config"])
    folder = folder or run / bundle_name(config, state["trained_on"])
    start = begin(config)
    Learnt(start.network).load_state_dict(state["learnt"])
    measured = dict(figures or {"note": f"not measured; see {FIGURES}"})
    told = _config(folder.name, start, config, state)
    write_bundle(
        folder,
        weights=save(half(start.network.state_dict())),
        config=told,
        card=_card(told, measured),
        figures=measured,
        more={VOCABULARY: vocabulary_text(start.words).encode()} if start.words else {},
    )
    return folder


def _config(
    model_id: str,
    start: Start,
    config: MedCLIPSegTrainConfig,
    state: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    concepts = {
        info.class_name: concept(info)
        for dataset in state["trained_on"]
        for info in targets_of(dataset)
    }
    network = start.network
    shape = network.config
    shape = replace(shape, vision=shape.vision_shape, text=shape.text_shape)
    size = shape.vision_shape.image[0]
    learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
    settings = config.to_dict()
    for name in ("pretrained", "start", "tokenizer"):  # a path of this machine
        settings[name] = Path(settings[name]).name
    return {
        "model_id": model_id,
        "title": model_id,
        "summary": f"MedCLIPSeg on {TOWERS[config.backbone]}, trained on "
        f"{', '.join(state['trained_on'])}.",
        "licence": LICENCE,
        "intended_use": INTENDED_USE,
        "concepts": list(concepts.values()),
        "input": {"size": size, "tile": size, "overlap": OVERLAP},
        "min_foreground": 0.0,
        "doubtful_from": None,
        "parameters": learnt,
        "network": {"architecture": "medclipseg", "config": shape.to_dict()},
        "tokenizer": word_file(config),
        "training": {
            **settings,
            "steps": state["step"],
            "trained_on": state["trained_on"],
        },
    }


def _card(told: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the card in Markdown."""
    training = told["training"]
    licences = {row[0]: row[3] for row in SOURCES}
    rows = [
        f"| {name} | {count} | {licences.get(name, 'as its owner says')} |"
        for name, count in training["trained_on"].items()
    ]
    names = ", ".join(each["name"] for each in told["concepts"])
    reading = "the authors' code" if training["compatible"] else "their paper"
    return "\n".join(
        [
            f"# {told['model_id']}",
            "",
            told["summary"],
            "",
            f"**{told['intended_use']}**",
            "",
            f"Licence of the weights: {told['licence']}.",
            "",
            "## What it is",
            "",
            f"MedCLIPSeg (Koleilat et al.) as {reading} has it, on",
            f"{TOWERS[training['backbone']]}; {told['parameters'] / 1e6:.1f} million",
            f"parameters were trained in {training['steps']} steps. Pictures are",
            f"resized to {told['input']['size']} x {told['input']['size']} pixels.",
            "",
            f"It was taught: {names}.",
            "",
            "## What it was trained on",
            "",
            f"{training['fraction']} % of the training pictures of",
            "",
            "| set | pictures | source and licence |",
            "| --- | --- | --- |",
            *rows,
            "",
            "## How well it does",
            "",
            *figure_lines(figures),
            "",
            "## Limits",
            "",
            "English prompts. It was never asked for what a picture does not show, but",
            "where a set has pictures without a finding, and may draw a mask there.",
            "",
        ]
    )
