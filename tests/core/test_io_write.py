from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image as Pillow

from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, figures, write, write_text
from napari_medvlseg.core.types import Segmentation

Array = npt.NDArray[Any]
OBLIQUE = np.array(
    [[0.9, 0.1, 0, -12], [-0.1, 0.9, 0.2, 7], [0, -0.3, 2.5, 30], [0, 0, 0, 1]]
)


def segmentation(
    spatial: tuple[int, ...], prompts: int | tuple[str, ...] = 1, **fields: Any
) -> Segmentation:
    texts = (
        tuple(f"prompt {index}" for index in range(prompts))
        if isinstance(prompts, int)
        else prompts
    )
    generator = np.random.default_rng(0)
    maps = {
        name: generator.random((len(texts), *spatial)).astype(np.float32)
        for name in MAPS
    }
    above = maps["probability"].max(axis=0) > 0.5
    labels = (maps["probability"].argmax(axis=0) + 1) * above
    values: dict[str, Any] = {
        "prompts": texts,
        "labels": labels.astype(np.uint8),
        "affine": np.eye(4),
        "threshold": 0.5,
        "min_foreground": 0.0,
        "slice_axis": None,
        "provenance": {"model": "compact", "seed": 3},
    }
    return Segmentation(**{**values, **maps, **fields})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_gives_png_labels_float_maps_and_a_json(tmp_path: Path) -> None:
    result = segmentation((6, 9))
    paths = write(result, Path("scan.1.jpg"), tmp_path / "new" / "out")
    assert [path.name for path in paths] == [
        "scan.1_expected_entropy.tif",
        "scan.1_labels.png",
        "scan.1_mutual_information.tif",
        "scan.1_predictive_entropy.tif",
        "scan.1_probability.tif",
        "scan.1.json",
    ]
    assert names(paths[0].parent) == sorted(path.name for path in paths)
    with Pillow.open(paths[1]) as labels:
        assert labels.mode == "L"
        assert np.array_equal(np.asarray(labels), result.labels)
    for name in MAPS:
        values = tifffile.imread(paths[0].parent / f"scan.1_{name}.tif")
        assert values.dtype == np.float32
        assert np.array_equal(values, getattr(result, name)[0])


def test_more_than_255_labels_are_a_16_bit_png(tmp_path: Path) -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    write(segmentation((15, 20), labels=labels), Path("a.png"), tmp_path)
    with Pillow.open(tmp_path / "a_labels.png") as picture:
        assert np.array_equal(np.asarray(picture), labels)


def test_several_prompts_are_pages_in_order(tmp_path: Path) -> None:
    result = segmentation((6, 9), prompts=3)
    write(result, Path("a.png"), tmp_path)
    with tifffile.TiffFile(tmp_path / "a_probability.tif") as tiff:
        assert len(tiff.pages) == 3
        for index, page in enumerate(tiff.pages):
            assert np.array_equal(page.asarray(), result.probability[index])


def test_a_film_gives_stacks(tmp_path: Path) -> None:
    result = segmentation((4, 6, 9), prompts=2, slice_axis=0)
    write(result, Path("a.tif"), tmp_path)
    assert np.array_equal(tifffile.imread(tmp_path / "a_labels.tif"), result.labels)
    maps = tifffile.imread(tmp_path / "a_mutual_information.tif")
    assert np.array_equal(maps, result.mutual_information)


