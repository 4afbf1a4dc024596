"""Files that tell a spacing, but not where the patient's sides are, claim no sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - everybody's name for it

from napari_medvlseg.core.io.open import open_image
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
SPACING = (0.7, 0.8, 3.0)
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def nifti(path: Path, *, sform: int = 0, qform: int = 0) -> Path:
    affine = np.diag([*SPACING, 1])
    image = nib.nifti1.Nifti1Image(VOXELS, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine if qform else None, qform)
    image.header["pixdim"][1:4] = SPACING
    nib.loadsave.save(image, path.with_suffix(".nii"))
    return path.with_suffix(".nii")


def nrrd_of(path: Path, voxels: Any = VOXELS, **header: Any) -> Path:
    nrrd.write(str(path.with_suffix(".nrrd")), voxels, header)
    return path.with_suffix(".nrrd")


def mha(path: Path, voxels: Any = VOXELS, without: str = "") -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING[: voxels.ndim])
    sitk.WriteImage(image, str(path.with_suffix(".mha")))
    lines = path.with_suffix(".mha").read_bytes().split(b"\n", 20)
    kept = [
        line for line in lines if not without or not line.startswith(without.encode())
    ]
    path.with_suffix(".mha").write_bytes(b"\n".join(kept))
    return path.with_suffix(".mha")


DIRECTIONS = np.diag(SPACING)


@pytest.mark.parametrize(
    "make",
    [
        nifti,
        lambda path: nrrd_of(path, spacings=list(SPACING)),
        lambda path: nrrd_of(
            path, **{"space dimension": 3, "space directions": DIRECTIONS}
        ),
        lambda path: nrrd_of(
            path, space="3D-right-handed", **{"space directions": DIRECTIONS}
        ),
        lambda path: mha(path, without="TransformMatrix"),
        lambda path: mha(path, VOXELS[0]),
    ],
)
def test_sides_that_are_not_told_are_unknown(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    for image in (read(path), open_image(path)):
        assert image.facts["orientation"] == "unknown"
        assert image.spacing_mm is not None
        assert sorted(image.spacing_mm) == pytest.approx(
            sorted(SPACING[: len(image.spacing_mm)])
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda path: nifti(path, sform=1),
        lambda path: nifti(path, qform=1),
        lambda path: nrrd_of(
            path,
            space="left-posterior-superior",
            **{"space directions": DIRECTIONS},
        ),
        mha,
    ],
)
def test_sides_that_are_told_are_known(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    for image in (read(path), open_image(path)):
        assert sorted(image.facts["orientation"]) in (sorted("RAS"), sorted("LPS"))
