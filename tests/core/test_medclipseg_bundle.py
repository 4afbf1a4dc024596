"""MedCLIPSeg bundles through the predictor, and stopping once enough is drawn."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.torch import save

from napari_medvlseg.cli import main
from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.bench import bench_steps
from napari_medvlseg.core.bundle import write_bundle
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import CheckpointError, PromptError
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.types import Image
from tests.tiny_medclipseg import SIDE, TEXT, tiny_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "polyp", "nevus", "##s"]
CARD = {
    "title": "Tiny",
    "summary": "Random weights.",
    "licence": "BSD-3-Clause",
    "intended_use": "Tests.",
    "concepts": [],
    "input": {"size": SIDE, "tile": SIDE, "overlap": 0.25},
    "min_foreground": 0.0,
    "parameters": 1,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a bundle of a tiny network."""

    def write(variant: str = "unimedclip", **choices: Any) -> Path:
        if variant == "clip":  # its vocabulary comes with open_clip, in full
            choices["text"] = dataclasses.replace(TEXT, vocabulary=49408)
        network = tiny_network(variant, **choices)
        settings = network.config.to_dict()
        told = {"architecture": "medclipseg", "config": settings}
        folder = tmp_path / f"tiny-{variant}"
        write_bundle(
            folder,
            weights=save({k: v.contiguous() for k, v in network.state_dict().items()}),
            config={**CARD, "model_id": folder.name, "network": told},
            card="# tiny\n",
            figures={},
        )
        if variant != "clip":
            vocabulary = "\n".join(WORDS) + "\n"
            (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)


def _load(folder: Path) -> Predictor:
    return Predictor.load(str(folder), device="cpu", precision="float32")


@pytest.mark.parametrize("variant", ["unimedclip", "clip"])
@pytest.mark.parametrize("compatible", [True, False])
def test_a_bundle_segments_as_the_plain_loop_does(
    bundle: Callable[..., Path],
    picture: npt.NDArray[np.uint8],
    variant: str,
    *,
    compatible: bool,
) -> None:
    predictor = _load(bundle(variant, compatible=compatible))
    result = segment(picture, ["a polyp", "nevus"], predictor, num_samples=5, seed=3)
    assert result.probability.shape == (2, 50, 40)
    assert np.abs(result.probability[0] - result.probability[1]).max() > 1e-3
    assert result.mutual_information.max() > 0
    same_grid = picture[:SIDE, :SIDE]
    found = segment(same_grid, "a polyp", predictor, num_samples=5, seed=3)
    predictor.network.plain = True
    probability, _ = naive_loop(
        predictor,
        Image(same_grid, rgb=True),
        "a polyp",
        SegmentConfig(num_samples=5, seed=3),
    )
    np.testing.assert_allclose(found.probability[0], probability, atol=1e-5)


def test_a_bundle_that_names_nothing_is_measured(
    bundle: Callable[..., Path],
    picture: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an imported one is; without the memory, which another process tells."""
    monkeypatch.setattr("napari_medvlseg.core.bench._peak_bytes", lambda *_parts: None)
    stages = bench_steps(
        str(bundle()),
        Image(picture, rgb=True),
        SegmentConfig(num_samples=6, device="cpu", precision="float32"),
        repeats=1,
        prompt="a polyp",
    )
    result = list(stages)[-1].result
    assert result is not None
    assert (result.model, result.peak_bytes) == ("tiny-unimedclip", None)
    assert result.difference_float32 < 1e-4
    assert 5 <= result.adaptive_drawn <= 6
    assert min(result.speedup, result.speedup_float32, result.speedup_adaptive) > 0


def test_the_command_line_takes_the_folder_of_a_bundle(
    bundle: Callable[..., Path], picture: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    import tifffile

    image, output = tmp_path / "picture.tif", tmp_path / "results"
    tifffile.imwrite(image, picture, photometric="rgb")
    command = ["segment", str(image), "--model", str(bundle()), "--prompt", "a polyp"]
    assert main([*command, "--samples", "2", "--output", str(output)]) == 0
    assert list(output.glob("picture_*"))


def test_without_its_vocabulary_a_bundle_says_what_to_copy(
    bundle: Callable[..., Path],
) -> None:
    folder = bundle()
    (folder / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"copy vocab\.txt of microsoft/"):
        _load(folder)


def test_a_vocabulary_larger_than_the_tower_is_another_models(
    bundle: Callable[..., Path],
) -> None:
    folder = bundle()
    more = "\n".join([*WORDS, *(f"w{k}" for k in range(64))])
    (folder / "vocab.txt").write_text(more + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="at most 64 word pieces, got 73"):
        _load(folder)


def test_a_prompt_longer_than_the_tower_is_refused(
    bundle: Callable[..., Path],
) -> None:
    predictor = _load(bundle())
    words, mask = predictor.words("a  polyps&amp; ")
    assert words.shape[1] == TEXT.max_tokens
    assert mask.sum() == 6  # [CLS] a polyp ##s [UNK] [SEP]
    with pytest.raises(PromptError, match="at most 12 word pieces, got 22"):
        predictor.words("a " * 20)


def test_a_network_without_noise_draws_once(
    bundle: Callable[..., Path], picture: npt.NDArray[np.uint8]
) -> None:
    predictor = _load(bundle(deterministic=True))
    own_grid = picture[:SIDE, :SIDE]  # nothing is interpolated
    result = segment(own_grid, "a polyp", predictor, num_samples=30)
    assert result.provenance["samples_drawn"] == [1.0]
    assert result.mutual_information.max() < 1e-5


def test_drawing_stops_once_the_mean_is_known(
    bundle: Callable[..., Path], picture: npt.NDArray[np.uint8]
) -> None:
    predictor = _load(bundle())
    every = segment(picture, "a polyp", predictor, num_samples=30)
    enough = segment(picture, "a polyp", predictor, num_samples=30, tolerance=0.9)
    tight = segment(picture, "a polyp", predictor, num_samples=30, tolerance=1e-9)
    assert every.provenance["samples_drawn"] == [30.0]
    assert enough.provenance["samples_drawn"] == [5.0]
    first = segment(picture, "a polyp", predictor, num_samples=5)
    np.testing.assert_array_equal(enough.probability, first.probability)
    np.testing.assert_array_equal(tight.probability, every.probability)
