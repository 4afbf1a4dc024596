from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.datasets import list_cases
from napari_medvlseg.core.targets import TARGETS, reference_mask, split_lungs

REAL = data_folder()


def ellipse(
    shape: tuple[int, int], center: tuple[int, int], radii: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    distance = ((rows - center[0]) / radii[0]) ** 2
    distance += ((columns - center[1]) / radii[1]) ** 2
    inside: npt.NDArray[np.bool_] = distance <= 1
    return inside


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_may_be_of_ones_or_of_255(value: int) -> None:
    label = np.array([[0, value], [value, 0]], dtype=np.uint8)
    mask = reference_mask("BUSI", "tumor", label)
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True], [True, False]]


def test_a_boolean_a_coloured_and_an_empty_label_are_masks() -> None:
    mask = np.array([[False, True], [True, False]])
    assert np.array_equal(reference_mask("BUSI", "tumor", mask), mask)
    opaque = np.dstack([mask * 255, mask * 0, mask * 0, np.full((2, 2), 255)])
    assert np.array_equal(reference_mask("BUSI", "tumor", opaque), mask)
    assert not reference_mask("BUSI", "tumor", np.zeros((3, 4), np.uint8)).any()


def test_nucleus_and_cytoplasm_are_two_values_of_one_label() -> None:
    label = np.array([[0, 128, 255]], dtype=np.uint8)
    nucleus = reference_mask("WhiteBloodCells", "nucleus", label)
    cytoplasm = reference_mask("WhiteBloodCells", "cytoplasm", label)
    assert nucleus.tolist() == [[False, False, True]]
    assert cytoplasm.tolist() == [[False, True, False]]


def test_the_patients_left_lung_lies_on_the_images_right() -> None:
    on_left = ellipse((60, 80), (30, 20), (20, 10))
    on_right = ellipse((60, 80), (30, 60), (20, 10))
    left, right = split_lungs(on_left | on_right)
    assert np.array_equal(left, on_right)
    assert np.array_equal(right, on_left)
    label = (on_left | on_right) * np.uint8(255)
    for name, expected in {
        "left lung": on_right,
        "right lung": on_left,
        "both lungs": on_left | on_right,
    }.items():
        assert np.array_equal(reference_mask("ChestXrayLungs", name, label), expected)


def test_lungs_off_the_middle_keep_their_sides() -> None:
    on_left = ellipse((60, 90), (30, 12), (20, 8))
    on_right = ellipse((60, 90), (30, 36), (20, 8))
    left, right = split_lungs(on_left | on_right)
    assert np.array_equal(left, on_right)
    assert np.array_equal(right, on_left)


def test_lungs_that_touch_are_cut_where_they_are_thinnest() -> None:
    bridge = np.zeros((60, 80), dtype=bool)
    bridge[29:31, 20:60] = True
    on_left = ellipse((60, 80), (30, 22), (20, 14))
    on_right = ellipse((60, 80), (30, 58), (20, 14))
    left, right = split_lungs(on_left | on_right | bridge)
    assert np.array_equal(left | right, on_left | on_right | bridge)
    assert not (left & right).any()
    assert left[on_right].all()
    assert right[on_left].all()


def test_a_single_lung_is_not_cut() -> None:
    alone = ellipse((60, 80), (30, 62), (20, 10))
    left, right = split_lungs(alone)
    assert np.array_equal(left, alone)
    assert not right.any()


def test_a_single_lung_in_two_pieces_stays_one_lung() -> None:
    alone = ellipse((60, 80), (30, 20), (20, 10))
    alone[30] = False
    left, right = split_lungs(alone)
    assert np.array_equal(right, alone)
    assert not left.any()


def test_specks_go_with_the_lung_on_their_side() -> None:
    lungs = ellipse((60, 80), (30, 20), (20, 10)) | ellipse(
        (60, 80), (30, 60), (20, 10)
    )
    lungs[2, 75] = True
    lungs[2, 5] = True
    left, right = split_lungs(lungs)
    assert left[2, 75]
    assert right[2, 5]


def test_without_lungs_both_are_empty() -> None:
    left, right = split_lungs(np.zeros((5, 6), dtype=bool))
    assert left.shape == right.shape == (5, 6)
    assert not left.any()
    assert not right.any()


def test_every_target_has_a_name_of_its_own_in_its_set() -> None:
    for infos in TARGETS.values():
        assert len({info.name for info in infos}) == len(infos)


@pytest.mark.skipif(
    not (REAL / "ChestXrayLungs").is_dir(),
    reason=f"no real data at {REAL}; set MEDVLSEG_DATA",
)
def test_real_lungs_part_into_two_of_like_size() -> None:
    cases = list_cases(REAL / "ChestXrayLungs", "val")[::3]
    for case in cases:
        with Pillow.open(case.label_path) as picture:
            mask = np.asarray(picture) > 127
        left, right = split_lungs(mask)
        assert np.array_equal(left ^ right, mask)
        assert 0.25 < left.sum() / mask.sum() < 0.75, case.label_path.name
        assert np.nonzero(left)[1].mean() > np.nonzero(right)[1].mean()
