"""Which TIFFs tell the size of their pixels, and which only seem to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_medvlseg.core.io.open import open_image
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, write
from napari_medvlseg.core.preprocess.slices import Turn, choose_slices
from napari_medvlseg.core.types import Image, Segmentation

PICTURE = np.arange(30, dtype=np.uint8).reshape(5, 6)
STACK = np.stack([PICTURE, PICTURE + 1, PICTURE + 2, PICTURE + 3])


def imagej(path: Path, values: Any, per_unit: float, **metadata: Any) -> Path:
    tifffile.imwrite(
        path,
        values,
        imagej=True,
        resolution=(per_unit, 2 * per_unit),
        metadata={"axes": "ZYX"[-values.ndim :], **metadata},
    )
    return path


def ome(path: Path, values: Any, **metadata: Any) -> Path:
    axes = {2: "YX", 3: "ZYX"}[values.ndim]
    told = {"axes": axes, **metadata}
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata=told)
    return path


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1), ("cm", 10)],
)
def test_imagej_tells_unit_and_resolution(tmp_path: Path, unit: str, mm: float) -> None:
    image = read(imagej(tmp_path / "a.tif", PICTURE, 4.0, unit=unit))
    assert np.array_equal(image.voxels, PICTURE)
    assert image.units == "mm"
    assert image.spacing_mm == pytest.approx((mm / 8, mm / 4))
    assert image.facts["spacing_from"] == "ImageJ"


def test_imagej_tells_the_distance_of_slices(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", STACK, 4.0, unit="um", spacing=2.5)
    for image in (read(path), open_image(path)):
        assert image.spacing_mm == pytest.approx((2.5e-3, 1.25e-4, 2.5e-4))
    without = read(imagej(tmp_path / "b.tif", STACK, 4.0, unit="um"))
    assert (without.units, without.spacing_mm) == ("pixel", None)


@pytest.mark.parametrize("unit", ["pixel", "", "furlong", "s"])
def test_imagej_without_a_length_tells_none(tmp_path: Path, unit: str) -> None:
    image = read(imagej(tmp_path / "a.tif", PICTURE, 4.0, unit=unit))
    assert (image.units, image.spacing_mm) == ("pixel", None)


@pytest.mark.parametrize(
    ("told", "spacing"),
    [
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}, (2.5e-4, 5e-4)),
        (
            {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 2},
            (2e-3, 0.5),
        ),
        ({"PhysicalSizeX": 0.5}, None),
        (
            {
                "PhysicalSizeX": 1,
                "PhysicalSizeXUnit": "pixel",
                "PhysicalSizeY": 1,
                "PhysicalSizeYUnit": "pixel",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_ome_tells_a_physical_size(
    tmp_path: Path, told: dict[str, Any], spacing: tuple[float, ...] | None
) -> None:
    image = read(ome(tmp_path / "a.ome.tif", PICTURE, **told))
    if spacing is None:
        assert (image.units, image.spacing_mm) == ("pixel", None)
    else:
        assert image.spacing_mm == pytest.approx(spacing)
        assert image.facts["spacing_from"] == "OME-TIFF"


def test_dots_an_inch_are_about_paper(tmp_path: Path) -> None:
    for unit in ("INCH", "CENTIMETER"):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, PICTURE, resolution=(72, 72), resolutionunit=unit)
        assert read(path).units == "pixel"


def test_frames_in_time_have_no_distance(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2}
    path = tmp_path / "a.tif"
    told = {"axes": "TYX", **sizes}
    tifffile.imwrite(path, STACK, ome=True, photometric="minisblack", metadata=told)
    assert read(path).units == "pixel"


def test_a_large_stack_tells_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"PhysicalSizeX": 3, "PhysicalSizeY": 2, "PhysicalSizeZ": 5}
    path = ome(tmp_path / "a.ome.tif", STACK, **sizes)
    monkeypatch.setattr("napari_medvlseg.core.io.opened.LAZY_FROM_BYTES", 0)
    opened = open_image(path)
    assert hasattr(opened.voxels, "compute")
    assert opened.spacing_mm == pytest.approx((5e-3, 2e-3, 3e-3))


def test_colours_have_a_size_too(tmp_path: Path) -> None:
    colours = np.dstack([PICTURE] * 3)
    told = {"axes": "YXS", "PhysicalSizeX": 3, "PhysicalSizeY": 2}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, colours, ome=True, photometric="rgb", metadata=told)
    image = read(path)
    assert image.rgb
    assert image.spacing_mm == pytest.approx((2e-3, 3e-3))


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_our_own_tiff_gives_back_the_spacing(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    probability = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32)
    probability = probability.reshape(1, *shape)
    maps: dict[str, Any] = dict.fromkeys(MAPS, probability)
    found = Segmentation(
        prompts=("a",),
        labels=(probability[0] > 0.5).astype(np.uint8),
        affine=affine,
        units="mm",
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={},
        **maps,
    )
    write(found, Path("ct.nii"), tmp_path, file_format="tiff")
    for name, wanted in (("labels", found.labels), ("probability", probability[0])):
        image: Image = read(tmp_path / f"ct_{name}.tif")
        assert np.array_equal(image.voxels, wanted.T)  # slices first
        assert image.spacing_mm == pytest.approx((0.7, 0.8, 2.5)[: len(shape)][::-1])


def test_no_json_claims_a_place_that_a_spacing_does_not_tell(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", PICTURE, 4.0, unit="mm")
    image = read(path)
    maps: dict[str, Any] = dict.fromkeys(MAPS, np.ones((1, 5, 6), np.float32))
    found = Segmentation(
        prompts=("a",),
        labels=np.ones((5, 6), np.uint8),
        affine=image.affine,
        units=image.units,
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={"spacing_from": image.facts["spacing_from"]},
        **maps,
    )
    report = json.loads(write(found, path, tmp_path)[-1].read_text("utf-8"))
    assert "affine" not in report["geometry"]
    assert report["geometry"]["spacing_mm"] == pytest.approx([0.25, 0.125])
    assert report["prompts"][0]["area_mm2"] == pytest.approx(30 / 32)


def test_a_spacing_turns_no_picture(tmp_path: Path) -> None:
    image = read(imagej(tmp_path / "a.tif", STACK, 4.0, unit="mm", spacing=2))
    for axis in range(3):
        assert choose_slices(image, axis, None).turn == Turn()
    picture = read(imagej(tmp_path / "b.tif", PICTURE, 4.0, unit="mm"))
    assert choose_slices(picture, None, None).turn == Turn()
