from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.inputs import expand, result_stems

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_a_folder_stands_for_the_images_right_inside_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.nii.gz", "note.txt", ".hidden.png", "deep/c.png")
    touch(tmp_path, "c.nhdr", "c.raw.gz", "d.mhd", "d.zraw")
    names = ["a.nii.gz", "b.png", "c.nhdr", "d.mhd"]
    assert expand([str(tmp_path)]) == [tmp_path / name for name in names]


def test_a_glob_may_go_deeper_and_nothing_comes_twice(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "deep/c.png", "deep/d.txt")
    every = expand([str(tmp_path / "**" / "*.png"), str(tmp_path / "b.png")])
    assert every == [tmp_path / "b.png", tmp_path / "deep" / "c.png"]


def test_a_file_is_taken_at_its_word(tmp_path: Path) -> None:
    (odd,) = touch(tmp_path, "scan[1].png")
    assert expand([str(odd)]) == [odd]
    assert expand([str(tmp_path / "absent.png")]) == [tmp_path / "absent.png"]


@pytest.mark.parametrize("name", ["", "*.png"])
def test_a_folder_or_a_glob_without_images_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UnsupportedFormatError, match="found none"):
        expand([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["x/a.png", "y/a.png", "y/b.png"], ["x_a", "y_a", "b"]),
        (["x/a.png", "y/A.png"], ["x_a", "y_A"]),
        (["x/a.png", "x/a.nii.gz"], ["x_a_png", "x_a_nii_gz"]),
        (["x/a.mha", "x/a.nrrd"], ["x_a_mha", "x_a_nrrd"]),
        (["1/x/a.png", "2/x/a.png"], ["x_a_1", "x_a_2"]),
    ],
)
def test_results_are_never_called_alike(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    assert result_stems([tmp_path / name for name in names]) == expected
