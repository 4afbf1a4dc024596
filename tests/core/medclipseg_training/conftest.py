"""A set of coloured squares, and a small pair that a test can afford."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image as Picture

from napari_medvlseg.core.backbones import tower_shapes
from napari_medvlseg.core.backbones.tower_shapes import TextShape, VisionShape
from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
from napari_medvlseg.core.training.medclipseg.run import train_medclipseg_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VISION = VisionShape(
    width=32, layers=4, heads=2, patch_size=8, image_size=32, embed_dim=16
)
TEXT = TextShape(
    width=24, layers=4, heads=2, vocabulary=49408, max_tokens=77, embed_dim=16
)
SMALL_VISION = replace(VISION, layers=6, stem=(8, 8))
SMALL_TEXT = TextShape(width=384, layers=6, heads=12, embed_dim=16)


def tiny(**choices: Any) -> MedCLIPSegTrainConfig:
    """Return a run of a few steps, from random weights."""
    thin = MedCLIPSegTrainConfig(
        backbone="clip", epochs=2, batch_size=4, adapter_dim=8, precision="float32"
    )
    return replace(thin, **choices)


def make_thin(patch: pytest.MonkeyPatch) -> None:
    """Make the towers thin."""
    patch.setitem(tower_shapes.SHAPES, "clip", (VISION, TEXT))
    bert = replace(TEXT, vocabulary=30522)
    patch.setitem(tower_shapes.SHAPES, "biomedclip", (VISION, bert))
    patch.setitem(tower_shapes.SHAPES, "unimedclip", (VISION, bert))
    patch.setitem(tower_shapes.SHAPES, "small", (SMALL_VISION, SMALL_TEXT))


@pytest.fixture(scope="module", autouse=True)
def tiny_shapes() -> Iterator[None]:
    """Make the towers thin for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch)
        yield


def write_pictures(folder: Path, count: int, seed: int) -> None:
    """Write a split: a bright square on a side, which its prompt tells."""
    generator = np.random.default_rng(seed)
    for kind in ("img", "label"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        picture = generator.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        label = np.zeros((32, 32), np.uint8)
        left = 2 if index % 2 else 18
        label[8:22, left : left + 12] = 255
        picture[label > 0] += 120
        Picture.fromarray(picture).save(folder / "img" / f"{index:02}.png")
        Picture.fromarray(label).save(folder / "label" / f"{index:02}.png")


def write_sheet(path: Path, names: list[str]) -> None:
    """Write a sheet of prompts."""
    path.parent.mkdir(exist_ok=True)
    book = Workbook()
    sheet: Any = book.active
    sheet.append(["Image", "Description", "Ground Truth"])
    for name in names:
        side = "left" if int(name) % 2 else "right"
        text = f"one square polyp, located in {side} of the image"
        sheet.append([f"{name}.png", text, f"{name}.png"])
    book.save(path)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a set named Kvasir: ten to train, two to validate with."""
    root = tmp_path_factory.mktemp("squares") / "Kvasir"
    write_pictures(root / "Train_Folder", 10, 0)
    write_pictures(root / "Val_Folder", 2, 1)
    sheets = root / "Prompts_Folder"
    write_sheet(sheets / "Train_text.xlsx", [f"{n:02}" for n in range(10)])
    write_sheet(sheets / "Val_text.xlsx", ["00", "01"])
    write_sheet(sheets / "Train_text_50.xlsx", ["01", "02", "05", "06", "09"])
    return root


@pytest.fixture(scope="module")
def finished(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of `tiny()`."""
    output = tmp_path_factory.mktemp("run")
    records = list(train_medclipseg_steps([squares], output, tiny()))
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    validation = records[2]["validation"]
    assert validation is not None
    assert set(validation) == {"Kvasir"}
    return output
