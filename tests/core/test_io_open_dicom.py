"""DICOM series come to the viewer: nested, in time, and frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io import opened as opened_module
from napari_medvlseg.core.io.dicom_files import dicom_folders
from napari_medvlseg.core.io.open import (
    find_series,
    holds_dicom,
    open_image,
    open_series,
)
from napari_medvlseg.core.io.opened import SeriesAxis
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]

VOLUME = np.random.default_rng(0).integers(-900, 900, (4, 5, 7)).astype(np.int16)


def write_volume(
    write: WriteDicom, folder: Path, volume: Any = VOLUME, **elements: Any
) -> None:
    """Write coronal slices in a shuffled order."""
    for name, k in zip("cbda", (2, 0, 3, 1), strict=True):
        place = {
            "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
            "ImagePositionPatient": [3.0, 10.0 + 2.5 * k, -4.0],
            "PixelSpacing": [0.7, 0.5],
            "RescaleIntercept": -24,
        }
        write(folder / f"{name}.dcm", volume[k], **{**place, **elements})


@pytest.fixture(params=["now", "later"])
def lazy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Read files as small or as large ones."""
    if request.param == "later":
        monkeypatch.setattr(opened_module, "LAZY_FROM_BYTES", 0)
    return bool(request.param == "later")


def test_a_series_is_what_the_core_reads(
    tmp_path: Path, write_dicom: WriteDicom, *, lazy: bool
) -> None:
    write_volume(write_dicom, tmp_path)
    (series,) = find_series([tmp_path])
    opened, wanted = open_series(series), read(tmp_path)
    assert isinstance(opened.voxels, da.Array) == lazy
    np.testing.assert_array_equal(np.asarray(opened.voxels), wanted.voxels.T)
    assert (opened.name, opened.facts) == (wanted.name, wanted.facts)
    for index in ((0, 0, 0), (6, 4, 3), (2, 1, 0)):
        np.testing.assert_allclose(
            opened.affine @ [*index[::-1], 1], wanted.affine @ [*index, 1], atol=1e-9
        )


def test_frames_are_decoded_when_they_are_looked_at(
    tmp_path: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_module, "LAZY_FROM_BYTES", 0)
    write_volume(write_dicom, tmp_path)
    (series,) = find_series([tmp_path])
    opened = open_series(series)
    write_volume(write_dicom, tmp_path, VOLUME + 100)
    np.testing.assert_array_equal(np.asarray(opened.voxels[2]), VOLUME[2] + 76)


def frame_group(k: int, time: int) -> Dataset:
    """Return the functional groups of an enhanced frame."""
    position, content, group = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [0.0, 0.0, 2.0 * k]
    content.TemporalPositionIndex = time + 1
    group.PlanePositionSequence = [position]
    group.FrameContentSequence = [content]
    return group


def test_an_enhanced_file_of_volumes_in_time_is_opened(
    tmp_path: Path, write_dicom: WriteDicom, *, lazy: bool
) -> None:
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.5]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    order = [(k, time) for k in (1, 0) for time in (2, 0, 1)]
    frames = np.stack([np.full((5, 7), 10 * time + k, np.int16) for k, time in order])
    write_dicom(
        tmp_path / "cine.dcm",
        frames,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[frame_group(k, t) for k, t in order],
    )
    opened = open_image(tmp_path / "cine.dcm")
    assert isinstance(opened.voxels, da.Array) == lazy
    assert opened.series == (SeriesAxis("time"),)
    found = np.asarray(opened.voxels)[:, :, 0, 0].tolist()
    assert found == [[0, 1], [10, 11], [20, 21]]
    with pytest.raises(UnsupportedFormatError, match="time point"):
        read(tmp_path / "cine.dcm")


def test_cardiac_phases_are_sorted_by_their_times(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for phase, milliseconds in ((0, 90.0), (1, 30.0), (2, 60.0)):
        write_volume(
            write_dicom,
            tmp_path / str(phase),
            VOLUME + phase,
            TriggerTime=milliseconds,
        )
    files = [path for phase in "012" for path in (tmp_path / phase).iterdir()]
    (series,) = find_series(files)
    assert (series.shape, series.makes_image) == ((7, 5, 4, 3), True)
    opened = open_series(series)
    assert opened.series == (SeriesAxis("time", 30.0, "ms"),)
    for time, phase in enumerate((1, 2, 0)):
        np.testing.assert_array_equal(opened.voxels[time], VOLUME + phase - 24)


def test_b_values_are_no_times(tmp_path: Path, write_dicom: WriteDicom) -> None:
    for number, b_value in enumerate((800.0, 0.0)):
        folder = tmp_path / str(number)
        write_volume(write_dicom, folder, VOLUME + number, DiffusionBValue=b_value)
    files = [path for number in "01" for path in (tmp_path / number).iterdir()]
    opened = open_series(find_series(files)[0])
    assert opened.series == (SeriesAxis("b-value"),)
    np.testing.assert_array_equal(opened.voxels[0], VOLUME + 1 - 24)


def test_copies_of_a_volume_are_still_refused(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for number in "01":
        write_volume(write_dicom, tmp_path / number)
    files = [path for number in "01" for path in (tmp_path / number).iterdir()]
    (series,) = find_series(files)
    assert not series.makes_image
    with pytest.raises(UnsupportedFormatError, match="copies"):
        open_series(series)


def test_a_missing_slice_is_told(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_volume(write_dicom, tmp_path)
    (tmp_path / "a.dcm").unlink()
    (series,) = find_series([tmp_path])
    with pytest.raises(GeometryError, match="1 missing"):
        open_series(series)


@pytest.mark.parametrize(
    "name", ["examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm", "rtdose_1frame.dcm"]
)
def test_films_in_colour_are_the_same_frame_by_frame(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(get_testdata_file(name, download=False))
    if name.startswith("rtdose"):
        with pytest.raises(UnsupportedFormatError, match="dose"):
            open_image(path)
        return
    wanted = open_image(path)
    monkeypatch.setattr(opened_module, "LAZY_FROM_BYTES", 0)
    opened = open_image(path)
    assert isinstance(opened.voxels, da.Array)
    assert opened.is_film
    assert opened.rgb
    np.testing.assert_array_equal(np.asarray(opened.voxels), wanted.voxels)


def test_series_in_folders_of_a_folder_are_found(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_volume(write_dicom, tmp_path / "study" / "a", SeriesNumber=2)
    other = {"SeriesInstanceUID": "1.2.3.9", "SeriesNumber": 1}
    write_volume(write_dicom, tmp_path / "study" / "b", **other)
    (tmp_path / "study" / "notes.txt").write_text("none")
    assert dicom_folders(tmp_path) == [tmp_path / "study" / x for x in "ab"]
    assert {one.number for one in find_series([tmp_path])} == {1, 2}


def test_a_folder_of_other_files_is_passed_over_soon(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.chunk").write_bytes(b"0" * 200)
    (tmp_path / "late.dcm").touch()
    assert not dicom_folders(tmp_path, most_asked=20)
    assert holds_dicom(tmp_path)
    with pytest.raises(UnsupportedFormatError, match="found none"):
        find_series([tmp_path])
