"""Which layers the viewer's writers take, under which names; what they refuse."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import npe2
import numpy as np
import PIL.Image
import pytest
from napari.components import ViewerModel
from napari.plugins._npe2 import file_extensions_string_for_layers

from napari_medvlseg.core.errors import (
    GeometryError,
    ImageError,
    MedVLSegError,
    OutputError,
    UnsupportedFormatError,
)
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.reader import PLUGIN
from tests.plugin.saving import maps, opened, save_oblique_series, segmented
from tests.plugin.test_writer import OBLIQUE, save_nifti

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.usefixtures("writers"),
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning"),
    pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning"),
]


def result_of_volume(folder: Path, *prompts: str) -> tuple[ViewerModel, Any, Any]:
    viewer, layer = opened(save_nifti(folder / "ct.nii.gz", OBLIQUE))
    return viewer, layer, segmented(viewer, layer, *prompts)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "types", "command"),
    [
        ("a.tif", ["image"], "napari.write_image"),
        ("a.png", ["image"], "napari.write_image"),
        ("a.tif", ["labels"], "napari.write_labels"),
        ("a.TIFF", ["labels"], "napari.write_labels"),
        ("a", ["labels"], "napari.write_labels"),
        ("folder", ["labels", "image"], "napari.write_directory"),
        ("a.csv", ["points"], "napari.write_points"),
        ("a.npz", ["labels"], "napari.write_labels"),
        ("a.nii.gz", ["labels"], "napari-medvlseg.write_nifti"),
        ("a.NII", ["image", "image", "labels"], "napari-medvlseg.write_nifti"),
        ("a.nrrd", ["image"], "napari-medvlseg.write_nrrd"),
        ("a.dcm", ["labels"], "napari-medvlseg.write_dicom_seg"),
    ],
)
def test_naparis_own_files_stay_naparis(
    writers: Any, name: str, types: list[str], command: str
) -> None:
    writer, _ = writers.get_writer(name, types)
    assert writer.command == command


def test_layers_of_other_kinds_are_left_to_others(writers: Any) -> None:
    for kind in ("points", "shapes", "surface", "tracks", "vectors"):
        found = writers.iter_compatible_writers(["labels", kind])
        assert not [one for one in found if one.plugin_name == PLUGIN]


def test_the_dialog_names_our_file_types() -> None:
    viewer = ViewerModel()
    viewer.add_labels(np.zeros((4, 5), int))
    told, _ = file_extensions_string_for_layers(viewer.layers)
    assert told is not None
    entries = told.split(";;")
    assert entries[0].startswith("napari")
    assert "MedVLSeg NIfTI (*.nii.gz *.nii)" in entries
    assert "MedVLSeg DICOM-SEG (*.dcm)" in entries
    assert "MedVLSeg TIFF, PNG (*.tif *.tiff *.png)" in entries


def test_a_name_without_an_ending_gets_that_of_the_chosen_type(
    tmp_path: Path, writers: Any
) -> None:
    viewer, _, result = result_of_volume(tmp_path)
    viewer.layers.selection = {result.mask}
    chosen = {
        one.command.rpartition("_")[2]: one
        for one in writers.iter_compatible_writers(["labels"])
        if one.plugin_name == PLUGIN
    }
    for kind, name in (("nifti", "v1.2.nii.gz"), ("nrrd", "v1.2.nrrd")):
        place = tmp_path / "v1.2"
        file, _ = viewer.layers.save(place, selected=True, _writer=chosen[kind])
        assert Path(file).name == name
    typed = tmp_path / "b.nrrd"
    file, _ = viewer.layers.save(typed, selected=True, _writer=chosen["nifti"])
    assert file == str(typed)


def test_several_runs_and_layers_have_names_of_their_own(tmp_path: Path) -> None:
    viewer, layer, first = result_of_volume(tmp_path, "bright blob")
    second = segmented(viewer, layer, "bright blob", samples=3)
    viewer.layers.selection = {layer, first.mask, *second.layers}
    out = tmp_path / "out"
    files = viewer.layers.save(out / "s.nrrd", selected=True, plugin=PLUGIN)
    assert left(out) == sorted(Path(file).name for file in files)
    kinds = ("labels", "predictive_entropy", "probability")
    assert {f"s-2_{kind}.nrrd" for kind in kinds} < set(left(out))
    assert {"s_labels.nrrd", "s.json", "s-2.json", "s_ct.nrrd"} < set(left(out))
    samples = [
        json.loads((out / name).read_text("utf-8"))["provenance"]["num_samples"]
        for name in ("s.json", "s-2.json")
    ]
    assert samples == [2, 3]


def test_maps_that_dicom_cannot_hold_become_nifti_beside_it(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    viewer, layer = opened(save_oblique_series(write_dicom, tmp_path / "series"))
    result = segmented(viewer, layer, "bright blob")
    viewer.layers.selection = set(result.layers)
    viewer.layers.save(tmp_path / "out" / "s.dcm", selected=True, plugin=PLUGIN)
    assert left(tmp_path / "out") == [
        *("s.json", "s_expected_entropy.nii.gz", "s_labels.dcm"),
        *("s_mutual_information.nii.gz", "s_predictive_entropy.nii.gz"),
        "s_probability.dcm",
    ]
    (entropy,) = maps(result, "predictive_entropy")
    with pytest.raises(UnsupportedFormatError, match="a probability for DICOM-SEG"):
        entropy.save(tmp_path / "e.dcm", plugin=PLUGIN)


def test_a_layer_whose_place_is_unknown_is_refused(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).random((3, 8, 9)), name="mine")
    labels = viewer.add_labels(np.ones((3, 8, 9), int))
    for layer in (image, labels):
        with pytest.raises(GeometryError, match="whose place MedVLSeg knows"):
            layer.save(tmp_path / "a.nii.gz", plugin=PLUGIN)
    result = segmented(viewer, image)
    with pytest.raises(GeometryError, match=r"place is known.*'mine'; save it as"):
        result.mask.save(tmp_path / "a.nii.gz", plugin=PLUGIN)
    assert not left(tmp_path)
    result.mask.save(tmp_path / "a.tif", plugin=PLUGIN)


def test_a_spacing_without_a_place_claims_no_place(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    pixels = np.arange(20, dtype=np.int16).reshape(4, 5)
    write_dicom(tmp_path / "xray.dcm", pixels, ImagerPixelSpacing=[0.2, 0.3])
    viewer, layer = opened(tmp_path / "xray.dcm")
    result = segmented(viewer, layer, whole=False)
    for made in (layer, result.mask):
        assert made.metadata[KEY]["units"] == "pixel"
    result.mask.save(tmp_path / "m.tif", plugin=PLUGIN)
    told = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert told["units"] == "mm"
    assert "affine" not in told["geometry"]
    assert told["geometry"]["spacing_mm"] == pytest.approx([0.3, 0.2])
    assert told["prompts"][0]["labelled_mm2"] == pytest.approx(
        0.06 * told["prompts"][0]["labelled_pixels"]
    )


def test_what_png_cannot_hold_is_refused(tmp_path: Path) -> None:
    viewer, layer, result = result_of_volume(tmp_path)
    for made in (result.mask, maps(result, "probability")[0], layer):
        with pytest.raises(UnsupportedFormatError, match=r"for PNG, got .* of shape"):
            made.save(tmp_path / "a.png", plugin=PLUGIN)
    slice_ = segmented(viewer, layer, "bright blob", whole=False)
    file, _ = slice_.mask.save(tmp_path / "a.png", plugin=PLUGIN)
    assert slice_.segmentation is not None
    assert np.array_equal(np.asarray(PIL.Image.open(file)), slice_.segmentation.labels)


def test_dicom_seg_wants_the_dicom_that_was_opened(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    viewer, _, result = result_of_volume(tmp_path)
    with pytest.raises(UnsupportedFormatError, match="got another kind; choose"):
        result.mask.save(tmp_path / "a.dcm", plugin=PLUGIN)
    folder = save_oblique_series(write_dicom, tmp_path / "series")
    viewer, layer = opened(folder)
    result = segmented(viewer, layer)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UnsupportedFormatError, match="got nothing there; choose"):
        result.mask.save(tmp_path / "a.dcm", plugin=PLUGIN)
    assert left(tmp_path) == ["ct.nii.gz", "elsewhere"]
    result.mask.save(tmp_path / "a.nii.gz", plugin=PLUGIN)  # needs no source


def test_dicom_seg_finds_the_series_in_a_folder_of_the_one_that_was_opened(
    tmp_path: Path, write_dicom: Callable[..., Any]
) -> None:
    save_oblique_series(write_dicom, tmp_path / "study" / "series")
    viewer, layer = opened(tmp_path / "study")
    result = segmented(viewer, layer)
    result.mask.save(tmp_path / "a.dcm", plugin=PLUGIN)
    assert left(tmp_path) == ["a.dcm", "a.json", "study"]


def test_a_large_image_that_has_moved_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medvlseg.core.io.opened.LAZY_FROM_BYTES", 0)
    _, layer = opened(save_nifti(tmp_path / "ct.nii", OBLIQUE))
    assert hasattr(layer.data, "compute")
    (tmp_path / "ct.nii").rename(tmp_path / "moved.nii")
    with pytest.raises(ImageError, match="ct: expected to read its voxels, got"):
        layer.save(tmp_path / "copy.nrrd", plugin=PLUGIN)
    assert left(tmp_path) == ["moved.nii"]


def test_a_full_disk_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, _, result = result_of_volume(tmp_path)

    def refuse(_: Any, path: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_filename", refuse)
    viewer.layers.selection = set(result.layers)
    with pytest.raises(OutputError, match="No space left on device"):
        viewer.layers.save(tmp_path / "o" / "a.nii", selected=True, plugin=PLUGIN)
    assert left(tmp_path) == ["ct.nii.gz"]


def test_the_image_and_what_is_not_ours_are_never_replaced(tmp_path: Path) -> None:
    viewer, _, result = result_of_volume(tmp_path)
    before = (tmp_path / "ct.nii.gz").read_bytes()
    with pytest.raises(OutputError, match="got that of the image"):
        result.mask.save(tmp_path / "ct.nii.gz", plugin=PLUGIN)
    assert (tmp_path / "ct.nii.gz").read_bytes() == before
    (tmp_path / "m.json").write_text('{"RepetitionTime": 2}', encoding="utf-8")
    with pytest.raises(OutputError, match=r"m.json: expected no file, or the JSON of"):
        result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)
    (tmp_path / "m.json").unlink()
    result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)
    result.mask.save(tmp_path / "m.nii.gz", plugin=PLUGIN)  # the user was asked
    viewer.layers.selection = set(result.layers)
    (tmp_path / "s_labels.nii.gz").touch()
    with pytest.raises(OutputError, match=r"s_labels.nii.gz: exists; choose another"):
        viewer.layers.save(tmp_path / "s.nii.gz", selected=True, plugin=PLUGIN)
    assert left(tmp_path) == ["ct.nii.gz", "m.json", "m.nii.gz", "s_labels.nii.gz"]


def test_an_error_reaches_the_user_through_npe2(tmp_path: Path) -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.ones((8, 9), int))
    with pytest.raises(MedVLSegError):
        npe2.write(str(tmp_path / "a.nrrd"), [layer])
