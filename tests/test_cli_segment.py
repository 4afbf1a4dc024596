from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
import tifffile
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from napari_medvlseg import cli_segment
from napari_medvlseg.cli import main
from napari_medvlseg.core.io.write import MAPS
from napari_medvlseg.core.predictor import Predictor

pytestmark = pytest.mark.usefixtures("loaded_once")

PROMPT = ["--prompt", "skin lesion in the dermatoscopy image"]
QUICK = ["--samples", "2", "--device", "cpu"]


def save_picture(path: Path, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Pillow.fromarray(pixels).save(path)
    return path


def one_line(captured: str) -> str:
    lines = captured.strip().splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("medvlseg: error: ")
    return lines[0]


def test_a_picture_gives_files_lines_and_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "spot.jpg")
    log = tmp_path / "log.txt"
    assert main(["segment", str(path), *PROMPT, *QUICK, "--log", str(log)]) == 0
    folder = tmp_path / "medvlseg-output"
    with Pillow.open(folder / "spot_labels.png") as labels:
        assert labels.size == (50, 40)
    for name in MAPS:
        values = tifffile.imread(folder / f"spot_{name}.tif")
        assert values.shape == (40, 50)
        assert values.dtype == np.float32
    told = json.loads((folder / "spot.json").read_text("utf-8"))
    assert told["provenance"]["num_samples"] == 2
    assert told["provenance"]["model"] == "compact"
    captured = capsys.readouterr()
    assert "skin lesion" in captured.out
    assert "spot.jpg" in captured.err  # the progress bar
    assert "segmenting" in log.read_text("utf-8")


def test_a_second_run_refuses_to_overwrite_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "a.png")
    command = ["segment", str(path), *PROMPT, *QUICK]
    assert main(command) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "medvlseg-output").iterdir()}
    capsys.readouterr()
    assert main(command) == 2
    assert "--overwrite" in one_line(capsys.readouterr().err)
    assert all(p.stat().st_mtime_ns == mtime for p, mtime in before.items())
    assert main([*command, "--overwrite"]) == 0


def test_several_images_and_prompts_and_one_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture(tmp_path / "x" / "a.png")
    save_picture(tmp_path / "y" / "a.png")
    (tmp_path / "y" / "bad.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    two = ["--prompt", "polyp", "--prompt", "left lung"]
    where = [
        str(tmp_path / "x"),
        str(tmp_path / "y" / "*.png"),
        "--output",
        str(output),
    ]
    assert main(["segment", *where, *two, *QUICK]) == 2
    assert "bad.png: cannot be read" in capsys.readouterr().err
    assert tifffile.imread(output / "x_a_probability.tif").shape == (2, 40, 50)
    assert (output / "y_a.json").is_file()


def test_one_slice_of_a_volume_is_segmented_on_the_volumes_grid(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).random((12, 14, 5)).astype(np.float32)
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "mr.nii.gz")
    arguments = ["--slice", "3", "--axis", "2", "--threshold", "0", "--no-tile"]
    where = [str(tmp_path / "mr.nii.gz"), "--output", str(tmp_path)]
    assert main(["segment", *where, *PROMPT, *QUICK, *arguments]) == 0
    saved = nib.nifti1.load(tmp_path / "mr_probability.nii.gz")
    assert saved.shape == voxels.shape
    assert np.allclose(saved.affine, affine)
    touched = np.asarray(saved.dataobj).any(axis=(0, 1))
    assert touched.tolist() == [False, False, False, True, False]


def test_a_prompt_in_another_script_and_an_absent_slice_are_mendable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "a.png")
    assert main(["segment", str(path), "--prompt", "опухоль", *QUICK]) == 2
    one_line(capsys.readouterr().err)
    assert main(["segment", str(path), *PROMPT, *QUICK, "--slice", "7"]) == 2
    assert f"{path}: expected slice 0" in capsys.readouterr().err
    assert not (tmp_path / "medvlseg-output").exists()


def test_an_image_deleted_after_it_was_named_is_mendable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [save_picture(tmp_path / name) for name in ("a.png", "b.png")]
    original = cli_segment.describe_result

    def delete_the_next(found: Any) -> list[str]:
        paths[1].unlink(missing_ok=True)
        return original(found)

    monkeypatch.setattr(cli_segment, "describe_result", delete_the_next)
    assert main(["segment", *map(str, paths), *PROMPT, *QUICK]) == 2
    assert "b.png: expected an image file, found nothing" in capsys.readouterr().err
    assert (tmp_path / "medvlseg-output" / "a.json").is_file()


def test_a_metaimage_gives_nrrd_on_its_own_grid(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (2, 40, 50), dtype=np.uint8)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 0.5, 4))
    image.SetOrigin((10, -20, 30))
    sitk.WriteImage(image, str(tmp_path / "us.mha"))
    assert main(["segment", str(tmp_path / "us.mha"), *PROMPT, *QUICK]) == 0
    for name in ("labels", *MAPS):
        path = tmp_path / "medvlseg-output" / f"us_{name}.nrrd"
        saved = sitk.ReadImage(str(path))
        assert saved.GetSize() == image.GetSize()
        assert np.allclose(saved.GetOrigin(), image.GetOrigin())
        assert np.allclose(saved.GetSpacing(), image.GetSpacing())
        assert np.allclose(saved.GetDirection(), image.GetDirection())


def test_dicom_gives_a_segmentation_that_refers_to_it(tmp_path: Path) -> None:
    path = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    where = ["--output", str(tmp_path), "--format", "dicom-seg", "--threshold", "0.01"]
    assert main(["segment", str(path), *where, *PROMPT, *QUICK]) == 0
    source = pydicom.dcmread(path)
    for name in ("labels", "probability"):
        seg = pydicom.dcmread(tmp_path / f"CT_small_{name}.dcm")
        assert seg.SegmentSequence[0].SegmentLabel == PROMPT[1]
        (told,) = seg.SourceImageSequence
        assert told.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert seg.pixel_array.shape == source.pixel_array.shape
    assert (tmp_path / "CT_small_mutual_information.tif").is_file()


def test_a_format_that_an_image_cannot_have_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "a.png")
    asked = ["segment", str(path), *PROMPT, *QUICK, "--format"]
    assert main([*asked, "dicom-seg"]) == 2
    assert "expected DICOM for DICOM-SEG to refer to" in one_line(
        capsys.readouterr().err
    )
    assert not (tmp_path / "medvlseg-output").exists()
    assert main([*asked, "nifti"]) == 0
    saved = nib.nifti1.load(tmp_path / "medvlseg-output" / "a_labels.nii.gz")
    assert saved.shape == (50, 40)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "a.png")
    (tmp_path / "file").touch()
    monkeypatch.setattr(cli_segment, "_segment_one", pytest.fail)
    monkeypatch.setattr(Predictor, "load", pytest.fail)
    output = tmp_path / "file" / "results"
    assert main(["segment", str(path), *PROMPT, "--output", str(output)]) == 2
    assert "cannot write here" in capsys.readouterr().err
    assert {one.name for one in tmp_path.iterdir()} == {"a.png", "file"}
