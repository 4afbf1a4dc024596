"""Volumes to patches: orientation, spacing, range, and chance that repeats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.intensity.array import NormalizeIntensity
from monai.transforms.spatial.array import Orientation

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.class_sheet import find_sheet
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.models.bipvlseg.config import VISION_MODELS
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.preprocess.resample import ModelGrid
from napari_medvlseg.core.preprocess.volumes import network_volume
from napari_medvlseg.core.training.bipvlseg.config import (
    MM_WHS_LABELS,
    PRESETS_3D,
    BiPVLTrainConfig,
)
from napari_medvlseg.core.training.bipvlseg.data import (
    augmentation,
    patch_of,
    prepare,
    to_regions,
)
from napari_medvlseg.core.volume_sets import VolumeCase, volume_cases
from tests.core.bipvlseg.conftest import TINY
from tests.volume_models import SPEC

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

SIZE = (12, 8, 6)


def _case(
    folder: Path, affine: Array, label_shape: tuple[int, ...] = SIZE
) -> VolumeCase:
    voxels = np.arange(np.prod(SIZE), dtype=np.float32).reshape(SIZE)
    label = np.zeros(label_shape, np.uint8)
    label[:4] = 1
    for name, array in (("image", voxels), ("label", label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii")
    return VolumeCase("a", (folder / "image.nii",), folder / "label.nii")


def test_a_volume_comes_in_ras_in_its_window(tmp_path: Path) -> None:
    config = replace(TINY, window=(100.0, 300.0))
    case = _case(tmp_path, np.diag([-1.0, 1.0, 1.0, 1.0]))  # LAS
    volume = prepare(case, config)
    raw = np.arange(np.prod(SIZE), dtype=np.float32).reshape(SIZE)[::-1]
    expected = ((raw - 100) / 200).clip(0, 1)
    np.testing.assert_allclose(volume.image[0].numpy(), expected, atol=1e-3)
    assert volume.label[0, -4:].min() == 1
    assert int(volume.label.sum()) == 4 * 8 * 6


def test_a_volume_comes_in_the_spacing_of_the_run(tmp_path: Path) -> None:
    config = replace(TINY, spacing_mm=(2.0, 2.0, 2.0))
    volume = prepare(_case(tmp_path, np.diag([4.0, 2.0, 2.0, 1.0])), config)
    assert volume.image.shape[1] in (23, 24)  # 11 gaps of 4 mm
    assert set(volume.label.unique().tolist()) == {0, 1}


def test_mr_is_normalised_over_its_non_zero_voxels(tmp_path: Path) -> None:
    volume = prepare(_case(tmp_path, np.eye(4)), TINY)
    inside = volume.image[volume.image != 0].float()
    assert float(inside.mean()) == pytest.approx(0, abs=1e-2)
    assert float(inside.std()) == pytest.approx(1, abs=1e-2)
    assert volume.image[0, 0, 0, 0] == 0


def test_a_finished_model_sees_what_it_was_trained_on(tmp_path: Path) -> None:
    """In RAS, at the spacing, normalised: MONAI's transforms, where none is needed."""
    case = _case(tmp_path, np.diag([-1.0, 2.0, -3.0, 1.0]))
    trained = prepare(case, replace(TINY, spacing_mm=(1.0, 2.0, 3.0)))
    image = read(case.images[0])
    grid = ModelGrid.of(image, (1.0, 2.0, 3.0))
    seen = network_volume(image, grid, None)
    assert type(seen) is torch.Tensor  # MONAI's own kind slows a network down
    np.testing.assert_allclose(seen, trained.image.float(), atol=1e-2)
    sample = MetaTensor(
        torch.from_numpy(image.voxels)[None], affine=torch.from_numpy(image.affine)
    )
    turned = Orientation(axcodes="RAS", labels=None)(sample)
    normal = NormalizeIntensity(nonzero=True, channel_wise=True)(turned)
    np.testing.assert_allclose(seen, np.asarray(normal), atol=1e-5)


