"""Flags made of a configuration's fields."""

from __future__ import annotations

import argparse

import pytest

from napari_medvlseg.cli_options import add_flags, config_from, segment_config
from napari_medvlseg.core.config import ADAPTIVE_TOLERANCE, SegmentConfig
from napari_medvlseg.core.training.config import TrainConfig


@pytest.mark.parametrize(
    ("words", "read_names"),
    [([], True), (["--read-names"], True), (["--no-read-names"], False)],
)
def test_yes_and_no_are_two_flags(words: list[str], *, read_names: bool) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, SegmentConfig, "how")
    assert segment_config(parser.parse_args(words)).read_names is read_names


@pytest.mark.parametrize(
    ("words", "fold"), [([], False), (["--fold"], True), (["--no-fold"], False)]
)
def test_so_they_are_for_training(words: list[str], *, fold: bool) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, TrainConfig, "how")
    assert config_from(TrainConfig, parser.parse_args(words)).fold is fold


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [([], 0), (["--adaptive"], ADAPTIVE_TOLERANCE), (["--tolerance", "0.1"], 0.1)],
)
def test_adaptive_sampling_has_a_tolerance(words: list[str], tolerance: float) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, SegmentConfig, "how")
    assert segment_config(parser.parse_args(words)).tolerance == tolerance
