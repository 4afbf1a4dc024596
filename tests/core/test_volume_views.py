"""Draws that see a volume flipped: along which axes, and what is said of it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.types import Image
from tests.volume_models import GreyNetwork, grey_predictor

SHAPE = (11, 14, 9)
VOLUME = Image(
    np.random.default_rng(0).normal(0, 0.7, SHAPE).astype(np.float32),
    np.diag([-1.0, 2.0, 3.0, 1.0]),
    units="mm",
)


def test_views_that_training_never_showed_are_told() -> None:
    image = VOLUME
    for learnt, flips, told in (
        (
            "R",
            "A",
            "never trained on volumes flipped along A, .*; use --flips R or none",
        ),
        ("", "RS", "flipped along R, S, .*; use --flips none"),
    ):
        predictor = grey_predictor(learnt_flips=learnt)
        found = segment(image, "all", predictor, num_samples=4, flips=flips)
        (hint,) = found.provenance["hints"]
        assert re.search(told, hint)
    for known, flips in (("RA", "RA"), ("", "none"), (None, "S")):
        predictor = grey_predictor(learnt_flips=known)
        found = segment(image, "all", predictor, num_samples=1, flips=flips)
        assert found.provenance["hints"] == []


def test_views_are_flipped_along_axes_of_the_world() -> None:
    """Of a window whose axes run up, back and to the left, R is the last."""
    shown: list[torch.Tensor] = []

    class _Watching(GreyNetwork):
        def look(self, window: torch.Tensor, words: Any) -> torch.Tensor:
            shown.append(window)
            return super().look(window, words)

    predictor = grey_predictor(_Watching(), orientation="SPL", patch=SHAPE[::-1])
    segment(VOLUME, "all", predictor, num_samples=2, flips="R")
    plain, flipped = shown
    assert torch.equal(flipped, plain.flip(4))
