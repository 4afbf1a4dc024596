"""The experiment with forms of noise: its settings, and a tiny run of it."""

from __future__ import annotations

import argparse
import json
import shutil
from typing import TYPE_CHECKING

import noise_forms
import pytest
import torch
from noise_settings import (
    OF_PIXELS,
    OF_WORDS,
    PLACES,
    PRIOR_DEVIATION,
    SETTINGS,
    Deviations,
    Noise,
    Setting,
    Trainer,
    cross_attentions,
    loadings,
    network,
)

from napari_medvlseg.core.models.compact import Compact

if TYPE_CHECKING:
    from pathlib import Path

TINY = "--size 64 --pictures 4 --batch 2 --steps 2 --cases 1 --outside 1 --samples 3"


@pytest.fixture
def data(tiny_set: Path, tmp_path: Path) -> Path:
    """Return a folder of a set to learn from and one out of domain."""
    root = tmp_path / "data"
    shutil.copytree(tiny_set / "Kvasir", root / "Kvasir")
    validation = tiny_set / "Kvasir" / "Val_Folder"
    shutil.copytree(validation, root / "BUSBRA" / "Val_Folder")
    return root


def test_a_run_leaves_a_result_that_is_not_made_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, page = tmp_path / "out", tmp_path / "page.md"
    page.write_text("a\n<!-- table: noise_forms -->\nold\n<!-- end -->\nb\n")
    arguments = [str(data), str(output), *TINY.split(), "--page", str(page), "--only"]
    noise_forms.main([*arguments, "prior", "none", "rank-4.1"])
    told = json.loads((output / "rank-4.1.json").read_text())
    assert told["seed"] == 1
    for side in ("in", "out"):
        assert 0 <= told[side]["dsc"] <= 1
        assert 0 < told[side]["share"] < 1
    twin = json.loads((output / "none.0.json").read_text())
    assert twin["out"]["share"] == 0
    assert twin["out"]["information"] is None
    before = page.read_text()
    assert "old" not in before
    assert before.count("\n| ") == 5
    monkeypatch.setattr(noise_forms, "Experiment", _refuse)
    noise_forms.main([*arguments, "none"])
    assert page.read_text() == before
    with pytest.raises(SystemExit, match="another recipe"):
        noise_forms.main([*arguments, "none", "--steps", "3"])


def _refuse(*_: object) -> None:
    """Nothing is to be prepared."""
    raise AssertionError


def test_a_run_is_named_by_its_setting_and_seed() -> None:
    assert noise_forms.run_name("start-0.5") == ("start-0.5", 0)
    assert noise_forms.run_name("start-0.5.3") == ("start-0.5", 3)
    for wrong in ("loud", "start-0.5.x", "shared.-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected NAME"):
            noise_forms.run_name(wrong)


def test_all_settings_start_alike_but_for_their_deviation() -> None:
    weights = Compact().state_dict()
    starts = {}
    for start in (0.2, 2.0):
        model = network("shared", weights)
        Trainer(model, Setting(label="", start=start), seed=4, steps=1, rate=0.1)
        starts[start] = model.state_dict()
        bias = cross_attentions(model)[3].to_value.bias.detach()
        deviation = torch.nn.functional.softplus(bias[model.config.dim :]).sqrt()
        torch.testing.assert_close(deviation, torch.full_like(deviation, start))
    other = [name for name, x in starts[0.2].items() if not x.equal(starts[2.0][name])]
    assert len(other) == PLACES
    assert all(name.endswith("to_value.bias") for name in other)
    changed = {n for n, x in weights.items() if not x.equal(starts[0.2][n])}
    assert all("text_to_vision" in n or "vision_to_text" in n for n in changed)


def test_raising_the_noise_leaves_all_other_weights() -> None:
    weights = Compact().state_dict()
    model = network("shared", weights)
    Trainer(model, SETTINGS["raised"], seed=4, steps=1, rate=0.1)
    now = model.state_dict()
    changed = [name for name, x in weights.items() if not x.equal(now[name])]
    assert len(changed) == PLACES
    assert all(name.endswith("to_value.bias") for name in changed)


def test_noise_enters_where_a_setting_says() -> None:
    shapes = [(1, k, 4) for _ in range(2) for k in (9, 3, 16, 3, 25, 3)]
    for name, places in (("of-words", OF_WORDS), ("of-pixels", OF_PIXELS)):
        noise = Noise(SETTINGS[name], 0)
        moved = [bool(noise(shape).any()) for shape in shapes]
        assert moved == [place % PLACES in places for place in range(len(shapes))]


@pytest.mark.parametrize(("tokens", "square"), [(36, True), (10, False)])
def test_noise_of_low_rank_has_unit_variance_and_that_rank(
    tokens: int, *, square: bool
) -> None:
    factors = loadings(tokens, 4, is_square=square)
    torch.testing.assert_close(factors.square().sum(dim=1), torch.ones(tokens))
    assert int(torch.linalg.matrix_rank(factors)) == 4
    noise = Noise(Setting(label="", form="token", rank=4), 0)
    if not square:
        noise((1, 4, 2))  # the first place is of pixels
    drawn = noise((600, tokens, 8))
    assert int(torch.linalg.matrix_rank(drawn[0], tol=1e-4)) == 4
    spread = drawn.transpose(0, 1).flatten(1)
    torch.testing.assert_close(spread.std(dim=1), torch.ones(tokens), atol=0.06, rtol=0)
    found = torch.corrcoef(spread)
    torch.testing.assert_close(found, factors @ factors.T, atol=0.08, rtol=0)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    model = network("shared", Compact().state_dict())
    deviations = Deviations(model)
    generator = torch.Generator().manual_seed(1)
    attention = cross_attentions(model)[0]
    attention.to_value(torch.randn(1, 5, model.config.dim, generator=generator))
    own = torch.distributions.Normal(0.0, deviations.heard[0])
    prior = torch.distributions.Normal(0.0, PRIOR_DEVIATION)
    expected = torch.distributions.kl_divergence(own, prior).mean()
    torch.testing.assert_close(deviations.divergence(), expected)