def test_an_unknown_spacing_is_left_as_it_is(tmp_path: Path) -> None:
    """As a finished model takes such a volume, which would not fit else."""
    case = _case(tmp_path, np.eye(4))
    config = replace(TINY, spacing_mm=(0.5, 0.5, 0.5))
    volume = prepare(case, config)
    image = read(case.images[0])
    assert image.units == "pixel"
    grid = ModelGrid.for_spec(
        image, replace(SPEC, spacing_mm=(0.5, 0.5, 0.5), window=None)
    )
    seen = network_volume(image, grid, None)
    np.testing.assert_allclose(seen, volume.image.float(), atol=1e-2)
    assert volume.label.shape == (1, *SIZE)


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    case = _case(tmp_path, np.eye(4), (12, 8, 5))
    with pytest.raises(DatasetError, match="on the grid of their image"):
        prepare(case, TINY)


def _relabelled(case: VolumeCase, labels: npt.NDArray[np.int16]) -> VolumeCase:
    nib.save(nib.Nifti1Image(labels, np.eye(4)), case.label)
    return case


def test_labels_above_255_are_not_cut_off(tmp_path: Path) -> None:
    """They stay what they are, and no sheet tells of them."""
    labels = np.zeros(SIZE, np.int16)
    labels[2:4], labels[6:8] = 256, 1
    volume = prepare(_relabelled(_case(tmp_path, np.eye(4)), labels), TINY)
    assert volume.label.unique().tolist() == [0, 1, 256]


def test_labels_of_a_set_are_numbered_in_the_order_of_the_classes(
    tmp_path: Path,
) -> None:
    config = replace(TINY, labels=MM_WHS_LABELS)
    labels = np.zeros(SIZE, np.int16)
    labels[1:8, 0, 0] = MM_WHS_LABELS
    case = _relabelled(_case(tmp_path, np.eye(4)), labels)
    found = prepare(case, config).label[0]
    assert found[1:8, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert int((found > 0).sum()) == 7
    labels[0, 0, 0] = 421
    with pytest.raises(DatasetError, match=r"labels 0, 500, .* got 421; .*--labels"):
        prepare(_relabelled(case, labels), config)


def test_the_presets_for_mm_whs_know_its_labels() -> None:
    """In the order of our sheets, as the set's own page tells them."""
    page = {
        500: "Left ventricle",
        600: "Right ventricle",
        420: "Left atrium",
        550: "Right atrium",
        205: "Myocardium of the left ventricle",
        820: "Ascending aorta",
        850: "Pulmonary artery",
    }
    for name in ("bipvlseg-whs-ct", "bipvlseg-whs-mr"):
        preset = PRESETS_3D[name]
        names = find_sheet(preset.sheet).names
        assert dict(zip(preset.labels, names, strict=True)) == page


def test_a_patch_depends_on_its_seed_alone(tiny_volumes: Path) -> None:
    first, second = (prepare(c, TINY) for c in volume_cases(tiny_volumes, "train")[:2])
    transform = augmentation(TINY)
    image, label = patch_of(first, transform, 7, ())
    assert image.shape == label.shape == (1, *TINY.patch)
    assert set(label.unique().tolist()) <= {0.0, 1.0, 2.0}
    patch_of(second, transform, 8, ())
    again = patch_of(first, augmentation(TINY), 7, ())
    assert torch.equal(image, again[0])
    assert torch.equal(label, again[1])
    assert not torch.equal(image, patch_of(first, transform, 9, ())[0])


def test_only_the_axes_that_may_be_flipped_are(tiny_volumes: Path) -> None:
    """Class 1 lies at low R, class 2 at high R, unless R is flipped."""
    quiet = replace(TINY, rotation_degrees=(0.0, 0.0, 0.0), zoom=0.0)
    volume = prepare(volume_cases(tiny_volumes, "train")[0], quiet)

    def orders(axes: tuple[int, ...]) -> set[bool]:
        transform = augmentation(replace(quiet, flip_axes=axes, flipped_draws=""))
        labels = [patch_of(volume, transform, seed, ())[1][0] for seed in range(12)]
        places = [
            [(x == n).nonzero()[:, 0].float().mean() for n in (1, 2)] for x in labels
        ]
        return {bool(one < two) for one, two in places}

    assert orders((1, 2)) == {True}
    assert orders((0,)) == {True, False}


def test_regions_are_unions_of_labels() -> None:
    label = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    masks = to_regions(label, PRESETS_3D["bipvlseg-brain"].label_regions)
    assert masks.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0]]
    assert to_regions(label, ()) is label


