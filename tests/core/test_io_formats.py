"""Every kind of image to every format: each voxel keeps its place in mm."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
import tifffile

from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, write
from napari_medvlseg.core.palette import PALETTE
from napari_medvlseg.core.types import Image, Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]

Array = npt.NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")

LPS = np.diag([-1.0, -1, 1, 1])
OBLIQUE = np.array(
    [[0.8, 0.36, 0, -12], [-0.6, 0.48, 2.0, 7], [0, -0.8, 1.5, 30], [0, 0, 0, 1.0]]
)
OBLIQUE[:3, :3] *= (0.5, 0.7, 1.0)
"""Sheared too: no rotation tells it."""
TURN = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
VOLUMES = ("ct.nii.gz", "series", "itk.mha", "ct.nrrd")


def save_source(folder: Path, name: str, write_dicom: WriteDicom) -> Path:
    """Write an image of 7 x 5 x 4 voxels on an oblique grid, by another library."""
    path = folder / name
    voxels = np.arange(140, dtype=np.int16).reshape(7, 5, 4)
    if name.endswith(".nii.gz"):
        nifti = nib.Nifti1Image(voxels, OBLIQUE)
        nifti.header.set_xyzt_units("mm")
        nib.save(nifti, path)
    elif name.endswith(".nrrd"):
        lps = LPS @ OBLIQUE
        fields = {"space": "left-posterior-superior"}
        told = {"space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
        nrrd.write(str(path), voxels, {**fields, **told})
    elif name.endswith(".mha"):
        image = sitk.GetImageFromArray(voxels.T)
        image.SetSpacing((0.5, 0.7, 2.5))
        image.SetOrigin((12, -7, 30))
        image.SetDirection(np.column_stack([TURN[:3], TURN[3:], normal()]).ravel())
        sitk.WriteImage(image, str(path))
    else:
        for k in range(4):
            place = np.array([-12.5, 30, 7]) + 2.5 * k * normal()
            write_dicom(
                path / f"{k}.dcm",
                voxels[:, :, k].T,
                ImageOrientationPatient=list(TURN),
                ImagePositionPatient=[round(float(x), 8) for x in place],
                PixelSpacing=[0.7, 0.5],
            )
    return path


def normal() -> Array:
    return np.cross(TURN[:3], TURN[3:])


def segmented(image: Image, prompts: int = 2) -> Segmentation:
    shape = image.spatial_shape
    probability = np.random.default_rng(0).random((prompts, *shape)).astype(np.float32)
    labels = np.arange(np.prod(shape)).reshape(shape) % 200
    maps: dict[str, Any] = dict.fromkeys(MAPS, probability)
    return Segmentation(
        prompts=tuple(f"prompt \N{GREEK SMALL LETTER MU} {i}" for i in range(prompts)),
        labels=labels.astype(np.uint8),
        affine=image.affine,
        units=image.units,
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={},
        **maps,
    )


def from_nibabel(path: Path) -> list[tuple[Array, Array]]:
    nifti = nib.nifti1.load(path)
    values = np.asarray(nifti.dataobj)
    forms = [nifti.get_sform()]
    if int(nifti.header["qform_code"]):
        forms.append(nifti.get_qform())
    return [(values, np.asarray(form)) for form in forms]


def from_itk(path: Path) -> list[tuple[Array, Array]]:
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    turn = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = turn * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return [(sitk.GetArrayFromImage(image).T, LPS @ affine)]


def from_pynrrd(path: Path) -> list[tuple[Array, Array]]:
    values, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3] = header["space directions"].T
    affine[:3, 3] = header["space origin"]
    return [(values, LPS @ affine)]


def from_tiff(path: Path) -> list[tuple[Array, Array]]:
    """Pages are slices; the JSON says where."""
    stem = path.name.removesuffix("_labels.tif")
    told = json.loads(path.with_name(f"{stem}.json").read_text("utf-8"))
    assert told["geometry"]["axes"] == ["column", "row", "slice"]
    return [(tifffile.imread(path).T, np.array(told["geometry"]["affine"]))]


def check_every_voxel(
    image: Image, labels: Array, values: Array, affine: Array
) -> None:
    """Look each voxel of a file up in the image, at its place in mm."""
    assert values.size == labels.size
    there = np.linalg.inv(image.affine) @ affine
    edges = np.linalg.norm(image.affine[:3, :3], axis=0)
    for index in itertools.product(*map(range, values.shape)):
        at = (there @ [*index, 1])[:3]
        nearest = np.round(at)
        assert (np.abs(at - nearest) * edges).max() < 1e-3
        assert values[index] == labels[tuple(nearest.astype(int))]


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("kind", ["nifti", "nrrd", "tiff"])
def test_a_volume_keeps_each_voxel_in_its_place_in_every_format(
    tmp_path: Path, write_dicom: WriteDicom, name: str, kind: str
) -> None:
    path = save_source(tmp_path, name, write_dicom)
    image = read(path)
    found = segmented(image)
    write(found, path, tmp_path / "out", stem="s", file_format=kind)
    readers, ending = {
        "nifti": ([from_nibabel, from_itk], ".nii.gz"),
        "nrrd": ([from_pynrrd, from_itk], ".nrrd"),
        "tiff": ([from_tiff], ".tif"),
    }[kind]
    for reader in readers:
        if reader is from_itk and name in ("ct.nii.gz", "ct.nrrd"):
            continue  # ITK knows no shear
        for values, affine in reader(tmp_path / "out" / f"s_labels{ending}"):
            check_every_voxel(image, found.labels, values, affine)
    maps = read_maps(tmp_path / "out" / f"s_probability{ending}")  # (i, j, k, P)
    slices_last = name in ("ct.nii.gz", "series")
    ours = found.probability if slices_last else found.probability.transpose(0, 3, 2, 1)
    assert np.array_equal(maps, np.moveaxis(ours, 0, -1))


def read_maps(path: Path) -> Array:
    if path.name.endswith(".nii.gz"):
        return np.asarray(nib.nifti1.load(path).dataobj)
    if path.suffix == ".nrrd":
        return np.asarray(nrrd.read(str(path))[0])
    return np.asarray(tifffile.imread(path).T)


def test_a_tiff_in_mm_tells_its_spacing_and_its_prompts(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    path = save_source(tmp_path, "series", write_dicom)
    write(segmented(read(path)), path, tmp_path, stem="s", file_format="tiff")
    with tifffile.TiffFile(tmp_path / "s_probability.tif") as tiff:
        assert tiff.series[0].axes == "CZYX"
        assert tiff.ome_metadata is not None
        described = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        tags = tiff.pages.first.tags
        across = tags["XResolution"].value
        assert across[0] / across[1] == pytest.approx(10 / 0.5)
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
    edges = [described[f"PhysicalSize{letter}"] for letter in "XYZ"]
    assert edges == pytest.approx([0.5, 0.7, 2.5])
    assert {described[f"PhysicalSize{letter}Unit"] for letter in "XYZ"} == {"mm"}
    names = [channel["Name"] for channel in described["Channel"]]
    assert names == ["prompt \N{GREEK SMALL LETTER MU} 0", "prompt \u03bc 1"]
    told = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert (told["format"], told["geometry"]["units"]) == ("tiff", "mm")
    assert "position and orientation are in this affine" in told["geometry"]["note"]
    assert "note" not in json_of(segmented(read(path)), path, tmp_path / "n")


def json_of(found: Segmentation, path: Path, output: Path) -> dict[str, Any]:
    write(found, path, output, stem="s", file_format="nifti")
    told = json.loads((output / "s.json").read_text("utf-8"))
    geometry: dict[str, Any] = told["geometry"]
    return geometry


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "tiff"])
@pytest.mark.parametrize("pages", [1, 3])
def test_a_picture_without_mm_comes_back_without_and_upright(
    tmp_path: Path, kind: str, pages: int
) -> None:
    shape = (5, 7) if pages == 1 else (pages, 5, 7)
    pages_of = np.zeros(shape, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages_of, photometric="minisblack")
    image = read(tmp_path / "a.tif")
    found = segmented(image, prompts=1)
    written = write(found, tmp_path / "a.tif", tmp_path / "out", file_format=kind)
    (labels,) = [path for path in written if "labels" in path.name]
    again = read(labels)
    assert again.units == "pixel"
    values = again.voxels.T if kind == "nifti" else again.voxels
    assert np.array_equal(values, found.labels)
    told = json.loads((tmp_path / "out" / "a.json").read_text("utf-8"))
    assert told["geometry"]["size"] == list(shape[::-1])
    assert "affine" not in told["geometry"]


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_a_flat_dicom_keeps_its_place(
    tmp_path: Path, write_dicom: WriteDicom, kind: str
) -> None:
    save_source(tmp_path, "series", write_dicom)
    path = tmp_path / "series" / "2.dcm"
    image = read(path)
    found = segmented(image, prompts=1)
    write(found, path, tmp_path, stem="s", file_format=kind)
    ending = {"nifti": ".nii.gz", "nrrd": ".nrrd"}[kind]
    again = read(tmp_path / f"s_labels{ending}")
    values = again.voxels.squeeze()
    turned = values if kind == "nrrd" else values.T
    assert np.array_equal(turned, found.labels)
    for corner in ((0, 0), (4, 0), (0, 6), (4, 6)):
        at = corner if kind == "nrrd" else corner[::-1]
        ours = (image.affine @ [*corner, 0, 1])[:3]
        assert np.allclose((again.affine @ [*at, 0, 1])[:3], ours, rtol=0, atol=1e-3)


def test_auto_gives_a_picture_png_labels_and_tiff_asked_for_gives_tiff(
    tmp_path: Path,
) -> None:
    PIL.Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "a.png")
    found = segmented(read(tmp_path / "a.png"))
    names = [path.name for path in write(found, tmp_path / "a.png", tmp_path)]
    assert "a_labels.png" in names
    again = write(
        found, tmp_path / "a.png", tmp_path, file_format="tiff", overwrite=True
    )
    assert "a_labels.tif" in [path.name for path in again]
    assert not (tmp_path / "a_labels.png").exists()
    told = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [prompt["color"] for prompt in told["prompts"]] == list(PALETTE[:2])
    assert [prompt["label"] for prompt in told["prompts"]] == [1, 2]


def test_a_format_that_there_is_not_is_an_error(tmp_path: Path) -> None:
    image = Image(np.zeros((5, 7), np.uint8))
    with pytest.raises(ValueError, match="must be one of auto, nifti"):
        write(segmented(image), tmp_path / "a.png", tmp_path, file_format="jpeg")
