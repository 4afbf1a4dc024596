"""Labels beside their image: turned to its axes, or refused."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.labels import read_labels
from napari_medvlseg.core.types import Image
from napari_medvlseg.core.volume_sets import volume_cases

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[0.1, -2.0, 0, 5], [1.5, 0.2, 0, -3], [0, 0, 3.0, 7], [0, 0, 0, 1]])
SHAPE = (4, 5, 6)
LABELS = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int16)
IMAGE = Image(np.zeros(SHAPE, np.float32), AFFINE, units="mm")


def _save(path: Path, labels: Any, affine: Any = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_labels_in_another_order_of_axes_are_turned(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    """As nibabel turns them: array and affine together."""
    turns = [[order.index(n), -1 if flips[n] else 1] for n in range(3)]
    other = nib.Nifti1Image(LABELS, AFFINE).as_reoriented(np.array(turns))
    nib.save(other, tmp_path / "label.nii.gz")
    found = read_labels(tmp_path / "label.nii.gz", IMAGE)
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    "change",
    [
        np.diag([-1.0, 1.0, 1.0, 1.0]),  # mirrored in place: nothing lies there
        np.diag([1.01, 1.0, 1.0, 1.0]),
        np.array([[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
)
def test_labels_that_lie_elsewhere_are_refused(tmp_path: Path, change: Any) -> None:
    path = _save(tmp_path / "label.nii", LABELS, AFFINE @ change)
    with pytest.raises(DatasetError, match="another place in the patient"):
        read_labels(path, IMAGE)


def test_what_a_header_rounds_is_no_other_place(tmp_path: Path) -> None:
    path = _save(tmp_path / "label.nii", LABELS, AFFINE + 1e-5)
    np.testing.assert_array_equal(read_labels(path, IMAGE), LABELS)


@pytest.mark.parametrize("shape", [(4, 5, 7), (4, 5), (5, 4, 6)])
def test_labels_of_another_shape_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = _save(tmp_path / "label.nii", np.zeros(shape, np.uint8))
    with pytest.raises(DatasetError, match="on the grid of their image"):
        read_labels(path, IMAGE)


@pytest.mark.parametrize("odd", [0.5, -1.0, np.nan, np.inf])
def test_labels_are_whole_numbers(tmp_path: Path, odd: float) -> None:
    labels = LABELS.astype(np.float32)
    labels[1, 1, 1] = odd
    with pytest.raises(DatasetError, match=f"whole numbers from 0 on .* got {odd:g}"):
        read_labels(_save(tmp_path / "label.nii", labels), IMAGE)
    labels[1, 1, 1] = 820.0002  # as a header's scale may leave it
    found = read_labels(_save(tmp_path / "label.nii", labels), IMAGE)
    assert found[1, 1, 1] == 820
    assert found.dtype.kind == "i"


@pytest.mark.parametrize("name", ["Hippocampus", "CardiacCine"])
def test_the_real_sets_lie_on_their_images(real_data: Path, name: str) -> None:
    from napari_medvlseg.core.io.channels import read_channels

    cases = [c for s in ("train", "val") for c in volume_cases(real_data / name, s)]
    assert cases
    for case in cases[::8]:
        labels = read_labels(case.label, read_channels(case.images))
        assert labels.max() in (2, 3)
