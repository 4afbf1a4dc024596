"""The authors' keys, by rule."""

from __future__ import annotations

import hashlib
import json
import os
from math import prod
from pathlib import Path

import pytest

from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.models.medclipseg_layout import (
    VARIANTS,
    Layout,
    aliases,
    recognise,
)

# Of the lines "KEY [SIZE, ...]" of the authors' networks, sorted; the number of keys
# and the parameters without those that are named twice.
PUBLISHED = {
    "unimedclip": (
        "1b7d6751710cf83c07fe46ec669cdab71459aafeb60e38b1ac3526f475c7a876",
        668,
        214_580_757,
    ),
    "biomedclip": (
        "f0b2088ce7481cf2d1b5abeeb67ee166cbf03f3413013a6e54d68b580e6468b6",
        667,
        214_579_989,
    ),
    "clip": (
        "c76c420292c9f01bebaf9a1f197d9d9163540bee1218595518451ae8be792109",
        919,
        166_987_285,
    ),
    "pubmedclip": (
        "e4b33802bba69ce30501fb11c913e24feb5d6b1d57dabad29f079891a265ee9d",
        919,
        168_643_861,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_keys_and_shapes_are_the_authors(variant: str) -> None:
    shapes = Layout(variant=variant).shapes()
    text = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(shapes.items()))
    digest = hashlib.sha256(text.encode()).hexdigest()
    own = [shape for key, shape in shapes.items() if key not in aliases(variant)]
    assert (digest, len(shapes), sum(map(prod, own))) == PUBLISHED[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_golden_lists_are_the_same(variant: str) -> None:
    default = data_folder().parent / "golden"
    folder = Path(os.environ.get("MEDVLSEG_GOLDEN", default))
    path = folder / f"medclipseg_{variant}_state_dict.json"
    if not path.is_file():
        pytest.skip("no golden numbers here; set MEDVLSEG_GOLDEN to their folder")
    published = {key: tuple(shape) for key, shape, _ in json.loads(path.read_text())}
    assert Layout(variant=variant).shapes() == published


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_recognised_even_if_a_part_is_missing(variant: str) -> None:
    shapes = Layout(variant=variant, adapter_dim=64, num_upscale=3).shapes()
    held = {key: shape for key, shape in shapes.items() if "mask_head" not in key}
    assert recognise(held) == Layout(variant=variant, adapter_dim=64, num_upscale=3)


def test_other_keys_are_not_recognised() -> None:
    assert recognise({"conv1.weight": (64, 3, 7, 7), "fc.bias": (1000,)}) is None
    assert recognise({}) is None