def test_the_presets_are_the_rows_of_table_4() -> None:
    table = {
        "bipvlseg": ((1.5, 1.5, 2.0), (-175.0, 250.0)),
        "bipvlseg-whs-ct": ((1.5, 1.5, 2.0), (0.0, 400.0)),
        "bipvlseg-whs-mr": ((1.5, 1.5, 2.0), (0.0,)),
        "bipvlseg-brain": ((1.0, 1.0, 1.0), (0.0,)),
    }
    for name, row in table.items():
        preset = PRESETS_3D[name]
        assert (preset.spacing_mm, preset.window) == row, name
        assert preset.patch == (96, 96, 96)
        assert (preset.learning_rate, preset.weight_decay) == (1e-4, 1e-5)
        assert (preset.final_learning_rate, preset.temperature) == (1e-7, 0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text_format": "prose"}, "text_format"),
        ({"attention": "some"}, "attention"),
        ({"patch": (32, 32)}, "patch must be 3 numbers"),
        ({"window": (1.0,)}, "window must be 2"),
        ({"spacing_mm": (1.0,)}, "spacing_mm must be 3"),
        ({"vision": "resnet"}, "vision"),
        ({"window": (300.0, 0.0)}, "window must be two values that rise, got 300,0"),
        ({"window": (0.0, math.nan)}, "window must be two values that rise"),
        ({"flipped_draws": "X"}, "flipped_draws must be among RAS, which training"),
        ({"flipped_draws": "RR"}, "flipped_draws must be among RAS"),
        ({"flipped_draws": "A", "flip_axes": (0, 2)}, "among RS, which training"),
        ({"flipped_draws": "A", "flip_axes": ()}, "flipped_draws must be empty"),
        ({"flip_axes": (3,)}, "flip_axes must be among 0, 1 and 2"),
        ({"orientation": "RLS"}, "orientation must be one of R and L"),
        ({"orientation": "XAS"}, "orientation must be one of R and L"),
        ({"regions": "1,x"}, "regions must be the labels of each class, .* '1,x'"),
        ({"regions": "1,"}, "regions must be the labels"),
        ({"regions": "0,1"}, "regions must be the labels"),
        ({"labels": (5, 5)}, "labels must be whole numbers above 0 that differ"),
        ({"labels": (0, 1)}, "labels must be whole numbers above 0"),
        ({"labels": (1, 2), "regions": "1,2"}, "labels must be left out with regions"),
        ({"patch": (50, 50, 50)}, "patch must be multiples of 32,32,32 for swin"),
        ({"patch": (96, 96, 90), "vision": "unetr"}, "multiples of 16,16,16 for unetr"),
        ({"vision": "unet", "patch": (96, 96, 8)}, "multiples of 16,16,16 for unet,"),
        ({"patch": (96, 96, 0)}, "patch must be at least 1, got 0"),
        ({"negatives": 0}, "negatives must be at least 1, got 0"),
        ({"strides": (0,) * 12, "vision": "unet"}, "strides must be at least 1"),
        ({"widths": (48, 48)}, "widths must be 1 of swin-unetr-v2, .* got 48,48"),
        ({"widths": (50,)}, "the last a multiple of 12"),
        ({"vision": "unetr", "widths": (16, 100)}, "multiple of 12, such as 16,768"),
        ({"heads": 5}, "heads must divide the channels .* got 5 for 96"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"zoom": 1.5}, "zoom must be between 0 and 0.9, got 1.5"),
        ({"learning_rate": math.nan}, "learning_rate must be between"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BiPVLTrainConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("vision", VISION_MODELS)
def test_every_vision_model_has_widths_of_its_own(vision: str) -> None:
    """With which the network can be built: on no device, so without memory."""
    config = BiPVLTrainConfig(vision=vision, heads=8)
    with torch.device("meta"):
        network = BiPVLSeg(config.network(3, 1))
    assert network.vision.stage_channels == config.network(3, 1).stage_channels
