"""What the kept parts of a run depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medvlseg.core.class_texts import ClassSheet, ClassText
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.class_sheet import class_sheet_text, write_class_sheet
from napari_medvlseg.core.provenance import run_settings
from napari_medvlseg.core.types import Image
from tests.volume_models import grey_predictor

if TYPE_CHECKING:
    from pathlib import Path

SHEET = ClassSheet((ClassText(title="Lamp"), ClassText(title="Shade")))


def _settings(texts: str) -> dict[str, Any]:
    image = Image(np.zeros((4, 4, 4), np.float32))
    config = SegmentConfig(class_texts=texts)
    return run_settings(image, ["all"], grey_predictor(), config)


def test_a_sheet_counts_by_its_texts_and_not_by_its_path(tmp_path: Path) -> None:
    path, other = tmp_path / "one.csv", tmp_path / "two.json"
    for each in (path, other):
        write_class_sheet(each, SHEET)
    before = _settings(str(path))
    assert before == _settings(str(other)) == _settings(class_sheet_text(SHEET))
    lamp = replace(SHEET.classes[0], title="Lantern")
    write_class_sheet(path, ClassSheet((lamp, SHEET.classes[1])), overwrite=True)
    after = _settings(str(path))
    differing = [name for name in before if before[name] != after[name]]
    assert differing == ["class_texts"]
    assert _settings("")["class_texts"] == ""
    with pytest.raises(UnsupportedFormatError, match="cannot read it"):
        _settings(str(tmp_path / "none.csv"))
