"""Thick slices are first seen in the plane that they were taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from napari_medvlseg.core.orientation import EdgeLetters
from napari_medvlseg.plugin.first_view import thick_axis
from napari_medvlseg.plugin.layer_space import camera_of
from napari_medvlseg.plugin.orientation_marks import letters_for
from napari_medvlseg.plugin.reader import read_layers

if TYPE_CHECKING:
    from pathlib import Path

OURS = "napari-medvlseg"
AXIAL = EdgeLetters(left="R", right="L", top="A", bottom="P")
CORONAL = EdgeLetters(left="R", right="L", top="S", bottom="I")
SAGITTAL = EdgeLetters(left="A", right="P", top="S", bottom="I")


def save(path: Path, spacing: tuple[float, ...], *, volumes: int = 0) -> Path:
    """Write a NIfTI file whose axes run right, anterior, superior."""
    shape = (6, 7, 8, volumes) if volumes else (6, 7, 8)
    image = nibabel.nifti1.Nifti1Image(
        np.arange(np.prod(shape), dtype=np.int16).reshape(shape),
        np.diag([*spacing, 1.0]),
    )
    thickest = int(np.argmax(spacing))
    image.header.set_dim_info(slice=thickest)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.loadsave.save(image, path)
    return path


@pytest.mark.parametrize(
    ("spacing", "order", "letters"),
    [
        ((5, 1, 1), (2, 0, 1), SAGITTAL),
        ((1, 5, 1), (1, 0, 2), CORONAL),
        ((1, 1, 5), (0, 1, 2), AXIAL),
        ((1.4, 1, 1), (0, 1, 2), AXIAL),
    ],
)
def test_the_first_volume_is_seen_in_the_plane_of_its_thick_slices(
    viewer: Any,
    tmp_path: Path,
    spacing: tuple[float, ...],
    order: tuple[int, ...],
    letters: EdgeLetters,
) -> None:
    path = save(tmp_path / "a.nii", spacing)
    (layer,) = viewer.open(str(path), plugin=OURS)
    assert tuple(viewer.dims.order) == order
    assert letters_for(viewer.layers, viewer.dims, camera_of(viewer)) == letters
    np.testing.assert_allclose(layer.scale, spacing[::-1])  # the world is as ever
    middle = [size // 2 for size in layer.data.shape]
    walked = order[0]
    assert abs(viewer.dims.current_step[walked] - middle[walked]) <= 1


def test_of_a_series_of_volumes_time_stays_the_outer_slider(
    viewer: Any, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.nii", (5, 1, 1), volumes=2)
    viewer.open(str(path), plugin=OURS)
    assert tuple(viewer.dims.order) == (0, 3, 1, 2)


def test_what_is_open_already_is_not_turned(viewer: Any, tmp_path: Path) -> None:
    viewer.open(str(save(tmp_path / "a.nii", (1, 1, 1))), plugin=OURS)
    viewer.open(str(save(tmp_path / "b.nii", (5, 1, 1))), plugin=OURS)
    assert tuple(viewer.dims.order) == (0, 1, 2)


def test_another_layer_that_comes_first_is_not_turned(
    viewer: Any, tmp_path: Path
) -> None:
    read_layers(save(tmp_path / "a.nii", (5, 1, 1)))  # and does not show them
    viewer.add_image(np.zeros((3, 4, 5)))
    assert tuple(viewer.dims.order) == (0, 1, 2)
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 4, 5)))
    assert tuple(viewer.dims.order) == (0, 1, 2)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"units": "pixel", "spacing_mm": [1, 1, 5], "slice_axis": 2},
        {"units": "mm", "spacing_mm": [1, 1], "slice_axis": 0},
        {"units": "mm", "spacing_mm": None, "slice_axis": 0},
    ],
)
def test_what_is_no_volume_of_known_place_has_no_slices(entry: dict[str, Any]) -> None:
    assert thick_axis(entry) is None
