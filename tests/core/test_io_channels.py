"""Volumes of several channels: a file each, or one of four axes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_medvlseg.core.errors import (
    GeometryError,
    ImageError,
    UnsupportedFormatError,
)
from napari_medvlseg.core.io.channels import read_channels
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.provenance import image_digest
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def _save(path: Path, voxels: Any, affine: Any = AFFINE) -> Path:
    nifti = nib.Nifti1Image(voxels, affine)
    nifti.header.set_xyzt_units("mm")
    nib.save(nifti, path)
    return path


@pytest.fixture
def voxels() -> Any:
    return np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)


def test_four_axes_are_what_as_many_files_are(tmp_path: Path, voxels: Any) -> None:
    whole = read_channels([_save(tmp_path / "all.nii.gz", voxels)])
    paths = [_save(tmp_path / f"{n}.nii", voxels[..., n]) for n in range(3)]
    apart = read_channels(paths)
    single = read(paths[0])
    for found in (whole, apart):
        np.testing.assert_array_equal(found.voxels, voxels[..., 0])
        assert len(found.channels) == 2
        np.testing.assert_array_equal(found.channels[1], voxels[..., 2])
        np.testing.assert_allclose(found.affine, AFFINE)
        assert (found.units, found.slice_axis) == (single.units, single.slice_axis)
        assert found.spatial_shape == (4, 5, 6)
    assert read_channels(paths[:1]).channels == ()
    np.testing.assert_array_equal(read_channels(paths[:1]).voxels, single.voxels)


def test_every_channel_makes_a_run_another(voxels: Any) -> None:
    image = Image(voxels[..., 0], channels=(voxels[..., 1],))
    other = replace(image, channels=(voxels[..., 2],))
    digests = {image_digest(each) for each in (image, other, Image(voxels[..., 0]))}
    assert len(digests) == 3


def test_channels_on_other_grids_are_refused(tmp_path: Path, voxels: Any) -> None:
    first = _save(tmp_path / "a.nii", voxels[..., 0])
    shifted = AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0.01
    moved = _save(tmp_path / "b.nii", voxels[..., 1], shifted)
    with pytest.raises(GeometryError, match=r"expected the grid of a\.nii"):
        read_channels([first, moved])
    small = _save(tmp_path / "c.nii", voxels[:3, ..., 1])
    with pytest.raises(GeometryError, match="resample it"):
        read_channels([first, small])
    five = _save(tmp_path / "d.nii", np.stack([voxels, voxels], axis=-1))
    with pytest.raises(UnsupportedFormatError, match="along the fourth axis"):
        read_channels([five])
    with pytest.raises(ImageError, match="channels of one shape"):
        Image(voxels[..., 0], channels=(voxels[:3, ..., 1],))
