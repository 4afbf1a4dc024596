"""Prompts that name a side of the patient, and results on the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Picture

from napari_medvlseg.cli_segment import describe_result
from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.io.write import figures
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.sides import find_midline, named_side, side_warnings
from napari_medvlseg.core.targets import split_lungs
from napari_medvlseg.core.types import Image, Midline, Segmentation

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.predictor import Predictor

    Mask = npt.NDArray[np.bool_]
    Voxels = npt.NDArray[np.float64]

LPS = np.diag([-4.0, -4.0, 4.0, 1.0])
PLACED = {"orientation": "known"}
REAL = data_folder()
needs_data = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real data at {REAL}; set MEDVLSEG_DATA"
)


@pytest.mark.parametrize(
    ("prompt", "side"),
    [
        ("left kidney", "left"),
        ("Right lung in the chest CT", "right"),
        ("a small cyst in the left kidney", "left"),
        ("nodule of the right upper lobe", "right"),
        ("left-sided pleural effusion", "left"),
        ("right-sided mass", "right"),
        ("kidney_left", "left"),
        ("lung_upper_lobe_right", "right"),
        ("the patient's left side", "left"),
        ("tumour on the right side of the patient", "right"),
        ("left lung, seen at the right of the image", "left"),
        ("lung in the upper left of the image", None),
        ("left side of the picture", None),
        ("the lung on the left", None),
        ("polyp at the left", None),
        ("kidney left of the spine", None),
        ("left half of the lungs", None),
        ("one bright nodule, located in the left of the lung", None),
        ("left image edge with lung", None),
        ("left and right lungs", None),
        ("left lung and right lung", None),
        ("right ventricle", None),
        ("left-sided heart", None),
        ("left lobe of the liver", None),
        ("lungs", None),
        ("what is left of the kidney", None),
        ("bright kidney", None),
    ],
)
def test_only_named_anatomy_tells_a_side_of_the_patient(
    prompt: str, side: str | None
) -> None:
    assert named_side(prompt) == side


def body(width: int = 48, middle: float = 23.5) -> Voxels:
    """Return an elliptic body with a spine behind and two lungs, (width, 40, 12)."""
    x, y, _ = np.indices((width, 40, 12), dtype=float)
    x, y = (x - middle) / 20, (y - 20) / 15
    voxels = np.where(x**2 + y**2 < 1, 40.0, -1000)
    voxels[(np.abs(x) - 0.45) ** 2 / 0.1 + y**2 / 0.3 < 1] = -800
    voxels[x**2 + (y + 0.7) ** 2 < 0.03] = 700
    return voxels


def placed(voxels: Voxels, affine: Voxels = LPS, **changes: Any) -> Image:
    values = {"units": "mm", "facts": PLACED, **changes}
    return Image(voxels, affine, **values)


@pytest.mark.parametrize("middle", [20.0, 23.5, 27.25])
def test_the_midline_is_where_the_body_mirrors(middle: float) -> None:
    midline = find_midline(placed(body(middle=middle)), ["left lung"])
    assert midline is not None
    assert midline.axis == 0
    assert not midline.rightward  # LPS: the index grows to the left
    assert midline.index == pytest.approx(middle, abs=0.5)


def test_the_midline_is_found_in_any_axis_order_and_direction() -> None:
    for axes in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        for flip in (False, True):
            voxels = body(middle=20.0).transpose(axes)
            affine = np.eye(4)
            affine[:3, :3] = LPS[:3, :3][:, list(axes)]
            if flip:
                voxels, affine[:3, :3] = voxels[::-1, ::-1, ::-1], -affine[:3, :3]
            midline = find_midline(placed(voxels, affine), ["left lung"])
            assert midline is not None
            wanted = 27.0 if flip else 20.0
            assert midline == Midline(axes.index(0), wanted, rightward=flip)


def test_a_large_volume_is_looked_at_sparsely() -> None:
    voxels = body().repeat(8, 0).repeat(4, 1)
    affine = LPS @ np.diag([1 / 8, 1 / 4, 1, 1])
    midline = find_midline(placed(voxels, affine), ["left lung"])
    assert midline is not None
    assert midline.index == pytest.approx(191.5, abs=4)


NARROW = np.diag([-2.0, -2.0, 2.0, 1.0])
TURNED = LPS.copy()
TURNED[:2, :2] = 4 * np.array([[-0.8, -0.6], [0.6, -0.8]])


@pytest.mark.parametrize(
    ("image", "prompt"),
    [
        pytest.param(placed(body()), "lungs", id="no side is named"),
        pytest.param(placed(body(), facts={}), "left lung", id="place unknown"),
        pytest.param(placed(body(), units="pixel"), "left lung", id="no lengths"),
        pytest.param(placed(body(), NARROW), "left lung", id="narrow"),
        pytest.param(placed(body()[:28]), "left lung", id="one half only"),
        pytest.param(placed(body(), TURNED), "left lung", id="turned by 37 degrees"),
        pytest.param(placed(np.zeros((48, 40, 3))), "left lung", id="empty"),
        pytest.param(
            placed(body()[12], LPS[:, [1, 2, 0, 3]]), "left lung", id="sagittal"
        ),
    ],
)
def test_where_the_midline_is_not_clear_there_is_none(
    image: Image, prompt: str
) -> None:
    assert find_midline(image, [prompt]) is None


@pytest.mark.parametrize("rgb", [False, True])
def test_an_axial_slice_has_a_midline(*, rgb: bool) -> None:
    picture = body()[:, :, 5]
    picture = np.stack([picture] * 3, axis=-1) if rgb else picture
    midline = find_midline(placed(picture, rgb=rgb), ["left lung"])
    assert midline == Midline(0, 23.5, rightward=False)


def found(
    masks: list[Mask], prompts: list[str], midline: Midline | None
) -> Segmentation:
    probability = np.stack(masks).astype(np.float32)
    zeros = np.zeros_like(probability)
    return Segmentation(
        prompts=tuple(prompts),
        labels=masks[0].astype(np.uint8),
        probability=probability,
        predictive_entropy=zeros,
        mutual_information=zeros,
        expected_entropy=zeros,
        affine=np.eye(4),
        threshold=0.5,
        min_foreground=0.0,
        slice_axis=None,
        provenance={},
        midline=midline,
    )


def columns(start: int, stop: int) -> Mask:
    mask = np.zeros((6, 100), bool)
    mask[2:4, start:stop] = True
    return mask


@pytest.mark.parametrize("rightward", [False, True])
def test_a_result_beyond_the_midline_is_told(*, rightward: bool) -> None:
    midline = Midline(1, 49.5, rightward=rightward)
    low, high = columns(10, 40), columns(60, 90)
    result = found([low, high], ["left lung", "left lung"], midline)
    warnings = side_warnings(result)
    wrong = 1 if rightward else 0
    assert "patient's right (100% of it)" in warnings[wrong]
    assert warnings[1 - wrong] == ""
    mirrored = found([low, high], ["right lung", "right lung"], midline)
    assert "patient's left" in side_warnings(mirrored)[1 - wrong]


@pytest.mark.parametrize(
    ("mask", "is_told"),
    [
        (columns(10, 90), False),  # on both sides
        (columns(45, 52), False),  # at the midline
        (columns(0, 0), False),  # nothing
        (columns(40, 90), False),  # 76 % clearly beyond
        (columns(44, 90), True),  # 84 %
    ],
)
def test_only_what_is_clear_is_told(mask: Mask, *, is_told: bool) -> None:
    result = found([mask], ["left lung"], Midline(1, 49.5, rightward=True))
    assert bool(side_warnings(result)[0]) == is_told


def test_without_a_midline_or_a_side_nothing_is_told() -> None:
    far = columns(60, 90)
    assert side_warnings(found([far], ["left lung"], None)) == ("",)
    midline = Midline(1, 49.5, rightward=True)
    prompts = ["lung", "lung at the left of the image"]
    assert side_warnings(found([far, far], prompts, midline)) == ("", "")


def test_a_run_knows_the_midline_only_where_a_side_is_named(
    predictor: Predictor,
) -> None:
    axial = placed(body()[:, :, 5])
    named, unnamed = (
        segment(axial, prompt, predictor, num_samples=1)
        for prompt in ("left lung", "lungs")
    )
    assert named.midline == Midline(0, 23.5, rightward=False)
    assert unnamed.midline is None


def test_the_command_line_tells_it_in_a_line_of_its_own() -> None:
    midline = Midline(1, 49.5, rightward=True)
    lines = describe_result(found([columns(60, 90)], ["left lung"], midline))
    assert lines[1].startswith('"left lung": careful: asked for the left')


def test_the_json_tells_it_with_the_prompt() -> None:
    midline = Midline(1, 49.5, rightward=True)
    result = found([columns(60, 90)] * 2, ["left lung", "right lung"], midline)
    wrong, right = figures(result)["prompts"]
    assert "patient's right" in wrong["side_warning"]
    assert "side_warning" not in right


@needs_data
@pytest.mark.parametrize("as_slab", [False, True], ids=["picture", "slab"])
def test_on_real_chest_x_rays_wrong_sides_are_told_and_right_ones_are_not(
    *, as_slab: bool
) -> None:
    prompts = ["left lung in the chest X-ray", "right lung in the chest X-ray"]
    folder = REAL / "ChestXrayLungs" / "Val_Folder"
    told: list[bool] = []
    for path in sorted((folder / "img").iterdir())[:10]:
        grey = np.asarray(Picture.open(path).convert("L"))
        label = Picture.open(folder / "label" / f"{path.stem}.png").convert("L")
        lungs = np.stack(split_lungs(np.asarray(label) > 0))
        # Rows go down, columns to the patient's left.
        affine = np.array(
            [[0, -0.9, 0, 0], [0, 0, 1, 0], [-0.9, 0, 0, 0], [0, 0, 0, 1]]
        )
        if as_slab:  # right, anterior and superior, as a NIfTI may have it
            affine = np.diag([0.9, 20, 0.9, 1])
            grey = np.stack([grey.T[::-1, ::-1]] * 2, axis=1)
            lungs = np.stack([lungs.transpose(0, 2, 1)[:, ::-1, ::-1]] * 2, axis=2)
        image = placed(grey, affine, facts={"orientation": "coronal"})
        midline = find_midline(image, prompts)
        right_way = found(list(lungs), prompts, midline)
        wrong_way = found(list(lungs), prompts[::-1], midline)
        assert side_warnings(right_way) == ("", ""), path.name
        told += map(bool, side_warnings(wrong_way))
    assert told == [True] * 20