def test_a_volume_keeps_forms_codes_and_units(tmp_path: Path) -> None:
    source = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), OBLIQUE)
    source.set_sform(OBLIQUE, 4)
    rigid = np.diag([2.0, 3, 4, 1])
    source.set_qform(rigid, 1)
    source.header.set_xyzt_units("mm", "sec")
    nib.save(source, tmp_path / "ct.nii.gz")
    image = read(tmp_path / "ct.nii.gz")
    result = segmentation((4, 5, 6), prompts=2, affine=image.affine, units="mm")
    write(result, tmp_path / "ct.nii.gz", tmp_path)
    for name, shape in {"labels": (4, 5, 6), "probability": (4, 5, 6, 2)}.items():
        saved = nib.nifti1.load(tmp_path / f"ct_{name}.nii.gz")
        assert saved.shape == shape
        assert np.allclose(saved.get_sform(), OBLIQUE, atol=1e-6)
        assert np.allclose(saved.get_qform(), rigid, atol=1e-5)
        assert int(saved.header["sform_code"]) == 4
        assert int(saved.header["qform_code"]) == 1
        assert saved.header.get_xyzt_units() == ("mm", "sec")
    labels = np.asarray(nib.nifti1.load(tmp_path / "ct_labels.nii.gz").dataobj)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, result.labels)
    maps = np.asarray(nib.nifti1.load(tmp_path / "ct_probability.nii.gz").dataobj)
    assert maps.dtype == np.float32
    assert np.array_equal(np.moveaxis(maps, -1, 0), result.probability)


