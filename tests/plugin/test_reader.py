"""Napari opens medical images through the reader: ours, upright, all or nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import npe2
import numpy as np
import PIL.Image
import pytest
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.plugin import reader as reader_module
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.place import TURN
from napari_medvlseg.plugin.reader import NO_LAYERS, PLUGIN, get_reader, read_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    WriteDicom = Callable[..., Any]

MANIFEST = Path(reader_module.__file__).parent.parent / "napari.yaml"
VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture(autouse=True)
def _no_window_of_an_earlier_test() -> None:
    """Hide what is still being closed: with a window the user would be asked."""
    if QApplication.instance() is not None:
        for widget in QApplication.topLevelWidgets():
            widget.hide()


@pytest.fixture(scope="module")
def manager() -> npe2.PluginManager:
    """Return a plugin manager of its own that knows our manifest alone."""
    manager = npe2.PluginManager()
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    return manager


def save_nifti(path: Path) -> Path:
    image = nib.Nifti1Image(VOLUME, np.diag([0.5, 0.7, 3, 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def save_picture(path: Path) -> Path:
    PIL.Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(path)
    return path


def write_series(write: WriteDicom, folder: Path, count: int, **elements: Any) -> None:
    for k in range(count):
        place = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0.0, 0.0, 2.0 * k],
            "PixelSpacing": [0.7, 0.5],
            "PatientName": "Doe^Jane",
        }
        name = f"{elements.get('SeriesNumber', 1)}_{k}.dcm"
        write(folder / name, VOLUME[0] + k, **{**place, **elements})


def names(layers: list[Any]) -> list[str]:
    return [choices["name"] for _, choices, _ in layers]


@pytest.mark.parametrize(
    "name",
    [
        *("a.nii", "A.NII.GZ", "a.dcm", "a.dicom", "a.nrrd", "a.nhdr", "a.mha"),
        *("a.mhd", "a.png", "a.jpg", "a.JPEG", "a.bmp", "a.tif", "a.tiff"),
        *("IM0001", "I0000012", "IMG00021", "1.2.840.113619.2.5", "1.3.12.2.1107.5"),
        *("2.25.329", "MR.1.2.840.7"),
    ],
)
def test_the_manifest_claims(manager: npe2.PluginManager, name: str) -> None:
    claimed = {one.plugin_name for one in manager.iter_compatible_readers(name)}
    assert PLUGIN in claimed


@pytest.mark.parametrize(
    "name",
    ["a.zarr", "a.csv", "a.npy", "a.gz", "a.czi", "scan.h5", "movie.mp4", "notes"],
)
def test_the_manifest_leaves_to_others(manager: npe2.PluginManager, name: str) -> None:
    claimed = {one.plugin_name for one in manager.iter_compatible_readers(name)}
    assert PLUGIN not in claimed


def test_files_without_a_suffix_are_ours_if_they_begin_as_dicom(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    (tmp_path / "IM0001").write_bytes(b"\0" * 300)
    write_dicom(tmp_path / "IM0002", VOLUME[0])
    assert get_reader(str(tmp_path / "IM0001")) is None
    assert get_reader(str(tmp_path / "IM0002")) is read_layers


def test_folders_are_ours_if_they_hold_dicom(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    (tmp_path / "image.zarr").mkdir()
    (tmp_path / "image.zarr" / ".zgroup").write_text("{}")
    save_picture(tmp_path / "image.zarr" / "a.png")
    assert get_reader(str(tmp_path / "image.zarr")) is None
    write_dicom(tmp_path / "study" / "a.dcm", VOLUME[0])
    assert get_reader(str(tmp_path / "study")) is read_layers
    assert get_reader(str(tmp_path)) is read_layers


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    volume = str(save_nifti(tmp_path / "a.nii"))
    assert get_reader("https://example.org/a.nii.gz") is None
    assert get_reader([]) is None
    assert get_reader([volume, volume]) is None
    assert get_reader([volume]) is read_layers
    assert get_reader(str(tmp_path / "a.csv")) is None


def test_a_stack_of_pictures_is_one_layer(tmp_path: Path) -> None:
    paths = [str(save_picture(tmp_path / f"{k}.png")) for k in range(3)]
    assert get_reader(paths) is read_layers
    ((data, choices, kind),) = read_layers(paths)
    assert (data.shape, kind) == ((3, 4, 5), "image")
    assert choices["axis_labels"] == ("slice", "row", "column")


def test_a_stack_of_dicom_files_is_their_series(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_series(write_dicom, tmp_path, 3)
    paths = [str(path) for path in tmp_path.iterdir()]
    assert get_reader(paths) is read_layers
    ((data, _, _),) = read_layers(paths)
    assert data.shape == (3, 4, 5)


def test_without_a_window_all_stacks_of_a_folder_are_opened(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for number, count in ((1, 1), (2, 3), (3, 2)):
        uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number}
        write_series(write_dicom, tmp_path, count, **uid)
    layers = read_layers(str(tmp_path))
    assert names(layers) == ["CT series 2", "CT series 3"]
    assert [choices["metadata"][KEY]["series"] for _, choices, _ in layers] == [2, 3]
    assert "Doe" not in str([choices for _, choices, _ in layers])


def test_scouts_are_passed_over_where_there_is_a_volume(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_series(write_dicom, tmp_path, 3, SeriesNumber=2)
    scout = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 1}
    write_series(write_dicom, tmp_path / "a", 1, **scout)
    frontal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    write_series(write_dicom, tmp_path / "b", 1, **scout, **frontal)
    (tmp_path / "a" / "1_0.dcm").rename(tmp_path / "1_0.dcm")
    (tmp_path / "b" / "1_0.dcm").rename(tmp_path / "1_1.dcm")
    assert names(read_layers(str(tmp_path))) == ["CT series 2"]


def test_of_a_study_nothing_is_opened_if_a_slice_is_missing(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for number in (1, 2):
        uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number}
        write_series(write_dicom, tmp_path, 4, **uid)
    (tmp_path / "2_1.dcm").unlink()
    with pytest.raises(GeometryError, match="1 missing"):
        read_layers(str(tmp_path))


def test_the_viewer_shows_a_volume_in_its_place(tmp_path: Path, viewer: Any) -> None:
    path = save_nifti(tmp_path / "a.nii.gz")
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    assert layer.name == "a"
    assert layer.source.reader_plugin == PLUGIN
    for index in np.ndindex(layer.data.shape):
        ras = (TURN @ [*layer.data_to_world(index), 1])[:3]
        stored = np.rint(ras / (0.5, 0.7, 3)).astype(int)
        np.testing.assert_allclose(ras, stored * (0.5, 0.7, 3), rtol=0, atol=1e-6)
        assert layer.data[index] == VOLUME[tuple(stored)]


def test_a_damaged_file_opens_nothing_and_says_so_in_a_sentence(
    tmp_path: Path, viewer: Any
) -> None:
    path = save_nifti(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UnsupportedFormatError, match="may be damaged"):
        viewer.open(str(path), plugin=PLUGIN)
    assert len(viewer.layers) == 0


def test_the_sentence_is_shown_where_napari_would_hide_it(
    tmp_path: Path, viewer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert viewer is not None
    path = tmp_path / "a.nii"
    path.write_bytes(b"no image")
    notification_manager.records.clear()
    with pytest.raises(UnsupportedFormatError):
        read_layers(str(path))
    assert notification_manager.records == []
    get_settings().plugins.extension2reader = {"*.nii": PLUGIN}
    with caplog.at_level(logging.CRITICAL), pytest.raises(UnsupportedFormatError):
        read_layers(str(path))
    (record,) = notification_manager.records
    assert "may be damaged" in str(record.message)


def test_a_tilted_gantry_is_told_where_there_is_a_window(
    tmp_path: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(write_dicom, tmp_path, 2)
    tilted = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 9}
    for k in range(2):
        place = {"ImagePositionPatient": [0.0, 1.0 * k, 2.0 * k], **tilted}
        write_series(write_dicom, tmp_path / str(k), 1, **place)
        (tmp_path / str(k) / "9_0.dcm").rename(tmp_path / f"9_{k}.dcm")
    notification_manager.records.clear()
    read_layers(str(tmp_path))
    assert notification_manager.records == []
    monkeypatch.setattr(reader_module, "_has_window", lambda: True)
    with reader_module.only_series([3, 9]):
        assert len(read_layers(str(tmp_path))) == 2
    (record,) = notification_manager.records
    assert record.message.startswith("CT series 9: the gantry was tilted by 26.57 deg")


@pytest.mark.usefixtures("qtbot")
def test_with_a_window_the_user_chooses_and_may_cancel(
    tmp_path: Path,
    write_dicom: WriteDicom,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    monkeypatch.setattr(reader_module, "_has_window", lambda: True)
    for number, count in ((1, 1), (2, 3), (3, 2)):
        uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number}
        write_series(write_dicom, tmp_path, count, **uid)

    def answer(*, accept: bool) -> None:
        dialog: Any = QApplication.activeModalWidget()
        dialog.accept() if accept else dialog.reject()

    QTimer.singleShot(0, lambda: answer(accept=True))
    assert names(read_layers(str(tmp_path))) == ["CT series 2"]
    QTimer.singleShot(0, lambda: answer(accept=False))
    assert read_layers(str(tmp_path)) == NO_LAYERS
