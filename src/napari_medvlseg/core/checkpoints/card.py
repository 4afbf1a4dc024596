"""What an imported checkpoint's bundle says about its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.card_lines import card_opening

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medvlseg.core.models.medclipseg_layout import Layout
    from napari_medvlseg.core.released import Released

SIZE = 224
OVERLAP = 0.25
ADAPTERS = 10
"""Where the configuration does not tell another number."""
INTENDED_USE = "Research use only; not a medical device, not for diagnosis."
BACKBONES = {
    "unimedclip": "UniMedCLIP ViT-B/16 with BiomedBERT",
    "biomedclip": "BiomedCLIP ViT-B/16 with BiomedBERT",
    "clip": "OpenAI CLIP ViT-B/16",
    "pubmedclip": "PubMedCLIP ViT-B/32",
}


COMPATIBLE = (
    "- Pictures are squashed to the square without smoothing, in 8 bits.",
    "- Red and blue are exchanged (BGR) before ImageNet's means are taken off.",
    "- Prompts are filled up to 256 word pieces (77 for CLIP and PubMedCLIP), and the",
    "  picture attends to what fills them up, too.",
)
"""What `MedCLIPSegConfig.compatible` means to a user."""


def bundle_config(
    model_id: str, layout: Layout, known: Released | None
) -> dict[str, Any]:
    """Return what ``config.json`` says of a checkpoint's model.

    Parameters
    ----------
    model_id : str
    layout : Layout
        Of the checkpoint.
    known : Released, optional
        Which of the released checkpoints it is.
    """
    network = {"variant": layout.variant, "compatible": True}
    own = {
        name: getattr(layout, name)
        for name in ("adapter_dim", "num_upscale", "num_adapters")
        if getattr(layout, name) != getattr(type(layout)(variant="clip"), name)
    }
    backbone = BACKBONES[layout.variant]
    return {
        "model_id": model_id,
        "title": known.title if known else model_id,
        "summary": known.summary
        if known
        else f"A MedCLIPSeg checkpoint on {backbone}; what it finds, its owner knows.",
        "licence": known.licence if known else "As the checkpoint's owner says",
        "intended_use": INTENDED_USE,
        "concepts": [_concept(known)] if known else [],
        "input": {"size": SIZE, "tile": SIZE, "overlap": OVERLAP},
        "min_foreground": 0.0,
        "doubtful_from": None,
        "network": {
            "architecture": "medclipseg",
            "config": {**network, **own},
        },
    }


def checkpoint_card(config: Mapping[str, Any]) -> str:
    """Return the card of an imported checkpoint in Markdown."""
    imported = config["imported"]
    backbone = BACKBONES[config["network"]["config"]["variant"]]
    left_out = ", ".join(imported["left_out"]) or "nothing"
    return "\n".join(
        [
            *card_opening(config),
            f"MedCLIPSeg (Koleilat et al.) on {backbone}, with",
            f"{config['parameters'] / 1e6:.1f} million trained parameters in adapters",
            f"between frozen towers. Pictures are resized to {SIZE} x {SIZE} pixels.",
            "",
            "## How it sees pictures and reads prompts",
            "",
            "As the authors' code does (`compatible` in config.json), since the",
            "weights were trained so; give it ordinary RGB or grey pictures.",
            "",
            *COMPATIBLE,
            "",
            "A checkpoint does not tell how strongly attention shuns uncertain keys,",
            "nor where its adapters stand: beta is taken to be 2.35, and the",
            f"{_adapters(config)} adapters to stand before blocks 1, 2 and so on.",
            "",
            "## Where it is from",
            "",
            f"Imported from {imported['file']}; left out: {left_out}.",
            "Its figures were not measured here: use medvlseg evaluate on your data.",
            "",
        ]
    )


def _adapters(config: Mapping[str, Any]) -> int:
    """Return how many adapters the network has."""
    return int(config["network"]["config"].get("num_adapters", ADAPTERS))


def _concept(known: Released) -> dict[str, Any]:
    """Return the one thing that a released checkpoint was taught."""
    data = known.data
    return {
        "name": data.structure,
        "synonyms": [],
        "modality": data.picture,
        "example": f"one {data.structure} in the {data.picture}",
        "tiling": "whole",
    }
