"""Other libraries write, we read; we write, other libraries read: nothing moves."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, write
from napari_medvlseg.core.types import Image, Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

SFORM_MM, QFORM_MM, NRRD_MM = 1e-3, 0.1, 1e-4
LPS = np.diag([-1.0, -1, 1, 1])
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
TURNS = [
    np.diag([*signs, 1.0])[:, [*order, 3]]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
"""All 48 ways in which voxel axes follow the world's."""

pytestmark = pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")


def rotation(angles: tuple[float, float, float]) -> Matrix:
    """Return a turn about x, then y, then z, in radians."""
    turn = np.eye(4)
    for axis, angle in enumerate(angles):
        first, second = [a for a in range(3) if a != axis]
        step = np.eye(4)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second] = -math.sin(angle)
        step[second, first] = math.sin(angle)
        turn = step @ turn
    return turn


def placed(turn: Matrix, spacing: Any, angles: Any, origin: Any) -> Matrix:
    """Return voxel index to RAS+ mm, axes in the file's order, fastest first."""
    affine = rotation(angles) @ turn @ np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def pattern(shape: tuple[int, ...], dtype: str) -> Array:
    """Return voxels (I, J, K) that differ, the extremes of the type among them."""
    kind = np.dtype(dtype)
    voxels: Array = np.arange(math.prod(shape)).reshape(shape).astype(kind)
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    voxels.flat[0], voxels.flat[-1] = limits.min, limits.max
    return voxels


def segmented(image: Image, prompts: int) -> Segmentation:
    """Return a result on the grid of an image, no two voxels alike in its maps."""
    size = math.prod(image.spatial_shape)
    probability = np.linspace(0, 1, prompts * size, dtype=np.float32)
    probability = probability.reshape(prompts, *image.spatial_shape)
    maps: dict[str, Any] = dict.fromkeys(MAPS, probability)
    labels = np.arange(size).reshape(image.spatial_shape) % (prompts + 1)
    return Segmentation(
        prompts=tuple(f"prompt {index}" for index in range(prompts)),
        labels=labels.astype(np.uint8),
        affine=image.affine,
        units=image.units,
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={},
        **maps,
    )


def corners(affine: Matrix, shape: tuple[int, ...]) -> Matrix:
    """Return where the eight corners of a grid lie, (3, 8)."""
    ends = [[0, size - 1] for size in shape]
    index = np.array([*itertools.product(*ends)], dtype=float).T
    moved: Matrix = affine[:3, :3] @ index + affine[:3, 3:]
    return moved


def farthest(one: Matrix, other: Matrix, shape: tuple[int, ...]) -> float:
    """Return how far two affines put the corners of a grid apart, in mm."""
    apart = corners(one, shape) - corners(other, shape)
    return float(np.linalg.norm(apart, axis=0).max())


def save_nifti(path: Path, voxels: Array, affine: Matrix) -> None:
    nifti = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine, 1)
    nib.save(nifti, path)


def save_nrrd(path: Path, voxels: Array, affine: Matrix) -> None:
    lps = LPS @ affine
    fields = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
    }
    nrrd.write(str(path), voxels, fields)


def save_with_itk(path: Path, voxels: Array, affine: Matrix) -> None:
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(voxels.T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=path.stem.endswith("packed"))


def affine_of_itk(image: sitk.Image) -> Matrix:
    """Return voxel index (i, j, k) to RAS+ mm."""
    affine = np.eye(4)
    turn = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = turn * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


FILES: list[tuple[str, Callable[[Path, Array, Matrix], None]]] = [
    ("case.nii", save_nifti),
    ("case.nii.gz", save_nifti),
    ("case.nrrd", save_nrrd),
    ("case.nhdr", save_nrrd),
    ("itk.nrrd", save_with_itk),
    ("itk-packed.nrrd", save_with_itk),
    ("itk.mha", save_with_itk),
    ("itk-packed.mha", save_with_itk),
    ("itk.mhd", save_with_itk),
]


def check(folder: Path, file: int, voxels: Array, affine: Matrix, prompts: int) -> None:
    """Write with another library, read, segment, write, read with the others."""
    name, save = FILES[file]
    path = folder / name
    save(path, voxels, affine)
    image = read(path)
    slices_first = ".nii" not in name
    stored = voxels.T if slices_first else voxels
    assert image.voxels.dtype == voxels.dtype
    assert np.array_equal(image.voxels, stored)
    ours = image.affine[:, [2, 1, 0, 3]] if slices_first else image.affine
    tolerance = NRRD_MM if slices_first else SFORM_MM
    assert farthest(ours, affine, voxels.shape) < tolerance
    result = segmented(image, prompts)
    write(result, path, folder / "out", overwrite=True)
    stem = folder / "out" / name.split(".")[0]
    if slices_first:
        check_nrrd(stem, result, affine)
    else:
        check_nifti(stem, result, affine)


