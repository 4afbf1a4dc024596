"""The model card: what a user must know before trusting a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.card_lines import card_opening

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = (
    ("BUSI", "breast ultrasound", "624", "Al-Dhabyani 2020; research use"),
    ("Kvasir", "colonoscopy", "798", "Kvasir-SEG; research and education"),
    ("ISIC", "dermatoscopy", "672", "ISIC 2017, CC0"),
    ("BrainTumorT1C", "contrast-enhanced T1 MRI", "1100", "Cheng 2017, CC BY 4.0"),
    ("ChestXrayLungs", "chest X-ray", "450", "Montgomery and Shenzhen sets, NLM"),
    ("RetinaVessels", "fundus photographs", "18", "CHASE_DB1, CC BY 4.0"),
    ("Nuclei", "microscopy", "500", "DSB 2018 (BBBC038), CC0"),
    ("WhiteBloodCells", "stained blood cells", "260", "research use"),
)
"""Set, kind of picture, training pictures, source and licence."""
WORDINGS = (
    *("class_name", "underdescriptive", "missing_location", "held_out", "mismatched"),
)
"""Prompt designs beside which `original` stands."""


def card_markdown(config: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the card of the compact model in Markdown.

    Parameters
    ----------
    config : mapping
        ``config.json`` of the bundle.
    figures : mapping
        ``figures.json``: ``sets`` as `medvlseg evaluate --json` writes them.
    """
    names = ", ".join(concept["name"] for concept in config["concepts"])
    lines = [
        *card_opening(config),
        "An EfficientNet-Lite0 pyramid (ImageNet weights, fine-tuned) and frozen",
        "MiniLM-L6 word vectors, fused both ways at the strides 32, 16 and 8 by",
        "probabilistic cross-attentions, after MedCLIPSeg and BiPVL-Seg.",
        f"{config['parameters'] / 1e6:.1f} million parameters; a whole picture is",
        f"resized to {config['input']['size']} x {config['input']['size']} pixels.",
        "",
        f"It knows: {names}.",
        "",
        "## What it was trained on",
        "",
        "| set | pictures | training pictures | source and licence |",
        "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in SOURCES),
        "",
        "BUSBRA (breast ultrasound from other scanners) was never trained on.",
        "",
        "## How well it does",
        "",
        *figure_lines(figures),
        "",
        "## Limits",
        "",
        "English prompts. It was taught to find nothing where a prompt names what the",
        "picture does not show, but it can still draw a mask there, and it can find",
        "nothing where there is something, on other scanners than those it saw above",
        "all; look at the uncertainty maps. It knows no other organs, and saw no",
        "children's pictures, rare scanners or artefacts beyond those in the sets",
        "above.",
        "",
    ]
    return "\n".join(lines)


def figure_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the tables of figures."""
    sets = figures.get("sets", [])
    if not sets:
        return ["Not measured."]
    plain = [entry for entry in sets if entry["prompts"] not in WORDINGS]
    rows = [
        f"| {entry['set']} | {entry['prompts']} | {entry['n']} "
        f"| {_spread(entry['dsc'])} | {_spread(entry['nsd'])} |"
        for entry in plain
    ]
    return [
        f"Validation splits, {sets[0]['samples']} samples, `medvlseg evaluate`; mean",
        "and standard deviation over cases (NSD at 2 pixels).",
        "",
        "| set | prompts | cases | DSC | NSD |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        *_wording_lines(sets),
    ]


def _wording_lines(sets: list[Mapping[str, Any]]) -> list[str]:
    """Return the table of other wordings, if any was measured."""
    found = {(entry["set"], entry["prompts"]): entry for entry in sets}
    designs = [d for d in WORDINGS if any(design == d for _, design in found)]
    if not designs:
        return []
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        cells = [_cell(found.get((name, design))) for design in designs]
        if any(cell != "-" for cell in cells):
            rows.append(f"| {' | '.join((name, *cells))} |")
    return [
        "",
        "Asked otherwise: mean DSC, and for `mismatched` (prompts for what other sets",
        "show) the share of prompts that were rightly answered with nothing.",
        "",
        f"| set | {' | '.join(designs)} |",
        f"| --- |{' --- |' * len(designs)}",
        *rows,
    ]


def _cell(entry: Mapping[str, Any] | None) -> str:
    """Return the figure that counts for a wording."""
    if entry is None:
        return "-"
    if entry["prompts"] == "mismatched":
        return f"{100 * entry['absent']:.1f} %"
    return f"{entry['dsc']['mean']:.3f}"


def _spread(figure: Mapping[str, float | None]) -> str:
    """Return mean and deviation; one case has no deviation, none has no mean."""
    mean, deviation = figure["mean"], figure["std"]
    if mean is None:
        return "-"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"
