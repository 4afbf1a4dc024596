"""Augmentation that keeps the text true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from napari_medvlseg.core.captions import describe
from napari_medvlseg.core.training.augment import (
    Pose,
    appearance_reach,
    aspect_range,
    draw_pose,
    draw_transforms,
    mirror_words,
    shift_appearance,
    warp,
)
from napari_medvlseg.core.training.noise import SampleNoise

POSES = [Pose(*flags) for flags in itertools.product((False, True), repeat=2)]


@pytest.mark.parametrize(
    ("pose", "expected"),
    [
        (Pose(False, False), "one polyp at the top left, lower right"),
        (Pose(True, False), "one polyp at the top right, lower left"),
        (Pose(False, True), "one polyp at the bottom left, upper right"),
        (Pose(True, True), "one polyp at the bottom right, upper left"),
    ],
)
def test_words_for_sides_turn_with_the_picture(pose: Pose, expected: str) -> None:
    assert mirror_words("one polyp at the top left, lower right", pose) == expected


def test_parts_of_words_are_left_alone() -> None:
    text = "leftover rightful topology"
    assert mirror_words(text, Pose(True, True)) == text


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize(("row", "column"), [(8, 8), (8, 32), (32, 8)])
def test_the_turned_mask_is_where_the_turned_words_say(
    pose: Pose, row: int, column: int
) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[0, 0, row - 4 : row + 4, column - 4 : column + 4] = 1
    image = mask.expand(1, 3, -1, -1) * 2 - 1
    (before,) = describe(mask[0, 0].numpy() > 0.5).locations
    words: set[str] = set()
    for seed in range(8):
        transforms = draw_transforms([pose], SampleNoise.seeded([seed]))
        moved_image, moved = warp(image, mask, transforms, 64)
        inside = moved_image[0, 0][moved[0, 0] > 0]
        assert float(inside.mean()) > 0.7  # the mask moves with its picture
        words.update(describe(moved[0, 0].numpy() > 0.5).locations)
    assert mirror_words(before, pose) in words


def test_outside_the_picture_is_black_and_unmarked() -> None:
    ones = torch.ones(4, 1, 32, 32)
    image, mask = warp(
        torch.ones(4, 3, 32, 32),
        ones,
        draw_transforms([Pose(False, False)] * 4, SampleNoise.seeded(range(4))),
        48,
    )
    assert image.shape == (4, 3, 48, 48)
    outside = image[:, :1] < -0.99
    assert bool(outside.any())
    assert not bool((mask[outside] > 0).any())


def test_pictures_are_stretched_only_as_far_as_they_may_be() -> None:
    """A disc's width over its height, measured: turned over by no more than asked."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 96)] * 2, indexing="ij")
    disc = (x**2 + y**2 < 0.25).float().expand(40, 1, -1, -1)
    ratios = {}
    for most in (0.0, 0.5):
        noise = SampleNoise.seeded(range(40))
        poses = [Pose(False, False)] * 40
        transforms = draw_transforms(poses, noise, [most] * 40)
        _, masks = warp(torch.zeros(40, 3, 96, 96), disc, transforms, 96)
        height = masks.amax(dim=3).sum(dim=(1, 2))
        width = masks.amax(dim=2).sum(dim=(1, 2))
        ratios[most] = (width / height).log().numpy()
    assert np.abs(ratios[0.0]).max() < 0.06
    assert 0.3 < np.abs(ratios[0.5]).max() < 0.55
    assert ratios[0.5].min() < 0 < ratios[0.5].max()


def test_a_window_may_be_enlarged_more() -> None:
    """A square's width: as many times wider as asked for."""
    square = torch.zeros(8, 1, 96, 96)
    square[:, :, 40:56, 40:56] = 1
    widths = []
    for zoom in (1.0, 1.5):
        noise = SampleNoise.seeded(range(8))
        poses = [Pose(False, False)] * 8
        transforms = draw_transforms(poses, noise, zooms=[zoom] * 8)
        _, masks = warp(torch.zeros(8, 3, 96, 96), square, transforms, 96)
        widths.append(masks.sum(dim=(1, 2, 3)).sqrt())
    torch.testing.assert_close(
        widths[1] / widths[0], torch.full((8,), 1.5), rtol=0.1, atol=0
    )


def test_ultrasound_is_stretched_more_than_other_pictures() -> None:
    assert aspect_range("BUSI") > aspect_range("Kvasir") > 0


def test_upright_pictures_are_never_upended() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = [draw_pose(generator, upright=True) for _ in range(50)]
    assert not any(pose.upended for pose in poses)
    assert len({pose.mirrored for pose in poses}) == 2


def test_appearance_stays_in_range_and_repeats_with_its_seed() -> None:
    images = (
        torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )
    first, again, other = (
        shift_appearance(images, SampleNoise.seeded(range(seed, seed + 3)))
        for seed in (2, 2, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.abs().max()) <= 1.0
    changed = np.abs((first - images).numpy()).mean()
    assert 0.005 < changed < 0.5


def test_ultrasound_changes_further_than_other_pictures() -> None:
    """The same draws, on a grey picture without noise to sharpen or blur."""
    assert appearance_reach("BUSI") > appearance_reach("Kvasir") == 1.0
    images = torch.zeros(40, 3, 16, 16)
    changed = [
        shift_appearance(images, SampleNoise.seeded(range(40)), [reach] * 40)
        for reach in (1.0, appearance_reach("BUSI"))
    ]
    near, far = (each.mean(dim=(1, 2, 3)).std() for each in changed)
    assert far > 1.4 * near
    assert float(changed[1].abs().max()) <= 1.0
