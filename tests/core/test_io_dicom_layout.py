from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.slices import choose_slices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]

PICTURE = np.arange(35, dtype=np.int16).reshape(5, 7)


def test_frames_without_places_are_a_film_in_their_order(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    film = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    write_dicom(tmp_path / "a.dcm", film, Modality="US", PixelSpacing=[0.3, 0.2])
    image = read(tmp_path / "a.dcm")
    assert np.array_equal(image.voxels, film)
    assert (image.units, image.slice_axis) == ("pixel", 0)
    assert (image.facts["frames"], image.facts["spacing_mm"]) == (3, [0.3, 0.2])


def region(x: float, y: float, units: int = 3) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat = 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = x, y
    return item


@pytest.mark.parametrize(
    ("elements", "spacing", "source"),
    [
        ({"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2), "pixel spacing"),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.3, 0.2), "detector"),
        (
            {"SequenceOfUltrasoundRegions": [region(0.02, -0.03)]},
            (0.3, 0.2),
            "ultrasound region",
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(0.02, 0.03), region(1, 1, 4)]},
            (0.3, 0.2),
            "ultrasound region",
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(0.02, 0.03), region(1, 1)]},
            None,
            None,
        ),
        ({"PixelSpacing": [0, 0]}, None, None),
        ({}, None, None),
    ],
)
def test_a_picture_without_a_place_is_in_mm_only_where_a_spacing_is_told(
    tmp_path: Path,
    write_dicom: WriteDicom,
    elements: dict[str, Any],
    spacing: tuple[float, float] | None,
    source: str | None,
) -> None:
    write_dicom(tmp_path / "a", PICTURE, Modality="US", **elements)
    image = read(tmp_path / "a")
    assert image.spacing_mm == (None if spacing is None else pytest.approx(spacing))
    assert image.facts.get("spacing_from") == source
    assert np.array_equal(
        choose_slices(image, None, None).picture(image.voxels, 0), PICTURE
    )


@pytest.mark.parametrize(
    ("told", "column", "row", "plane"),
    [
        (["L", "F"], (-1, 0, 0), (0, 0, -1), "coronal"),
        (["R", "F"], (1, 0, 0), (0, 0, -1), "coronal"),
        (["P", "F"], (0, -1, 0), (0, 0, -1), "sagittal"),
        (["LA", "FP"], (-1, 0, 0), (0, 0, -1), "coronal"),
        (["A", "R"], (0, 1, 0), (1, 0, 0), "axial"),
    ],
)
def test_an_x_ray_tells_its_sides_without_a_place(
    tmp_path: Path,
    write_dicom: WriteDicom,
    told: list[str],
    column: tuple[int, ...],
    row: tuple[int, ...],
    plane: str,
) -> None:
    write_dicom(
        *(tmp_path / "a", PICTURE),
        Modality="DX",
        PatientOrientation=told,
        ImagerPixelSpacing=[0.2, 0.3],
    )
    image = read(tmp_path / "a")
    np.testing.assert_allclose(image.affine[:3, 1], 0.3 * np.array(column))
    np.testing.assert_allclose(image.affine[:3, 0], 0.2 * np.array(row))
    assert image.facts["orientation"] == plane
    assert image.facts["sides_from"] == "header"


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientOrientation": ["L", ""]},
        {"PatientOrientation": ["L", "R"]},
        {"PatientOrientation": ["L", "X"]},
        {"PatientOrientation": "L"},
        {"PatientOrientation": ["R", "F"], "AnatomicalOrientationType": "QUADRUPED"},
    ],
)
def test_sides_that_make_no_sense_are_unknown(
    tmp_path: Path, write_dicom: WriteDicom, elements: dict[str, Any]
) -> None:
    write_dicom(tmp_path / "a", PICTURE, ImagerPixelSpacing=[0.2, 0.3], **elements)
    image = read(tmp_path / "a")
    assert image.facts["orientation"] == "unknown"
    assert "sides_from" not in image.facts
    assert np.array_equal(
        choose_slices(image, None, None).picture(image.voxels, 0), PICTURE
    )


def test_a_picture_turned_in_the_patient_is_not_taken_for_an_upright_one(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    """It tells how it is turned, but not where it lies."""
    write_dicom(
        *(tmp_path / "a", PICTURE),
        PixelSpacing=[0.2, 0.3],
        ImageOrientationPatient=[-1, 0, 0, 0, 1, 0],
    )
    image = read(tmp_path / "a")
    np.testing.assert_allclose(image.affine[:3, 1], [0.3, 0, 0])
    np.testing.assert_allclose(
        choose_slices(image, None, None).picture(image.voxels, 0), PICTURE[:, ::-1]
    )
