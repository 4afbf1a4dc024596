"""What the viewer saves lies where its image's file says, to other libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom as hd
import nibabel as nib
import npe2
import nrrd
import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
import tifffile
from napari.layers import Labels

from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import write
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.reader import PLUGIN
from tests.plugin.saving import (
    LPS,
    TURN,
    maps,
    moved,
    opened,
    save_oblique_series,
    segmented,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.usefixtures("writers"),
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning"),
    pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning"),
]

SHAPE = (5, 4, 3)
VOXELS = np.arange(60, dtype=np.int16).reshape(SHAPE)
OBLIQUE = np.array(
    [[0.4, 0.25, 0, -12], [-0.3, 0.34, 2.0, 7], [0, -0.56, 1.5, 30], [0, 0, 0, 1.0]]
)
TURNS = [
    np.diag([*signs, 1.0])[:, [*order, 3]]
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]
"""All 48 ways in which a file's axes follow the body's."""


def save_nifti(path: Path, affine: Any, voxels: Any = VOXELS) -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 2)
    image.set_qform(affine, 1, strip_shears=True)
    nib.save(image, path)
    return path


def itk_affine(image: sitk.Image) -> Any:
    affine = np.eye(4)
    turn = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = turn * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


def test_nifti_has_the_files_own_grid_and_forms_however_it_is_stored(
    tmp_path: Path,
) -> None:
    for number, turn in enumerate(TURNS):
        affine = np.diag([0.5, 0.7, 3, 1]) @ turn
        affine[:3, 3] = (-90.5, 126, -72)
        path = save_nifti(tmp_path / f"{number}.nii.gz", affine)
        viewer, layer = opened(path)
        result = segmented(viewer, layer, "bright blob")
        files = result.mask.save(tmp_path / f"m{number}.nii.gz", plugin=PLUGIN)
        assert [Path(file).name for file in files] == [
            f"m{number}.nii.gz",
            f"m{number}.json",
        ]
        saved, source = nib.nifti1.load(files[0]), nib.nifti1.load(path)
        assert saved.get_data_dtype() == np.uint8
        wanted = moved(layer, result.mask.data, VOXELS)
        assert np.array_equal(np.asarray(saved.dataobj), wanted)
        assert np.array_equal(saved.get_sform(coded=True)[0], source.get_sform())
        assert np.array_equal(saved.get_qform(), source.get_qform())
        assert int(saved.header["sform_code"]) == 2
        assert saved.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd"])
def test_an_oblique_map_is_the_same_to_nibabel_and_itk(
    tmp_path: Path, ending: str
) -> None:
    viewer, layer = opened(save_nifti(tmp_path / "ct.nii.gz", OBLIQUE))
    result = segmented(viewer, layer, "bright blob")
    (probability,) = maps(result, "probability")
    file, _ = probability.save(tmp_path / f"p{ending}", plugin=PLUGIN)
    wanted = moved(layer, probability.data, VOXELS)
    corners = np.array([*product((0, 4), (0, 3), (0, 2), (1,))]).T
    if ending != ".nrrd":
        saved = nib.nifti1.load(file)
        assert np.array_equal(np.asarray(saved.dataobj), wanted)
        affine = saved.get_sform()
    else:
        values, header = nrrd.read(file)
        assert np.array_equal(values, wanted)
        affine = np.eye(4)
        affine[:3, :3] = header["space directions"].T
        affine[:3, 3] = header["space origin"]
        affine = LPS @ affine
        assert header["space units"] == ["mm"] * 3
    np.testing.assert_allclose(affine @ corners, OBLIQUE @ corners, atol=1e-3)


def test_nrrd_of_metaimage_is_the_same_to_itk(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS.T)
    image.SetSpacing((0.5, 0.7, 2.5))
    image.SetOrigin((12, -7, 30))
    image.SetDirection((0.8, -0.36, 0.48, 0.6, 0.48, -0.64, 0, 0.8, 0.6))
    sitk.WriteImage(image, str(tmp_path / "ct.mha"))
    viewer, layer = opened(tmp_path / "ct.mha")
    result = segmented(viewer, layer)
    file, _ = result.mask.save(tmp_path / "m.nrrd", plugin=PLUGIN)
    saved = sitk.ReadImage(file)
    wanted = moved(layer, result.mask.data, VOXELS.T)
    assert np.array_equal(sitk.GetArrayFromImage(saved), wanted)
    np.testing.assert_allclose(itk_affine(saved), itk_affine(image), atol=1e-6)


def test_files_are_those_of_the_command_line(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "ct.nii.gz", OBLIQUE)
    viewer, layer = opened(path)
    result = segmented(viewer, layer)
    viewer.layers.selection = set(result.layers)
    (tmp_path / "gui").mkdir()
    viewer.layers.save(tmp_path / "gui" / "ct.nii.gz", selected=True, plugin=PLUGIN)
    image = read(path)
    found = result.segmentation
    assert found is not None
    turned: dict[str, Any] = {
        name: np.stack([moved(layer, one, VOXELS) for one in getattr(found, name)])
        for name in ("probability", "predictive_entropy", "mutual_information")
    }
    same = replace(
        found,
        labels=moved(layer, found.labels, VOXELS),
        expected_entropy=np.stack(
            [moved(layer, one, VOXELS) for one in found.expected_entropy]
        ),
        affine=image.affine,
        **turned,
    )
    wanted = write(same, path, tmp_path / "cli")
    names = {file.name for file in wanted}
    assert {file.name for file in (tmp_path / "gui").iterdir()} == names
    for file in wanted[:-1]:
        one, other = (
            nib.nifti1.load(file),
            nib.nifti1.load(tmp_path / "gui" / file.name),
        )
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        assert one.header.binaryblock == other.header.binaryblock
    told, ours = (
        json.loads((tmp_path / place / "ct.json").read_text("utf-8"))
        for place in ("cli", "gui")
    )
    for key in ("image", "files", "format", "geometry", "units", "threshold"):
        assert (
            sorted(told[key]) == sorted(ours[key])
            if key == "files"
            else (told[key] == ours[key])
        )
    assert ours["provenance"]["model"] == "blobs"
    for entry, mine in zip(told["prompts"], ours["prompts"], strict=True):
        for key in ("prompt", "label", "color", "labelled_pixels"):
            assert entry[key] == mine[key]
    voxel = abs(np.linalg.det(OBLIQUE))
    first = ours["prompts"][0]
    assert first["labelled_mm3"] == pytest.approx(first["labelled_pixels"] * voxel)


def test_one_slice_lies_in_the_volume_of_its_image(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "ct.nii", OBLIQUE)
    viewer, layer = opened(path)
    viewer.dims.point = layer.data_to_world((1, 2, 1))
    result = segmented(viewer, layer, "bright blob", whole=False)
    file, report = result.mask.save(tmp_path / "m.nii", plugin=PLUGIN)
    saved = nib.nifti1.load(file)
    cut = result.job.cut
    whole = np.zeros(layer.data.shape, np.uint8)
    assert result.segmentation is not None
    whole[cut.index[0]] = result.segmentation.labels
    assert whole.any()
    assert np.array_equal(np.asarray(saved.dataobj), moved(layer, whole, VOXELS))
    np.testing.assert_allclose(saved.affine, OBLIQUE, atol=1e-6)
    assert json.loads(Path(report).read_text("utf-8"))["one_slice"] is True


def test_a_picture_that_was_turned_upright_is_turned_back(tmp_path: Path) -> None:
    pixels = np.arange(20, dtype=np.int16).reshape(5, 4)
    affine = np.diag([0.5, 0.7, 1, 1])  # upwards, to the patient's right
    affine[:3, 3] = (-90, 20, 5)
    path = save_nifti(tmp_path / "xray.nii.gz", affine, pixels)
    viewer, layer = opened(path)
    assert not np.array_equal(layer.data, pixels.T)
    result = segmented(viewer, layer, whole=False)
    file, _ = result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)
    saved = nib.nifti1.load(file)
    wanted = moved(layer, result.mask.data, pixels)
    assert np.array_equal(np.asarray(saved.dataobj), wanted)
    assert np.array_equal(saved.affine, nib.nifti1.load(path).affine)


def test_a_volume_of_a_series_is_saved_alone(tmp_path: Path) -> None:
    series = np.stack([VOXELS, VOXELS + 60], axis=-1)
    viewer, layer = opened(save_nifti(tmp_path / "4d.nii.gz", OBLIQUE, series))
    viewer.dims.set_current_step(0, 1)
    result = segmented(viewer, layer, "bright blob")
    assert result.mask.data.shape[0] == 1
    file, report = result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)
    saved = nib.nifti1.load(file)
    assert saved.shape == SHAPE
    np.testing.assert_allclose(saved.affine, OBLIQUE, atol=1e-6)
    stored = np.zeros(60, np.uint8)
    stored[np.asarray(layer.data[1], int).ravel() - 60] = result.mask.data.ravel()
    assert np.array_equal(np.asarray(saved.dataobj), stored[VOXELS])
    assert json.loads(Path(report).read_text("utf-8"))["volume"] == [1]


def test_labels_of_a_whole_series_keep_its_step_in_time(tmp_path: Path) -> None:
    series = np.stack([VOXELS, VOXELS + 60], axis=-1)
    path = save_nifti(tmp_path / "4d.nii.gz", OBLIQUE, series)
    source = nib.nifti1.load(path)
    source.header["pixdim"][4] = 2.5
    nib.save(source, path)
    _, layer = opened(path)
    choices = {"metadata": layer.metadata, "scale": layer.scale, "units": layer.units}
    labels = Labels((layer.data % 3).astype(np.int32), affine=layer.affine, **choices)
    file, _ = npe2.write(str(tmp_path / "m.nii.gz"), [labels])
    saved = nib.nifti1.load(file)
    assert np.array_equal(np.asarray(saved.dataobj), series % 3)
    assert float(saved.header["pixdim"][4]) == 2.5
    assert saved.header.get_xyzt_units() == ("mm", "sec")


def test_dicom_seg_lies_on_the_slices(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    folder = save_oblique_series(write_dicom, tmp_path / "series")
    viewer, layer = opened(folder)
    result = segmented(viewer, layer)
    written = [
        result.mask.save(tmp_path / "m.dcm", plugin=PLUGIN)[0],
        maps(result, "probability")[1].save(tmp_path / "p.dcm", plugin=PLUGIN)[0],
    ]
    masks, fractions = (hd.seg.segread(file) for file in written)
    sources = {}
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        sources[header.SOPInstanceUID] = header.pixel_array
    uids = list(sources)
    stored = np.stack([sources[uid] for uid in uids])
    choices: dict[str, Any] = {
        "source_sop_instance_uids": uids,
        "assert_missing_frames_are_empty": True,
    }
    labels = masks.get_pixels_by_source_instance(**choices, combine_segments=True)
    assert np.array_equal(labels, moved(layer, result.mask.data, stored))
    assert [
        masks.get_segment_description(n).segment_label for n in masks.segment_numbers
    ] == ["bright blob", "dark hole"]
    (found,) = np.moveaxis(fractions.get_pixels_by_source_instance(**choices), -1, 0)
    wanted = moved(layer, maps(result, "probability")[1].data, stored)
    np.testing.assert_allclose(found, wanted, atol=0.51 / 255)
    itk = sitk.ReadImage(written[1])  # knows no spacing of theirs, and no bits
    ends = np.array(itk.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(ends[:, :2].T.ravel(), TURN, atol=1e-9)
    assert np.array_equal(sitk.GetArrayFromImage(itk), fractions.pixel_array)
    algorithm = masks.get_segment_description(1)
    assert algorithm.algorithm_type.value == "AUTOMATIC"


def test_an_edited_mask_saves_what_was_painted(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    folder = save_oblique_series(write_dicom, tmp_path / "series")
    viewer, layer = opened(folder)
    result = segmented(viewer, layer, "bright blob")
    result.mask.paint((0, 0, 0), 1)
    result.mask.paint((1, 1, 1), 3)
    file, report = result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)
    told = json.loads(Path(report).read_text("utf-8"))
    assert told["edited"] is True
    assert [entry["prompt"] for entry in told["prompts"]] == ["bright blob", None]
    values = np.asarray(nib.nifti1.load(file).dataobj)
    assert (values == 3).sum() == (result.mask.data == 3).sum() > 0
    seg = hd.seg.segread(result.mask.save(tmp_path / "m.dcm", plugin=PLUGIN)[0])
    names = [
        seg.get_segment_description(number).segment_label
        for number in seg.segment_numbers
    ]
    assert names == ["bright blob", "label 2", "label 3"]
    kind = seg.get_segment_description(1).algorithm_type
    assert kind == hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC


def test_labels_of_naparis_own_take_the_place_of_the_image_below(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    folder = save_oblique_series(write_dicom, tmp_path / "series")
    viewer, layer = opened(folder)
    viewer.layers.selection = {layer}
    viewer._new_labels()
    labels = viewer.layers[-1]
    assert KEY not in labels.metadata
    labels.data[1, 2, 3] = 1
    viewer.layers.selection = {layer, labels}
    files = viewer.layers.save(tmp_path / "s.nrrd", selected=True, plugin=PLUGIN)
    name = next(file for file in files if file.endswith("Labels.nrrd"))
    values, _ = nrrd.read(name)
    assert values.dtype == np.uint8
    image = read(folder)  # (column, row, slice), as an NRRD has them
    number = layer.data[1, 2, 3]
    assert np.argwhere(values).tolist() == np.argwhere(image.voxels == number).tolist()
    whole, header = nrrd.read(
        next(f for f in files if f.endswith(".nrrd") and f != name)
    )
    assert np.array_equal(whole, image.voxels)
    steps = LPS[:3, :3] @ header["space directions"].T
    np.testing.assert_allclose(steps, image.affine[:3, :3], atol=1e-9)


def test_a_colour_picture_gives_png_and_tiff(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    PIL.Image.fromarray(colours).save(tmp_path / "photo.png")
    viewer, layer = opened(tmp_path / "photo.png")
    result = segmented(viewer, layer, whole=False)
    file, _ = result.mask.save(tmp_path / "m.png", plugin=PLUGIN)
    assert np.array_equal(np.asarray(PIL.Image.open(file)), result.mask.data)
    (one, two) = maps(result, "probability")
    viewer.layers.selection = {two, one}
    file, _ = viewer.layers.save(tmp_path / "p.tif", selected=True, plugin=PLUGIN)
    assert np.array_equal(tifffile.imread(file), np.stack([one.data, two.data]))
    file, _ = layer.save(tmp_path / "copy.png", plugin=PLUGIN)
    assert np.array_equal(np.asarray(PIL.Image.open(file)), colours)
