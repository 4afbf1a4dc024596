"""How a training on labelled volumes prepares them, and how long it runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.config import AXES
from napari_medvlseg.core.volume_spec import world_letters

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST = 1e-12
"""Of what must be above 0."""
RANGES = {
    "patch": (1, math.inf),
    "spacing_mm": (0, 1000),
    "foreground_share": (0, 1),
    "rotation_degrees": (0, 180),
    "zoom": (0, 0.9),
    "intensity_change": (0, 1),
    "epochs": (1, math.inf),
    "validate_every": (1, math.inf),
    "batch_size": (1, math.inf),
    "learning_rate": (LEAST, 1),
    "final_learning_rate": (0, 1),
    "weight_decay": (0, 1),
    "average_decay": (0, 1 - 1e-6),
    "seed": (0, 2**63 - 1),
    "threads": (0, math.inf),
    "workers": (0, math.inf),
}
"""What each number of a training may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeTrainConfig:
    """What trainings on volumes have in common; the defaults are BiPVL-Seg's."""

    patch: tuple[int, ...] = (96, 96, 96)
    """Voxels of a training patch."""
    resized: bool = False
    """Whether a patch is the whole volume, brought to that size."""
    orientation: str = "RAS"
    """Where the axes of a patch point to."""
    min_max: bool = False
    """Whether the darkest and the brightest voxel of a volume become 0 and 1; the
    window then counts for nothing."""
    spacing_mm: tuple[float, ...] = (1.5, 1.5, 2.0)
    """Voxels along R, A and S; 0 keeps those of the images."""
    window: tuple[float, ...] = (-175.0, 250.0)
    """Grey values that become 0 and 1, as in --window=-175,250; 0 normalises the
    non-zero voxels of each channel instead."""
    foreground_share: float = 0.5
    """Of the patches, share that is centred on a class."""
    flip_axes: tuple[int, ...] = (0, 1, 2)
    """Axes (R, A, S) that are flipped at random; leave out those whose sides the
    classes' names tell apart."""
    flipped_draws: str = ""
    """Axes along which the bundle's draws see a window flipped, by turns: letters of
    R, A and S, of axes that training flips."""
    rotation_degrees: tuple[float, ...] = (6.0, 6.0, 6.0)
    """Largest random rotation about R, A and S."""
    zoom: float = 0.1
    """Largest random zoom."""
    intensity_change: float = 0.1
    """Largest random shift and scale of the intensities."""
    epochs: int = 300
    """Passes over the volumes, one patch of each."""
    validate_every: int = 5
    """Epochs between validations."""
    batch_size: int = 1
    """Patches a step, over all processes."""
    learning_rate: float = 1e-4
    """AdamW's, at first; it falls along a cosine."""
    final_learning_rate: float = 1e-7
    """At the end."""
    weight_decay: float = 1e-5
    """AdamW's."""
    average_decay: float = 0.0
    """Of a running average of the weights, a step, which is then what is validated
    and saved; 0 keeps none."""
    precision: str = "bfloat16"
    """Of forward passes: bfloat16 or float32."""
    seed: int = 0
    """Of initial weights, order, augmentation and noise."""
    threads: int = 0
    """CPU threads; 0 is torch's own choice."""
    device: str = "cpu"
    """Where to train: auto, cpu, cuda or mps."""
    workers: int = 0
    """Processes that prepare the steps to come; 0 is this one."""

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, ("bfloat16", "float32"))
        check_length("patch", self.patch, 3)
        check_length("rotation_degrees", self.rotation_degrees, 3)
        if any(self.spacing_mm):
            check_length("spacing_mm", self.spacing_mm, 3)
        check_ranges(self, RANGES)
        self._check_window()
        self._check_axes()

    def _check_window(self) -> None:
        """Refuse grey values that do not rise."""
        if not any(self.window):
            return
        check_length("window", self.window, 2)
        low, high = self.window
        if not -math.inf < low < high < math.inf:
            msg = f"window must be two values that rise, got {low:g},{high:g}"
            raise ValueError(msg)

    def _check_axes(self) -> None:
        """Refuse what are no axes, and views that training never shows."""
        whole = world_letters(range(len(self.orientation)), self.orientation)
        if whole != AXES:
            msg = (
                "orientation must be one of R and L, of A and P, and of S and I, got "
                f"{self.orientation!r}"
            )
            raise ValueError(msg)
        if not set(self.flip_axes) <= {0, 1, 2}:
            msg = f"flip_axes must be among 0, 1 and 2, got {self.flip_axes}"
            raise ValueError(msg)
        draws, learnt = self.flipped_draws, self.learnt_flips
        if not set(draws) <= set(learnt) or len(set(draws)) < len(draws):
            among = f"among {learnt}, which training flips" if learnt else "empty"
            msg = (
                f"flipped_draws must be {among} (flip_axes, orientation), got {draws!r}"
            )
            raise ValueError(msg)

    @property
    def learnt_flips(self) -> str:
        """Return the axes that training flips as letters of R, A and S."""
        return world_letters(sorted(set(self.flip_axes)), self.orientation)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Return what files call the labels 1, 2 and so on; none if the same."""
        return ()

    @property
    def label_regions(self) -> tuple[tuple[int, ...], ...]:
        """Return the labels of each overlapping class; none if they exclude."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
        raise ValueError(msg)


def check_length(name: str, value: tuple[float, ...], length: int) -> None:
    """Refuse too few or too many numbers."""
    if len(value) != length:
        msg = f"{name} must be {length} numbers, got {len(value)}"
        raise ValueError(msg)


def check_ranges(config: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers, or any of several, outside what their fields may hold."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                limits = f"at least {low:g}"
                if high < math.inf:
                    limits = f"between {low:g} and {high:g}"
                msg = f"{name} must be {limits}, got {number:g}"
                raise ValueError(msg)
