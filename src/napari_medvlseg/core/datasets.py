"""Labelled 2D data sets: the questions that their files ask.

A set is a folder ``SET/{Train,Val,Test}_Folder/{img,label}`` with one label per image
under the same stem and, where its authors published prompts, a sheet
``SET/Prompts_Folder/{Train,Val}_text.xlsx`` or ``Test_text_<design>.xlsx``.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.targets import (
    HELD_OUT,
    MADE_UP,
    MISMATCHED,
    TARGETS,
    TargetInfo,
    reference_mask,
    targets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Sheet = Mapping[tuple[str, str | None], str]
    Question = tuple[str, TargetInfo, str | None]
    """The name of a target, what it is, and the prompt if it is told."""

SPLITS = ("train", "val", "test")
DESIGNS = (
    "original",
    "underdescriptive",
    "overdescriptive",
    "contradictory",
    "missing_location",
    "class_name",
)
"""How a prompt can be worded from a mask."""
QUESTIONS = (*DESIGNS, "mismatched", "held_out", "made_up")
"""What can be asked of a set: its targets in a design, foreign classes, plain words
that training never showed, or words that mean nothing."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_SHEET_FOLDER = "Prompts_Folder"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to ask of one image, and where its answer lies."""

    dataset: str
    image_path: Path
    label_path: Path
    target: str
    info: TargetInfo
    prompt: str | None
    """None where no sheet tells: to be written from the mask."""
    absent: bool = False
    """Whether the prompt names what the image does not show."""

    def reference(self, label: npt.NDArray[Any]) -> Mask:
        """Where the target lies.

        Parameters
        ----------
        label : (H, W) or (H, W, colours)
            Voxels of the file at `label_path`.

        Returns
        -------
        (H, W) bool
        """
        if self.absent:
            return np.zeros(label.shape[:2], dtype=np.bool_)
        return reference_mask(self.dataset, self.target, label)


def list_cases(root: Path, split: str, design: str = "original") -> list[Case]:
    """List the questions of one split of one data set, ordered by image.

    Parameters
    ----------
    root : Path
        The set's own folder, for instance ``data/BUSI``.
    split : str
        One of `SPLITS`.
    design : str
        One of `QUESTIONS`: how the prompts are worded.

    Raises
    ------
    DatasetError
        If the folder is not a set, has no such split, or misses a label.
    """
    _check_choice("split", split, SPLITS)
    _check_choice("prompt design", design, QUESTIONS)
    folder = _split_folder(root, split)
    images = _by_stem(folder / "img")
    labels = _by_stem(folder / "label")
    missing = sorted(images.keys() - labels.keys())
    if missing or not images:
        msg = (
            f"{folder}: expected images in img and one label each, by the same stem, "
            f"in label; {f'no label for {missing[0]}' if missing else 'found none'}"
        )
        raise DatasetError(msg)
    sheet = _read_sheet(root, split, design)
    return [
        case
        for stem, path in images.items()
        for case in _cases_of(root.resolve().name, path, labels[stem], design, sheet)
    ]