def test_a_volume_in_another_unit_stays_in_it(tmp_path: Path) -> None:
    source = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([5.0, 5, 9, 1]))
    source.header.set_xyzt_units("micron")
    nib.save(source, tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    write(segmentation((4, 5, 6), affine=image.affine), tmp_path / "a.nii", tmp_path)
    assert np.allclose(read(tmp_path / "a_labels.nii.gz").affine, image.affine)
    saved = nib.nifti1.load(tmp_path / "a_labels.nii.gz")
    assert saved.header.get_zooms() == (5.0, 5.0, 9.0)


def test_a_volume_in_mm_that_is_no_nifti_gives_nifti_too(tmp_path: Path) -> None:
    result = segmentation((3, 4, 5), affine=OBLIQUE, units="mm")
    folder = tmp_path / "series.1"
    folder.mkdir()
    paths = write(result, folder, tmp_path)
    assert "series.1_labels.nii.gz" in [path.name for path in paths]
    labels = read(tmp_path / "series.1_labels.nii.gz")
    assert np.array_equal(labels.voxels, result.labels)
    assert np.allclose(labels.affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("shear", [0.0, 0.4])
def test_an_image_that_is_gone_leaves_its_affine(tmp_path: Path, shear: float) -> None:
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    affine[0, 1] = shear
    affine[:3, 3] = [-50, 20, 7]
    result = segmentation((20, 20, 20), affine=affine, units="mm")
    write(result, tmp_path / "gone.nii.gz", tmp_path)
    saved = nib.nifti1.load(tmp_path / "gone_labels.nii.gz")
    assert np.allclose(saved.get_sform(), affine, atol=1e-3)
    assert int(saved.header["qform_code"]) == (0 if shear else 1)
    if not shear:
        assert np.allclose(saved.get_qform(), affine, atol=1e-3)


def test_a_flat_nifti_with_several_prompts_has_them_on_the_fourth_axis(
    tmp_path: Path,
) -> None:
    result = segmentation((6, 9), prompts=2)
    write(result, Path("flat.nii"), tmp_path)
    saved = nib.nifti1.load(tmp_path / "flat_probability.nii.gz")
    assert saved.shape == (6, 9, 1, 2)


def test_a_volume_is_told_in_cubic_millimetres() -> None:
    probability = np.ones((1, 2, 3, 4), dtype=np.float32)
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.7  # a shear changes no volume
    result = segmentation((2, 3, 4), probability=probability, affine=affine, units="mm")
    (told,) = figures(result)["prompts"]
    assert told["volume_mm3"] == pytest.approx(24 * 3)
    assert "area_mm2" not in told


def test_the_json_tells_presence_area_and_means() -> None:
    probability = np.zeros((2, 2, 4), dtype=np.float32)
    probability[0, 0] = [0.9, 0.7, 0.6, 0.1]
    doubt = np.full((2, 2, 4), math.log(2), dtype=np.float32)
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    result = segmentation(
        (2, 4),
        prompts=2,
        probability=probability,
        labels=(probability[0] > 0.5).astype(np.uint8),
        predictive_entropy=doubt,
        affine=affine,
        units="mm",
    )
    told = figures(result)
    first, second = told["prompts"]
    assert (first["present"], second["present"]) == (True, False)
    assert (first["label"], first["pixels"], first["labelled_pixels"]) == (1, 3, 3)
    assert first["area_mm2"] == pytest.approx(3 * 0.5 * 2)
    assert "volume_mm3" not in first
    assert first["mean_probability"] == pytest.approx((0.9 + 0.7 + 0.6) / 3)
    assert first["mean_predictive_entropy"] == pytest.approx(math.log(2))
    assert (second["pixels"], second["mean_probability"]) == (0, None)
    assert told["provenance"] == {"model": "compact", "seed": 3}
    assert told["overlap_fraction"] == 0


def test_too_small_a_find_is_absent_in_the_json() -> None:
    probability = np.zeros((1, 10, 10), dtype=np.float32)
    probability[0, 0, 0] = 1
    result = segmentation((10, 10), probability=probability, min_foreground=0.02)
    assert figures(result)["prompts"][0]["present"] is False


def test_the_json_is_strict_and_holds_other_scripts(tmp_path: Path) -> None:
    write(segmentation((3, 3), prompts=("опухоль",)), Path("a.png"), tmp_path)
    text = (tmp_path / "a.json").read_text("utf-8")
    told = json.loads(text)
    assert "опухоль" in text
    assert told["image"] == "a.png"
    assert told["prompts"][0]["prompt"] == "опухоль"
    assert set(told["files"]) == set(names(tmp_path)) - {"a.json"}


def test_an_earlier_result_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    write(segmentation((3, 3)), Path("a.png"), tmp_path)
    before = (tmp_path / "a_labels.png").read_bytes()
    with pytest.raises(OutputError, match="pass --overwrite"):
        write(segmentation((4, 4)), Path("a.png"), tmp_path)
    assert (tmp_path / "a_labels.png").read_bytes() == before
    write(segmentation((2, 4, 4)), Path("a.tif"), tmp_path, overwrite=True)
    assert "a_labels.png" not in names(tmp_path)
    assert tifffile.imread(tmp_path / "a_labels.tif").shape == (2, 4, 4)


def test_a_stem_may_be_given(tmp_path: Path) -> None:
    write(segmentation((3, 3)), Path("x/a.png"), tmp_path, stem="x_a")
    assert "x_a_labels.png" in names(tmp_path)


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot write here"):
        write(segmentation((3, 3)), Path("a.png"), tmp_path / "out")


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(tifffile, "imwrite", refuse)
    expected = OutputError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(segmentation((3, 3)), Path("a.png"), tmp_path / "x" / "y")
    assert names(tmp_path) == []


FILL = """
    import resource, signal, sys
    from pathlib import Path
    import numpy as np
    from napari_medvlseg.core.errors import OutputError
    from napari_medvlseg.core.io.write import MAPS, write
    from napari_medvlseg.core.types import Segmentation
    image, output, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    size = (300, 300) if image.suffix == ".png" else (60, 60, 40)
    noise = np.random.default_rng(0).random((1, *size)).astype(np.float32)
    result = Segmentation(
        prompts=("a",), labels=(noise[0] > 0.5).astype(np.uint8),
        affine=np.eye(4), threshold=0.5, min_foreground=0, slice_axis=None,
        provenance={}, **dict.fromkeys(MAPS, noise),
    )
    try:
        write(result, image, output)
    except OutputError as error:
        print(error)
"""


def fill(image: str, output: Path, limit: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILL), image, str(output), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
@pytest.mark.parametrize("image", ["a.png", "a.nii.gz"])
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path: Path, image: str) -> None:
    assert "cannot write here" in fill(image, tmp_path / "out", 100_000)
    assert names(tmp_path) == []
    assert fill(image, tmp_path / "out", 0) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
@pytest.mark.parametrize("image", ["a.png", "a.nii.gz"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, image: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        assert "cannot write here" in fill(image, disk, 0)
        assert names(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - on the PATH


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.json", "{}\n")
    assert (tmp_path / "new" / "a.json").read_text("utf-8") == "{}\n"
    (tmp_path / "b.json").mkdir()
    with pytest.raises(OutputError, match="cannot write here"):
        write_text(tmp_path / "b.json", "{}")
