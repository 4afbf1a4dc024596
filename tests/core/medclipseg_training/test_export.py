"""From a run to a bundle that answers; evidence instead of draws."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.cli import main
from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.medclipseg.head import BetaBelief
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
from napari_medvlseg.core.training.medclipseg.export import (
    bundle_name,
    export_medclipseg,
)
from napari_medvlseg.core.training.medclipseg.start import begin
from napari_medvlseg.core.types import Image
from tests.core.medclipseg_training.conftest import tiny

if TYPE_CHECKING:
    from pathlib import Path


def _picture() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_a_bundle_holds_what_was_learnt(finished: Path, tmp_path: Path) -> None:
    figures = {"sets": [], "note": "none"}
    folder = export_medclipseg(finished, tmp_path / "mine", figures)
    predictor = Predictor.load(str(folder), device="cpu", precision="float32")
    learnt = torch.load(finished / CHECKPOINT, weights_only=True)["learnt"]
    network: torch.nn.Module = predictor.network  # type: ignore[assignment]
    state = network.state_dict()
    for name, value in learnt.items():
        torch.testing.assert_close(state[name], value.half().float(), msg=name)
    assert predictor.card.figures == figures
    assert (
        predictor.card.concepts[0].example == "one round polyp in the colonoscopy image"
    )
    result = segment(_picture(), "polyp", predictor, num_samples=3)
    assert result.provenance["samples_drawn"] == [3.0]
    assert result.provenance["uncertainty_from"] == "samples"
    assert result.mutual_information.max() > 0
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "Research use only" in card
    assert "| Kvasir | 10 | Kvasir-SEG; research and education |" in card


def test_a_run_can_go_on_from_a_bundle(finished: Path, tmp_path: Path) -> None:
    folder = export_medclipseg(finished, tmp_path / "mine")
    start = begin(tiny(start=str(folder), seed=5))
    other = begin(tiny(pretrained=str(folder), seed=5))
    learnt = torch.load(finished / CHECKPOINT, weights_only=True)["learnt"]
    for name, value in start.network.state_dict().items():
        if name in learnt:
            torch.testing.assert_close(value, learnt[name].half().float(), msg=name)
    towers, head = "vision_model.conv1.weight", "mask_head.0.weight"
    theirs = other.network.state_dict()
    torch.testing.assert_close(theirs[towers], learnt[towers].half().float())
    assert not torch.allclose(theirs[head], learnt[head], atol=1e-2)


def test_a_name_tells_backbone_sets_and_share() -> None:
    config = MedCLIPSegTrainConfig(backbone="small", fraction=10)
    sets = {"BUSI": 62, "Kvasir": 78}
    assert bundle_name(config, sets) == "medclipseg-small-busi-kvasir-10"
    assert bundle_name(tiny(), {"ISIC": 1}) == "medclipseg-clip-isic"


def test_a_run_without_a_checkpoint_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected the checkpoint"):
        export_medclipseg(tmp_path)


def test_evidence_tells_the_uncertainty_in_one_pass(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By commands, with the small pair: train, measure, export, segment."""

    def medvlseg(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0
        told = capsys.readouterr()
        return told.out + told.err

    run = tmp_path / "run"
    medvlseg(
        *("train", "--preset", "medclipseg", "--backbone", "small", "--data", squares),
        *("--output", run, "--fraction", 50, "--epochs", 1, "--batch-size", 5),
        *("--adapter-dim", 8, "--head", "evidential", "--precision", "float32"),
    )
    figures, bundle = tmp_path / "figures.json", tmp_path / "mine"
    choices = ("--device", "cpu", "--precision", "float32")
    made = run / "medclipseg-small-kvasir-50"
    said = medvlseg(
        *("evaluate", "--data", squares, "--model", made, "--samples", 7),
        *(*choices, "--json", figures),
    )
    assert "uncertainty from the evidence" in said
    assert json.loads(figures.read_text())["samples"] == 1
    medvlseg("models", "export", run, "--output", bundle, "--figures", figures)
    words = ["models", "export", str(run), "--output", str(tmp_path / "no")]
    for flags in (["--words-noise", "1,1,2"], ["--blend", "compact"]):
        assert main([*words, *flags]) == 2
        assert not (tmp_path / "no").exists()
    predictor = Predictor.load(str(bundle), device="cpu", precision="float32")
    few, many = (
        segment(_picture(), "one polyp", predictor, num_samples=n, seed=n)
        for n in (1, 30)
    )
    np.testing.assert_array_equal(few.probability, many.probability)
    np.testing.assert_array_equal(few.expected_entropy, many.expected_entropy)
    assert many.provenance["samples_drawn"] == [1.0]
    assert many.provenance["uncertainty_from"] == "evidence"
    assert any("one pass" in hint for hint in many.provenance["hints"])
    assert many.mutual_information.max() > 0.01
    _check_belief(predictor, many.probability[0], many.expected_entropy[0])


def _check_belief(predictor: Predictor, probability: object, entropy: object) -> None:
    """Compare with the head's own counts, enlarged to the picture's grid."""
    pixels = torch.from_numpy(_picture()).permute(2, 0, 1).float() / 127.5 - 1
    image, (words, mask) = predictor.pyramid(pixels), predictor.words("one polyp")
    with torch.inference_mode():
        output = predictor.network.draw(image, words, mask, torch.zeros)
        belief = output.belief  # type: ignore[attr-defined]
        whole = BetaBelief(
            *(
                torch.nn.functional.interpolate(x, (32, 32), mode="bilinear")
                for x in belief
            )
        )
    expected = (whole.probability[0, 0].numpy(), whole.expected_entropy[0, 0].numpy())
    np.testing.assert_allclose(probability, expected[0], atol=1e-5)  # type: ignore[call-overload]
    np.testing.assert_allclose(entropy, expected[1], atol=1e-5)  # type: ignore[call-overload]
    settings = SegmentConfig(num_samples=2)
    plain, _ = naive_loop(predictor, Image(_picture(), rgb=True), "one polyp", settings)
    np.testing.assert_allclose(plain, expected[0], atol=1e-5)
