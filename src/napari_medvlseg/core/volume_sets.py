"""Folders of labelled volumes: MSD's, nnU-Net's, and plain pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import DatasetError, UnsupportedFormatError
from napari_medvlseg.core.json_file import read_object

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
FOLDERS = {
    "train": (("imagesTr", "labelsTr"), ("images", "labels")),
    "val": (("imagesVal", "labelsVal"),),
    "test": (("imagesTs", "labelsTs"),),
}
"""Of images and labels, by split."""


@dataclass(frozen=True, slots=True)
class VolumeCase:
    """One volume with its labels."""

    name: str
    images: tuple[Path, ...]
    """One file, or one a channel (nnU-Net's ``CASE_0000``, ``CASE_0001``)."""
    label: Path


def volume_cases(root: Path, split: str) -> list[VolumeCase]:
    """Return the labelled volumes of a split, by name; none if it has none.

    Parameters
    ----------
    root : Path
        Holds ``imagesTr`` and ``labelsTr`` (and ``Val``, ``Ts``), as MSD and nnU-Net
        lay them out, or ``images`` and ``labels``. A label has its image's name, in
        nnU-Net's layout without the channel's number.
    split : str
        ``train``, ``val`` or ``test``.

    Raises
    ------
    DatasetError
        If there is no such folder, a label has no image, or channels are lacking.
    """
    if not root.is_dir():
        msg = f"{root}: expected a folder of labelled volumes, found none"
        raise DatasetError(msg)
    for images, labels in FOLDERS[split]:
        if (root / images).is_dir() and (root / labels).is_dir():
            return _paired(root / images, root / labels)
    if split == "train":
        msg = (
            f"{root}: expected imagesTr and labelsTr, or images and labels; found "
            "neither"
        )
        raise DatasetError(msg)
    return []


def label_names(root: Path) -> dict[int, str]:
    """Return what ``dataset.json`` calls each label, without the background.

    MSD writes ``{"1": "liver"}``, nnU-Net ``{"liver": 1}``; without the file there is
    nothing to return.

    Raises
    ------
    DatasetError
        If the file's labels are neither.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return {}
    try:
        told = read_object(path, "MSD's or nnU-Net's dataset.json", DatasetError)
        labels = told.get("labels", {})
        pairs = [
            (int(key), str(value)) if str(key).isdecimal() else (int(value), str(key))
            for key, value in labels.items()
        ]
    except (AttributeError, TypeError, ValueError) as error:
        msg = f'{path}: expected "labels" with names and numbers ({error})'
        raise DatasetError(msg) from error
    return dict(sorted(pair for pair in pairs if pair[0] > 0))


def _paired(images: Path, labels: Path) -> list[VolumeCase]:
    """Return a case for each label."""
    there = _volumes(images)
    channels = {
        stem: tuple(
            path for name, path in sorted(there.items()) if _case_of(name) == stem
        )
        for stem in {_case_of(name) for name in there}
    }
    cases = []
    for stem, label in sorted(_volumes(labels).items()):
        found = (there[stem],) if stem in there else channels.get(stem, ())
        if not found:
            msg = f"{label}: expected an image of this name in {images}, found none"
            raise DatasetError(msg)
        cases.append(VolumeCase(stem, found, label))
    numbers = {len(case.images) for case in cases}
    if len(numbers) > 1:
        msg = f"{images}: expected as many channels in each case, got {sorted(numbers)}"
        raise DatasetError(msg)
    return cases


def _volumes(folder: Path) -> dict[str, Path]:
    """Return the volumes of a folder by their names without suffix.

    MSD's archives hold hidden ``._`` copies, which are no images.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is not None and not path.name.startswith("."):
            stem = path.name[: -len(suffix)]
            if stem in found:
                msg = f"{path}: expected one file a case, got {found[stem].name} too"
                raise UnsupportedFormatError(msg)
            found[stem] = path
    return found


def _case_of(name: str) -> str | None:
    """Return the case of nnU-Net's ``CASE_0000``; None for another name."""
    stem, _, channel = name.rpartition("_")
    return stem if stem and len(channel) == 4 and channel.isdecimal() else None
