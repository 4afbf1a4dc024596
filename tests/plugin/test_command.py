"""The copied command means what the dock shows, in the file's own axes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - everybody's name for it
from napari.components import ViewerModel

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.plugin.command import shell_command
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.reader import read_layers
from napari_medvlseg.plugin.worker import Job
from tests.dicom_files import write_dicom_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medvlseg.plugin.layers import LayerCut

VOXELS = np.random.default_rng(0).integers(0, 999, (4, 5, 6)).astype(np.int16)


def nifti(folder: Path) -> Path:
    """Axes that run posterior, right and inferior."""
    affine = np.array([[0, 1, 0, 5], [-1.2, 0, 0, 7], [0, 0, -2, 9], [0, 0, 0, 1.0]])
    image = nib.nifti1.Nifti1Image(VOXELS, affine)
    nib.loadsave.save(image, folder / "a.nii")
    return folder / "a.nii"


def metaimage(folder: Path) -> Path:
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing((1, 1.2, 2))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(folder / "a.mha"))
    return folder / "a.mha"


def dicom(folder: Path) -> Path:
    for number, pixels in enumerate(VOXELS):
        write_dicom_file(
            folder / "series" / f"{number}.dcm",
            pixels,
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[3 * number, 0, 0],
            PixelSpacing=[1, 1],
        )
    return folder / "series"


def shown(path: Path) -> tuple[ViewerModel, Any]:
    ((data, choices, _),) = read_layers(path)
    viewer = ViewerModel()
    return viewer, viewer.add_image(data, **choices)


def command(path: Path, cut: LayerCut, layer: Any) -> list[str]:
    job = Job(cut, ("polyp",), "compact", SegmentConfig())
    return shlex.split(shell_command(job, str(path), layer.metadata.get(KEY)))


def option(words: list[str], name: str) -> int:
    return int(words[words.index(name) + 1])


@pytest.mark.parametrize("make", [nifti, metaimage, dicom])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_a_slice_of_the_command_is_the_slice_of_the_dock(
    tmp_path: Path, make: Callable[[Path], Path], order: tuple[int, ...]
) -> None:
    path = make(tmp_path)
    viewer, layer = shown(path)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 1)
    cut = cut_layer(layer, viewer.dims, whole=False)
    ours = choose_slices(cut.read(), None, None).picture(cut.read().voxels, 0)
    words = command(path, cut, layer)
    image = read(path)
    index = option(words, "--slice")
    slices = choose_slices(image, option(words, "--axis"), index)
    np.testing.assert_array_equal(slices.picture(image.voxels, index), ours)


@pytest.mark.parametrize("make", [nifti, metaimage, dicom])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_a_volume_is_walked_along_the_axis_of_the_dock(
    tmp_path: Path, make: Callable[[Path], Path], order: tuple[int, ...]
) -> None:
    path = make(tmp_path)
    viewer, layer = shown(path)
    viewer.dims.order = order
    cut = cut_layer(layer, viewer.dims, whole=True)
    words = command(path, cut, layer)
    assert "--slice" not in words
    ours, image = cut.read(), read(path)
    walked = ours.affine[:3, ours.slice_axis]
    theirs = image.affine[:3, option(words, "--axis")]
    np.testing.assert_allclose(np.abs(walked), np.abs(theirs), atol=1e-9)


def test_the_series_of_a_study_is_told(tmp_path: Path) -> None:
    path = dicom(tmp_path)
    viewer, layer = shown(path)
    words = command(path, cut_layer(layer, viewer.dims, whole=True), layer)
    assert option(words, "--series") == layer.metadata[KEY]["series"] == 3


def test_what_no_command_can_say_is_told(tmp_path: Path) -> None:
    viewer = ViewerModel()
    film = viewer.add_image(np.zeros((3, 4, 5, 6)))
    with pytest.raises(ImageError, match="got a series"):
        command(tmp_path, cut_layer(film, viewer.dims, whole=True), film)
    region = viewer.add_shapes([[[1, 1], [1, 3], [3, 3], [3, 1]]])
    picture = viewer.add_image(np.zeros((8, 9)))
    boxed = cut_layer(picture, viewer.dims, whole=False, region=region)
    with pytest.raises(ImageError, match="got a region"):
        command(tmp_path, boxed, picture)