def check_nifti(stem: Path, result: Segmentation, affine: Matrix) -> None:
    shape = result.labels.shape
    labels = nib.nifti1.load(f"{stem}_labels.nii.gz")
    assert np.array_equal(np.asarray(labels.dataobj), result.labels)
    assert farthest(labels.get_sform(), affine, shape) < SFORM_MM
    assert farthest(labels.get_qform(), affine, shape) < QFORM_MM
    maps = np.asarray(nib.nifti1.load(f"{stem}_probability.nii.gz").dataobj)
    several = np.moveaxis(result.probability, 0, -1)
    assert np.array_equal(maps, several[..., 0] if several.shape[-1] == 1 else several)


def check_nrrd(stem: Path, result: Segmentation, affine: Matrix) -> None:
    shape = result.labels.shape[::-1]
    labels = sitk.ReadImage(f"{stem}_labels.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(labels), result.labels)
    assert farthest(affine_of_itk(labels), affine, shape) < NRRD_MM
    maps, header = nrrd.read(f"{stem}_probability.nrrd")  # (I, J, K[, P])
    several = result.probability
    assert np.array_equal(maps.T, several[0] if len(several) == 1 else several)
    told = np.eye(4)
    told[:3, :3] = header["space directions"][:3].T
    told[:3, 3] = header["space origin"]
    assert farthest(LPS @ told, affine, shape) < NRRD_MM
    assert header["space units"] == ["mm"] * 3


@pytest.mark.parametrize("file", range(len(FILES)), ids=[name for name, _ in FILES])
def test_all_48_orders_and_flips_of_axes_come_back(tmp_path: Path, file: int) -> None:
    voxels = pattern((3, 5, 2), "i2")
    for turn in TURNS:
        affine = placed(turn, (0.7, 1.3, 4.5), (0, 0, 0), (-91.25, 126.5, -72.75))
        check(tmp_path, file, voxels, affine, prompts=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_number_comes_back(tmp_path: Path, dtype: str) -> None:
    affine = placed(TURNS[13], (0.5, 0.9, 3), (0.2, -0.1, 0.4), (10, -20, 30))
    for file in range(len(FILES)):
        check(tmp_path, file, pattern((3, 4, 5), dtype), affine, prompts=2)


def triples(low: float, high: float) -> st.SearchStrategy[tuple[float, ...]]:
    """Draw three numbers."""
    return st.tuples(*[st.floats(low, high)] * 3)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    file=st.integers(0, len(FILES) - 1),
    affine=st.builds(
        placed,
        st.sampled_from(TURNS),
        spacing=triples(0.05, 12),
        angles=triples(-math.pi, math.pi),
        origin=triples(-1000, 1000),
    ),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    dtype=st.sampled_from(DTYPES),
    prompts=st.integers(1, 3),
)
def test_oblique_grids_of_odd_sizes_come_back(
    tmp_path: Path,
    file: int,
    affine: Matrix,
    shape: tuple[int, int, int],
    dtype: str,
    prompts: int,
) -> None:
    check(tmp_path, file, pattern(shape, dtype), affine, prompts)


def test_prompts_are_components_of_a_voxel_to_itk(tmp_path: Path) -> None:
    save_nrrd(tmp_path / "a.nrrd", pattern((3, 4, 5), "u1"), np.eye(4) * [1, 1, 2, 1])
    result = segmented(read(tmp_path / "a.nrrd"), prompts=2)
    write(result, tmp_path / "a.nrrd", tmp_path)
    maps = sitk.ReadImage(str(tmp_path / "a_probability.nrrd"))
    assert maps.GetSize() == (3, 4, 5)
    values = sitk.GetArrayFromImage(maps)  # (K, J, I, P)
    assert np.array_equal(np.moveaxis(values, -1, 0), result.probability)


def test_an_earlier_nrrd_result_is_replaced_by_one_of_another_kind(
    tmp_path: Path,
) -> None:
    save_nrrd(tmp_path / "a.nrrd", pattern((3, 4, 5), "u1"), np.eye(4))
    result = segmented(read(tmp_path / "a.nrrd"), prompts=1)
    write(result, tmp_path / "a.nrrd", tmp_path / "out")
    written = write(
        result, tmp_path / "a.nii", tmp_path / "out", stem="a", overwrite=True
    )
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
