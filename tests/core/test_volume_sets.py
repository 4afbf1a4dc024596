"""Folders of labelled volumes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core.errors import DatasetError, UnsupportedFormatError
from napari_medvlseg.core.volume_sets import label_names, volume_cases

if TYPE_CHECKING:
    from pathlib import Path


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_msds_layout(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        *("imagesTr/b.nii.gz", "imagesTr/a.nii.gz", "imagesTr/._a.nii.gz"),
        *("labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "imagesTr/unlabelled.nii.gz"),
    )
    cases = volume_cases(tmp_path, "train")
    assert [case.name for case in cases] == ["a", "b"]
    assert cases[0].images == (tmp_path / "imagesTr" / "a.nii.gz",)
    assert cases[0].label == tmp_path / "labelsTr" / "a.nii.gz"
    assert volume_cases(tmp_path, "val") == []


def test_nnu_nets_layout_has_a_file_a_channel(tmp_path: Path) -> None:
    names = ("brain_001_0000.nii.gz", "brain_001_0001.nii.gz")
    _touch(
        tmp_path, *(f"imagesTr/{name}" for name in names), "labelsTr/brain_001.nii.gz"
    )
    (case,) = volume_cases(tmp_path, "train")
    assert [path.name for path in case.images] == list(names)
    _touch(tmp_path, "imagesTr/x_0000.nii.gz", "labelsTr/x.nii.gz")
    with pytest.raises(DatasetError, match=r"as many channels .* got \[1, 2\]"):
        volume_cases(tmp_path, "train")


def test_plain_pairs(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.nrrd", "labels/a.nii.gz")
    assert [case.name for case in volume_cases(tmp_path, "train")] == ["a"]


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a folder"):
        volume_cases(tmp_path / "none", "train")
    with pytest.raises(DatasetError, match="imagesTr and labelsTr"):
        volume_cases(tmp_path, "train")
    _touch(tmp_path, "images/a.nii", "labels/b.nii")
    with pytest.raises(DatasetError, match=r"b\.nii: expected an image"):
        volume_cases(tmp_path, "train")
    _touch(tmp_path, "images/a.nii.gz")
    with pytest.raises(UnsupportedFormatError, match="one file a case"):
        volume_cases(tmp_path, "train")


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "Anterior", "2": "Posterior"},
        {"background": 0, "Anterior": 1, "Posterior": 2},
    ],
)
def test_labels_are_named_either_way_round(
    tmp_path: Path, labels: dict[str, object]
) -> None:
    assert label_names(tmp_path) == {}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert label_names(tmp_path) == {1: "Anterior", 2: "Posterior"}


@pytest.mark.parametrize("labels", [["liver"], {"liver": "one"}])
def test_labels_that_mean_nothing_are_told(tmp_path: Path, labels: object) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DatasetError, match="names and numbers"):
        label_names(tmp_path)


def test_the_volumes_here(real_data: Path) -> None:
    found = {
        name: tuple(len(volume_cases(real_data / name, s)) for s in ("train", "val"))
        for name in ("Hippocampus", "CardiacCine")
        if (real_data / name).is_dir()
    }
    if not found:
        pytest.skip("no volumes here")
    assert found == {"Hippocampus": (180, 20), "CardiacCine": (70, 14)}
