"""The script that times BiPVL-Seg beside MONAI's Swin UNETR runs."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from swin_unetr_speed import main

from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _own_chance() -> Iterator[None]:
    """Leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def test_both_networks_are_timed_on_one_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = TEXT_ENCODERS["clinicalbert"]  # but fewer channels and words
    shape = replace(spec.shape, dim=24, heads=2, hidden_dim=24, vocabulary=99)
    monkeypatch.setitem(TEXT_ENCODERS, "clinicalbert", replace(spec, shape=shape))
    small = ["--side", "64", "--width", "12", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["swin_unetr_speed.py", *small])
    main()
    told = capsys.readouterr().out
    times = [float(x) for x in re.findall(r"([\d.]+) s of the processor", told)]
    assert len(times) == 2
    assert all(time > 0 for time in times)
    (ratio,) = re.findall(r"ours takes ([\d.]+) times", told)
    assert float(ratio) == pytest.approx(times[1] / times[0], rel=0.1)
