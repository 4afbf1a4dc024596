"""Every command that takes files, given what it cannot use: one sentence, exit code 2.

No model is loaded on the way there, and nothing is left behind.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from napari_medvlseg.cli import main
from napari_medvlseg.core.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("loaded_once")
LONG = "x" * 300
"""Longer than any file system lets a name be."""
HERE = ["--output", "."]
EVALUATE = ["evaluate", "--data", "set"]
CAPTION = ["caption", "a.png", "mask.png", "--class"]
CAPTION_SET = ["caption", "--data", "set", "--output"]
TRAIN = ["train", "--data", "set", "--output"]
TRAIN_3D = ["train", "--preset", "hippocampus-3d", "--output", "run", "--data"]
EXPORT = ["models", "export", "compact", "--output"]


def segment(image: str, *flags: str) -> list[str]:
    return ["segment", image, "--prompt", "polyp", *flags]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pictures, volumes, a data set and what is none of them."""
    place = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    picture = Pillow.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
    mask = Pillow.fromarray((rng.random((40, 50)) > 0.5).astype(np.uint8) * 255)
    for split in ("Train", "Val"):
        for name, image in (("img", picture), ("label", mask)):
            inner = place / "set" / f"{split}_Folder" / name
            inner.mkdir(parents=True)
            image.save(inner / "a.png")
    picture.save(place / "a.png")
    mask.save(place / "mask.png")
    mask.save(place / "a_labels.png")
    volume = rng.random((6, 6, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), place / "v.nii")
    films = np.stack([volume] * 3, axis=-1)
    nib.save(nib.Nifti1Image(films, np.eye(4)), place / "t.nii")
    (place / "bad.nii").write_bytes(b"x" * 400)
    (place / "notes.xyz").write_text("notes")
    (place / "file").touch()
    (place / "empty.png").touch()
    (place / "folder").mkdir()
    return place


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (segment(""), "got an empty one"),
        (segment("folder"), "folder: expected images there, found none"),
        (segment("notes.xyz"), "notes.xyz: expected one of .png"),
        (segment("file/a.png"), "file/a.png: expected an image file, found nothing"),
        (segment("empty.png", "--output", "o"), "empty.png: cannot be read"),
        (segment("bad.nii", "--output", "o"), "bad.nii: cannot be read as NIfTI"),
        (segment("t.nii", "--output", "o"), "t.nii: expected one volume, got a series"),
        (segment(f"{LONG}.png"), "cannot look"),
        (segment("a\0.png"), "cannot look"),
        (segment("~nobody-of-that-name/a.png"), "cannot look"),
        (segment("a.png", "--output", "a.png"), "a_labels.png: exists"),
        (segment("a.png", "--output", "file/o"), "file/o: cannot write here"),
        (segment("a.png", "--output", ""), "expected a path, got an empty one"),
        (segment("a.png", "--output", LONG), "expected a path that can be used"),
        (segment("a.png", "--output", "~nobody-of-that-name"), "expected a path"),
        (
            ["segment", "a_labels.png", *segment("a.png", "--overwrite")[1:], *HERE],
            "a_labels.png: expected a new name for a result of a, got that of an image",
        ),
        (segment("a.png", "--log", "folder"), "cannot write the log"),
        (segment("a.png", "--threshold", "nan"), "threshold must be between 0 and 1"),
        (segment("a.png", "--smooth-slices", "nan"), "smooth-slices must be between"),
        (segment("a.png", "--tolerance", "nan"), "tolerance must be between"),
        (segment("a.png", "--intensity", "LnanW5"), "intensity must be one of"),
        (["segment", "a.png", "--prompt", ""], "expected a prompt in words"),
        (["segment", "a.png", "--prompt", "\t\n"], "expected a prompt in words"),
        ([*EVALUATE, "--json", "folder"], "folder: expected the name of a file"),
        ([*EVALUATE, "--json", "file/f.json"], "file: cannot write here"),
        ([*EVALUATE, "--json", ""], "expected a path, got an empty one"),
        ([*EVALUATE, "--threshold", "nan"], "threshold must be between 0 and 1"),
        ([*EVALUATE, "--split", "test"], "no test split"),
        (["evaluate", "--data", "a.png"], "a.png: expected a folder of labelled"),
        (["evaluate", "--data", ""], "expected a path, got an empty one"),
        ([*CAPTION, " "], "IMAGE MASK --class NAME, or --data"),
        ([*CAPTION, "polyp", "--output", "o.csv"], "--output belongs to --data"),
        (
            ["caption", "v.nii", "v.nii", "--class", "polyp"],
            "v.nii: expected a picture",
        ),
        (["caption", "a.png", "v.nii", "--class", "polyp"], "got (6, 6, 4)"),
        (["caption", "absent.png", "mask.png", "--class", "polyp"], "found nothing"),
        (
            ["caption", "a.png", "folder", "--class", "polyp"],
            "folder: expected an image",
        ),
        ([*CAPTION_SET, "folder"], "folder: expected a name that ends in .xlsx"),
        ([*CAPTION_SET, "file/o.csv"], "file: cannot write here"),
        (["bench", "absent.png"], "absent.png: expected an image file"),
        (["bench", "folder"], "found a folder without DICOM files"),
        (["bench", "v.nii"], "expected one picture to measure on"),
        (["bench", "--threshold", "nan"], "threshold must be between 0 and 1"),
        ([*TRAIN, "a.png"], "a.png: cannot write here"),
        ([*TRAIN, "file/run"], "file/run: cannot write here"),
        ([*TRAIN_3D, "folder"], "folder: expected imagesTr and labelsTr"),
        ([*TRAIN_3D, "a.png"], "a.png: expected a folder of labelled volumes"),
        (["models", "show", LONG], "expected a model id"),
        (["models", "import", "absent.pth"], "absent.pth: expected a checkpoint"),
        (["models", "import", "folder"], "folder: expected a bundle"),
        (["models", "import", "a.png"], "a.png: expected a PyTorch checkpoint"),
        (["models", "import", "file"], "cannot read it (it ends too soon)"),
        (["models", "import", ""], "expected a path, got an empty one"),
        ([*EXPORT, "a.png"], "a.png: exists"),
        ([*EXPORT, "folder"], "folder: exists"),
        ([*EXPORT, "file/o.zip"], "file/o.zip: expected to write a bundle"),
        (["models", "export", "folder", "--output", "o.zip"], "expected a model id"),
        (["models", "verify", "a.png"], "expected a model id"),
        (["models", "remove", "../folder"], "expected an installed model"),
    ],
)
def test_what_a_command_cannot_use_is_one_sentence_and_leaves_nothing(
    arguments: list[str],
    expected: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Predictor, "draw", pytest.fail)  # no work is done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse's own way out
        code = int(stopped.code or 0)
    captured = capfd.readouterr()
    assert code == 2
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("medvlseg: error: ")
    assert expected in line
    assert captured.out == ""
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert after.keys() == before.keys()
    assert all(after[p] == before[p] for p in before if p.is_file())


@pytest.mark.parametrize("image", ["folder", "folder/*.png"])
def test_a_folder_that_may_not_be_listed_is_one_sentence(
    image: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def forbidden(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.chdir(folder)
    for listing in ("iterdir", "is_dir"):  # what a folder without x and r refuses
        monkeypatch.setattr(type(folder), listing, forbidden)
    assert main(segment(image)) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.endswith("cannot look (Permission denied); check it")
