"""DICOM series of any order, turn and size: ITK and highdicom see what we see."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import write
from tests.core.test_io_roundtrip import LPS, TURNS, rotation, segmented, triples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]

Array = npt.NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")

CLOSE_MM = 1e-3  # places are texts of 16 characters


def save_series(write: WriteDicom, folder: Path, voxels: Array, affine: Array) -> None:
    """Write (column, row, slice) voxels that lie at an LPS affine, shuffled."""
    shutil.rmtree(folder, ignore_errors=True)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    column, row, _ = (affine[:3, :3] / edges).T
    for k in np.random.default_rng(0).permutation(voxels.shape[2]):
        write(
            folder / f"IM{(7 * k) % 11:03d}{k:02d}",
            np.ascontiguousarray(voxels[:, :, k].T),
            StudyInstanceUID="1.9.8.7.6",
            FrameOfReferenceUID="1.9.8.7.5",
            ImageOrientationPatient=texts([*column, *row]),
            ImagePositionPatient=texts(affine[:3, 3] + k * affine[:3, 2]),
            PixelSpacing=texts([edges[1], edges[0]]),
            SliceThickness=float(f"{edges[2]:.9g}"),
        )


def texts(numbers: Any) -> list[str]:
    """Return numbers as DICOM has them, in 16 characters."""
    return [f"{float(number) + 0.0:.10f}"[:16] for number in numbers]


def check(folder: Path, write_dicom: WriteDicom, voxels: Array, affine: Array) -> None:
    """Compare our image and our DICOM-SEG, voxel by voxel in mm, with the others'."""
    series = folder / "series"
    save_series(write_dicom, series, voxels, affine)
    image = read(series)
    assert image.voxels.dtype == voxels.dtype
    reader = sitk.ImageSeriesReader()
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    reader.SetFileNames(names)
    itk = reader.Execute()
    turn = np.array(itk.GetDirection()).reshape(3, 3)
    theirs = np.eye(4)
    theirs[:3, :3] = turn * np.array(itk.GetSpacing())
    theirs[:3, 3] = itk.GetOrigin()
    compare(image, image.voxels, theirs, sitk.GetArrayFromImage(itk).T)
    result = segmented(image, prompts=2)
    output = folder / "out"
    write(result, series, output, stem="s", overwrite=True, file_format="dicom-seg")
    # highdicom calls index and world (slice, row, column) and LPS+
    volume = hd.seg.segread(output / "s_probability.dcm").get_volume()
    ours = np.moveaxis(result.probability, 0, -1)
    compare(image, ours, volume.affine, volume.array, atol=0.51 / 255)


def compare(
    image: Any, values: Array, lps: Array, theirs: Array, atol: float = 0
) -> None:
    """Find each of another library's voxels in our image by its place in mm."""
    index = np.indices(theirs.shape[:3]).reshape(3, -1)
    world = (LPS @ lps @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    inverse = np.linalg.inv(image.affine)
    found = inverse[:3, :3] @ world + inverse[:3, 3:]
    nearest = np.rint(found).astype(int)
    apart = image.affine[:3, :3] @ (found - nearest)
    assert np.linalg.norm(apart, axis=0).max() < CLOSE_MM
    np.testing.assert_allclose(
        values[tuple(nearest)], theirs[tuple(index)], rtol=0, atol=atol
    )


def pattern(shape: tuple[int, ...], dtype: str) -> Array:
    voxels: Array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    return voxels


def test_all_48_orders_and_flips_are_the_same_to_all(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for turn in TURNS:
        affine = turn @ np.diag([0.7, 1.3, 4.5, 1])
        affine[:3, 3] = (-91.25, 126.5, -72.75)
        check(tmp_path, write_dicom, pattern((3, 5, 4), "i2"), affine)


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.generate],  # to shrink one would take minutes
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    turn=st.sampled_from(TURNS),
    spacing=triples(0.05, 12),
    angles=triples(-math.pi, math.pi),
    origin=triples(-1000, 1000),
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(2, 5)),  # for ITK
    dtype=st.sampled_from(["u1", "i2", "u2"]),
)
def test_oblique_series_of_odd_sizes_are_the_same_to_all(
    tmp_path: Path, write_dicom: WriteDicom, dtype: str, **drawn: Any
) -> None:
    affine = rotation(drawn["angles"]) @ drawn["turn"] @ np.diag([*drawn["spacing"], 1])
    affine[:3, 3] = drawn["origin"]
    check(tmp_path, write_dicom, pattern(drawn["shape"], dtype), affine)
