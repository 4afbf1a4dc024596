"""Every choice of a run, its default and its unit, in one place."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from napari_medvlseg.core.windows import (
    INTENSITIES,  # noqa: F401 - the help of the command line names its values
    parse_intensity,
)

DEVICES = ("auto", "cpu", "cuda", "mps")
NOISE_FORMS = ("token", "shared", "dropout", "none")
"""How the draws of a network differ; `ProbabilisticCrossAttention` tells."""
NOISE_STRIDES = 3
"""Strides at which compact draws noise: 32, 16 and 8."""
PRECISIONS = ("auto", "float32", "bfloat16")
TILINGS = ("auto", "whole", "tile")
FORMATS = ("auto", "nifti", "nrrd", "tiff", "dicom-seg")
"""What results are written as; auto follows the image."""
AXES = "RAS"
"""To the right, to the front, up: the axes of a 3D model's grid."""
NO_FLIPS = "none"
MAX_SAMPLES = 100
ADAPTIVE_TOLERANCE = 0.025
"""Of `SegmentConfig.tolerance`, where it is wanted and no other is chosen: the mask's
DSC to that of 30 samples is at least 0.995 in 60 of 60 pictures (docs/speed.md)."""
MAX_SMOOTHING = 100.0
"""Of `SegmentConfig.smooth_slices`, in mm or slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """How an image is segmented."""

    num_samples: int = 30
    """Monte Carlo draws, 1 to `MAX_SAMPLES`."""
    seed: int = 0
    """Of the draws; the same seed gives the same result."""
    threshold: float = 0.5
    """Probability above which a pixel is labelled, 0 to 1."""
    device: str = "auto"
    """One of `DEVICES`."""
    precision: str = "auto"
    """One of `PRECISIONS`; auto is bfloat16 where the device is quick at it."""
    tiling: str = "auto"
    """One of `TILINGS`; auto follows the model's card."""
    axis: int | None = None
    """Axis to walk along in a volume; None is the image's own `slice_axis`."""
    slice_index: int | None = None
    """The one slice to segment along `axis`; None is every slice."""
    intensity: str = "auto"
    """Which grey values become black and white: a name (`INTENSITIES`; the last ones
    are CT windows) or a window's level and width in HU, as L40W80; auto follows the
    model's card, and without that keeps 8 bits and stretches others by percentiles."""
    read_names: bool = True
    """Read a name that the model has not learnt as the nearest one that it has, and
    say so."""
    smooth_slices: float = 0.0
    """Standard deviation of a smoothing across the slices of a volume, in mm, or in
    slices where the image does not tell its spacing; 0 is off."""
    tolerance: float = 0.0
    """Draw no more samples once the mean probability is known this well (its standard
    error, as a root mean square over the unclear pixels), for instance to
    `ADAPTIVE_TOLERANCE`; 0 draws them all."""
    class_texts: str = ""
    """Of a 3D model: its classes in other words, as a .csv or .json sheet (or the text
    of a .json sheet); empty are the model's own."""
    flips: str = ""
    """Of a 3D model: axes along which its draws see the volume flipped, by turns, as
    letters of R, A and S (RA makes four views), or none; empty is as the model's card
    says. A model whose draws are all the same is asked once a view."""
    batch_size: int = 4
    """Draws computed at once; changes speed and memory, not the result."""

    def __post_init__(self) -> None:
        _check_range("num_samples", self.num_samples, 1, MAX_SAMPLES)
        _check_range("threshold", self.threshold, 0, 1)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("batch_size", self.batch_size, 1, MAX_SAMPLES)
        _check_range("tolerance", self.tolerance, 0, 1)
        _check_range("smooth_slices", self.smooth_slices, 0, MAX_SMOOTHING)
        parse_intensity(self.intensity)
        _check_flips(self.flips)
        _check_choice("device", self.device, DEVICES)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("tiling", self.tiling, TILINGS)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high]."""
    if not low <= value <= high:
        msg = f"{name} must be between {low} and {high}, got {value}"
        raise ValueError(msg)


def _check_flips(flips: str) -> None:
    """Refuse what are no axes, or one twice."""
    if flips == NO_FLIPS:
        return
    if not set(flips) <= set(AXES) or len(set(flips)) < len(flips):
        msg = f"flips must be {NO_FLIPS}, or some of the letters {AXES}, got {flips!r}"
        raise ValueError(msg)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
        raise ValueError(msg)


def data_folder() -> Path:
    """Return the folder of labelled data sets: ``MEDVLSEG_DATA``."""
    return Path(os.environ.get("MEDVLSEG_DATA", "../shared/data"))


def cache_folder() -> Path:
    """Return the folder of downloads: ``MEDVLSEG_CACHE``, or the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("MEDVLSEG_CACHE", default / "napari-medvlseg"))


def check_noise(name: str, factors: tuple[float, ...]) -> None:
    """Refuse what are no factors of the noise at `NOISE_STRIDES` strides.

    Raises
    ------
    ValueError
        If they are not so many, or one is below 0 or not finite.
    """
    if len(factors) != NOISE_STRIDES or not all(0 <= x < math.inf for x in factors):
        msg = (
            f"{name} must be {NOISE_STRIDES} numbers of 0 or more, for the strides 32, "
            f"16 and 8, got {', '.join(map(str, factors)) or 'none'}"
        )
        raise ValueError(msg)
