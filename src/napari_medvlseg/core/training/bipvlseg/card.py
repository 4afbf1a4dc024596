"""The card of a 3D model: what a user must know before trusting it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.card_lines import card_opening

if TYPE_CHECKING:
    from collections.abc import Mapping


def modality_of(title: str) -> str:
    """Return the kind of image that a class's title names, or just volume.

    >>> modality_of("Spleen in a CT image"), modality_of("Spleen")
    ('CT volume', 'volume')
    """
    found = re.search(r"\bin an? ([\w -]+?) images?$", title.strip())
    return f"{found[1]} volume" if found else "volume"


def card_markdown(config: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the card of a 3D model in Markdown.

    Parameters
    ----------
    config : mapping
        ``config.json`` of the bundle.
    figures : mapping
        ``figures.json``: ``sets`` as `medvlseg evaluate --json` writes them.
    """
    volume, training = config["volume"], config["training"]
    network = config["network"]["config"]
    sides = " x ".join(str(side) for side in volume["patch"])
    spacing = volume["spacing_mm"]
    window = volume["window"]
    return "\n".join(
        [
            *card_opening(config),
            f"BiPVL-Seg: {network['vision']} and {network['text']}, fused both ways,",
            f"{config['parameters'] / 1e6:.1f} million parameters in the bundle.",
            f"Windows of {sides} voxels along R, A and S, "
            + ("as large as they come;" if not spacing else f"of {spacing} mm;"),
            "grey values "
            + (f"from {window[0]:g} to {window[1]:g}." if window else "normalised."),
            "",
            "Classes: " + ", ".join(c["name"] for c in config["concepts"]) + ".",
            "It finds these and no others, whatever the words.",
            "",
            "## What it was trained on",
            "",
            f"{_source(training)}.",
            _how(training),
            "",
            "## How well it does",
            "",
            *figure_lines(figures),
            "",
            "## Limits",
            "",
            "Other scanners, ages, diseases and fields of view than those it was",
            "trained on; a volume without the structure, in which it may still find",
            "one. Look at the uncertainty maps.",
            "",
        ]
    )


def _source(training: Mapping[str, Any]) -> str:
    """Return what it was trained on, as far as that is told.

    Bundles of the package tell their ``source``; a run knows its folder's name alone.
    """
    if training.get("source"):
        return str(training["source"])
    data = training.get("data")
    if not data:
        return "Volumes of whoever trained it; ask them"
    number = data["volumes"]
    counted = f"{number} volume{'' if number == 1 else 's'}"
    return f"{counted} of the folder {data['folder']}, of whoever trained it; ask them"


def _how(training: Mapping[str, Any]) -> str:
    """Return how long it was trained, and from what it began."""
    if training.get("history"):
        return str(training["history"])
    begun = training.get("start")
    started = f", from the weights of the run {begun}" if begun else ""
    return f"{training.get('epochs', '?')} epochs, `medvlseg train`{started}."


def figure_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return a row for each set and class."""
    sets = figures.get("sets", [])
    if not sets:
        return ["Not measured."]
    rows = []
    for entry in sets:
        named = {"mean of classes": entry, **entry.get("classes", {})}
        for name, of_class in named.items():
            cells = [_spread(of_class[kind]) for kind in ("dsc", "nsd", "hd95")]
            rows.append(f"| {entry['set']} | {name} | {' | '.join(cells)} |")
    first = sets[0]
    return [
        f"{first['split']} split, {first['n']} volumes, {first['samples']} samples,",
        f"`medvlseg evaluate`; NSD at {first['nsd_tolerance']:g} {first['units']}.",
        "",
        f"| set | class | DSC | NSD | HD95 in {first['units']} |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]


def _spread(figure: Mapping[str, float | None]) -> str:
    """Return mean and deviation over cases."""
    mean, deviation = figure["mean"], figure["std"]
    if mean is None:
        return "-"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"