def fraction_cases(root: Path, percent: int, seed: int) -> list[Case]:
    """List the training cases of a share of a set, as few-shot runs have it.

    The pictures and prompts of ``Train_text_10.xlsx`` (25, 50) if the set has it;
    else the first of an order that the seed decides, so that 10 percent are among 25.

    Parameters
    ----------
    root : Path
        The set's own folder.
    percent : int
        1 to 100, of the pictures; at least one is left.
    seed : int

    Raises
    ------
    DatasetError
        If the folder is not a set, has no training split, or misses a label.
    """
    cases = list_cases(root, "train")
    if percent == 100:
        return cases
    sheet = _read_sheet(root, "train", str(percent))
    if sheet is not None:
        told = [(case, _told(sheet, case)) for case in cases]
        chosen = [replace(case, prompt=text) for case, text in told if text]
        if chosen:
            return chosen
        msg = f"{root}: expected Train_text_{percent}.xlsx to name pictures of "
        raise DatasetError(msg + "Train_Folder/img, found none of them there")
    stems = sorted({case.image_path.stem for case in cases})
    order = np.random.default_rng(seed).permutation(len(stems))
    kept = {stems[row] for row in order[: max(1, len(stems) * percent // 100)]}
    return [case for case in cases if case.image_path.stem in kept]


def _told(sheet: Sheet, case: Case) -> str | None:
    """Return what a sheet says of a case, by its target if the set has several."""
    several = len(targets_of(case.dataset)) > 1
    return sheet.get((case.image_path.stem, case.target if several else None))


def find_sets(root: Path) -> list[Path]:
    """Return `root` if it is a data set, otherwise the sets right inside it.

    Raises
    ------
    DatasetError
        If there is no set.
    """
    if not root.is_dir():
        msg = f"{root}: expected a folder of labelled images, found none; check --data"
        raise DatasetError(msg)
    if splits_of(root):
        return [root]
    found = [path for path in sorted(root.iterdir()) if splits_of(path)]
    if not found:
        msg = (
            f"{root}: expected Train_Folder, Val_Folder or Test_Folder in it or in its "
            "folders, each with img and label; found none"
        )
        raise DatasetError(msg)
    return found


def splits_of(root: Path) -> tuple[str, ...]:
    """Return which of `SPLITS` a set's folder holds."""
    return tuple(
        split for split in SPLITS if (_folder_of(root, split) / "img").is_dir()
    )


def _cases_of(
    dataset: str, image: Path, label: Path, design: str, sheet: Sheet | None
) -> Iterable[Case]:
    """Yield the cases of one image: the questions of a design."""
    if design == "mismatched":
        questions = _foreign_questions(dataset)
    elif design == "held_out":
        questions = _plain_questions(dataset)
    elif design == "made_up":
        questions = _meaningless_questions(dataset, image)
    else:
        questions = _own_questions(dataset, image, design, sheet)
    for target, info, prompt in questions:
        yield Case(
            dataset=dataset,
            image_path=image,
            label_path=label,
            target=target,
            info=info,
            prompt=prompt,
            absent=design == "mismatched",
        )


def _foreign_questions(dataset: str) -> Iterable[Question]:
    """Ask for every class that the set's images cannot show."""
    foreign = MISMATCHED.get(dataset)
    if foreign is None:
        msg = f"{dataset}: no foreign classes are known; use one of {list(TARGETS)}"
        raise DatasetError(msg)
    for class_name in foreign:
        yield class_name, targets_of(dataset)[0], class_name


def _plain_questions(dataset: str) -> Iterable[Question]:
    """Ask for every target in each of the words that training held out."""
    for info in targets_of(dataset):
        if info.class_name not in HELD_OUT:
            msg = f"{dataset}: no words are held out; use one of {list(TARGETS)}"
            raise DatasetError(msg)
        for words in HELD_OUT[info.class_name]:
            yield info.name, info, words


def _meaningless_questions(dataset: str, image: Path) -> Iterable[Question]:
    """Ask for every target by a word that means nothing."""
    for info in targets_of(dataset):
        number = zlib.crc32(f"{image.stem} {info.name}".encode())
        yield info.name, info, MADE_UP[number % len(MADE_UP)]


def _own_questions(
    dataset: str, image: Path, design: str, sheet: Sheet | None
) -> Iterable[Question]:
    """Ask for every target by its name, or in the words of the sheet."""
    targets = targets_of(dataset)
    for info in targets:
        key = info.name if len(targets) > 1 else None
        prompt = info.class_name if design == "class_name" else None
        if sheet is not None and prompt is None:
            prompt = sheet.get((image.stem, key))
            if prompt is None:
                _logger.warning("%s: no prompt for %s in the sheet", image, info.name)
        yield info.name, info, prompt


def _read_sheet(root: Path, split: str, design: str) -> Sheet | None:
    """Read the prompts by image stem and, with a column ``Target``, by target."""
    if design in ("class_name", *QUESTIONS[len(DESIGNS) :]):
        return None
    names = [f"{split.title()}_text_{design}.xlsx"]
    if design == "original":
        names.append(f"{split.title()}_text.xlsx")
    paths = [root / _SHEET_FOLDER / name for name in names]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    rows = _sheet_rows(path)
    header = [str(cell).strip() for cell in rows[0]] if rows else []
    if not {"Image", "Description"} <= set(header):
        msg = f"{path}: expected the columns Image and Description, got {header}"
        raise DatasetError(msg)
    prompts: dict[tuple[str, str | None], str] = {}
    for row in rows[1:]:
        cells = dict(zip(header, row, strict=False))
        text = " ".join(str(cells["Description"] or "").split())
        target = str(cells["Target"]).strip() if cells.get("Target") else None
        if cells["Image"] is not None and text:
            prompts.setdefault((_stem(str(cells["Image"])), target), text)
    if len(targets_of(root.resolve().name)) > 1 and all(
        key[1] is None for key in prompts
    ):
        _logger.warning(
            "%s: without a column Target it cannot tell targets apart", path
        )
        return None
    return prompts


def _sheet_rows(path: Path) -> list[tuple[Any, ...]]:
    """Read all rows of the first sheet."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError) as error:
        msg = f"{path}: expected an .xlsx sheet of prompts, cannot read it ({error})"
        raise DatasetError(msg) from error
    try:
        return list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()


def _split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split, or say what there is instead."""
    there = splits_of(root)
    if split in there:
        return _folder_of(root, split)
    sets = find_sets(root)
    if sets != [root]:
        names = ", ".join(path.name for path in sets)
        msg = f"{root}: expected one data set, got a folder of sets; add one of {names}"
    else:
        msg = f"{root}: no {split} split with img and label; it has {', '.join(there)}"
    raise DatasetError(msg)


def _folder_of(root: Path, split: str) -> Path:
    """Where a split would lie."""
    return root / f"{split.title()}_Folder"


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by stem, sorted."""
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.iterdir() if _is_image(path))
    return {path.stem: path for path in paths}


def _is_image(path: Path) -> bool:
    """Whether the name is that of an image and not a hidden file's."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _stem(name: str) -> str:
    """Return a file name without folder and image suffix."""
    base = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    suffix = next((end for end in SUFFIXES if base.lower().endswith(end)), "")
    return base.removesuffix(base[len(base) - len(suffix) :]) if suffix else base


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
        raise DatasetError(msg)
