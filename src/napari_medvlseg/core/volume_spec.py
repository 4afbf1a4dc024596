"""What a bundle says of a 3D model: its classes, its grid, its windows."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.class_texts import TEXT_FORMATS, ClassSheet, ClassText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Three = tuple[float, float, float]
SIDES = ("RL", "AP", "SI")
"""Of each axis of the world, the letter that it runs to, and the other."""
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """What a 3D network takes, and what it finds."""

    sheet: ClassSheet
    """The classes in the order of the network's channels."""
    colors: tuple[str, ...]
    """Of each class, as ``#rrggbb``."""
    exclusive: bool
    """Whether the classes exclude one another (softmax), or each is a question."""
    text_format: str
    """How the network was told of the classes, one of `TEXT_FORMATS`."""
    patch: tuple[int, int, int]
    """Voxels of a window along the axes of `orientation`."""
    overlap: float
    """Share of a window that its neighbour repeats."""
    spacing_mm: Three | None
    """Voxels along R, A and S; None, or a 0, keeps those of the image."""
    window: tuple[float, float] | None
    """Grey values that become 0 and 1; None normalises what is not 0."""
    channels: int = 1
    """Of the image: 1, or for instance 4 MR sequences."""
    regions: tuple[tuple[int, ...], ...] = ()
    """The labels that each class has in a labelled volume, where classes overlap or
    the labels are not 1, 2 and so on."""
    orientation: str = "RAS"
    """Where the axes of a window point to."""
    resized: bool = False
    """Whether the whole volume is brought to the size of one window, `patch`, in place
    of a spacing."""
    min_max: bool = False
    """Whether the darkest and the brightest voxel of a volume become 0 and 1, in place
    of a window of grey values."""
    picture: str = ""
    """What the volumes are, as prompts say it: "brain MRI"."""
    flips: str = ""
    """Axes along which draws see a window flipped, by turns, unless the user says
    otherwise: letters of R, A and S."""
    learnt_flips: str | None = None
    """Axes along which training flipped its patches, likewise; None is not told."""
    asks: bool = False
    """Whether the network reads the prompts, each as a question of its own. Else it
    reads of all its classes, whatever is asked."""

    def __post_init__(self) -> None:
        numbers = [*self.patch, *(self.spacing_mm or ()), *(self.window or ())]
        if min(self.patch) < 1:
            msg = f"patch must be 3 sides above 0, got {self.patch}"
            raise ValueError(msg)
        if not 0 <= self.overlap < 1 or not all(map(math.isfinite, numbers)):
            msg = f"overlap must be from 0 to below 1, got {self.overlap}"
            raise ValueError(msg)
        if tuple(sorted(map(_axis_of, self.orientation))) != (0, 1, 2):
            msg = (
                "orientation must be one of R and L, of A and P, and of S and I, got "
                f"{self.orientation!r}"
            )
            raise ValueError(msg)
        _check_flips(self.flips)
        _check_flips(self.learnt_flips or "")
        self._check_classes()
        if self.window is not None and not self.window[0] < self.window[1]:
            msg = f"window must be two values that rise, got {self.window}"
            raise ValueError(msg)

    def _check_classes(self) -> None:
        """Refuse what does not fit the classes."""
        if self.asks and self.exclusive:
            msg = "asks must be false where classes exclude one another, got true"
            raise ValueError(msg)
        if self.regions and len(self.regions) != len(self.names):
            msg = f"regions must be the labels of each class, got {self.regions}"
            raise ValueError(msg)
        fitting = [color for color in self.colors if _COLOR.fullmatch(color)]
        if len(fitting) != len(self.names) or len(self.colors) != len(self.names):
            msg = f"colors must be a #rrggbb for each class, got {self.colors}"
            raise ValueError(msg)
        if self.text_format not in TEXT_FORMATS:
            msg = f"text_format must be one of {TEXT_FORMATS}, got {self.text_format}"
            raise ValueError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the classes' names."""
        return self.sheet.names

    @property
    def labels(self) -> tuple[tuple[int, ...], ...]:
        """Return the labels of each class in a labelled volume: 1, 2 and so on."""
        return self.regions or tuple((n + 1,) for n in range(len(self.names)))

    def view_axes(self, view: Sequence[int]) -> list[int]:
        """Return the axes of a window (0 to 2) that run along axes of the world."""
        along = [_axis_of(letter) for letter in self.orientation]
        return [along.index(axis) for axis in view]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        told = asdict(self)
        del told["sheet"]
        classes = [asdict(each) for each in self.sheet.classes]
        for each in classes:
            if not each["called"]:  # earlier versions do not know it
                del each["called"]
        return {"classes": classes, **told}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> VolumeSpec:
        """Return the fields of a JSON file, whose tuples became lists.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not as expected.
        """
        rest = dict(told)
        classes = tuple(ClassText(**each) for each in rest.pop("classes"))
        for name, count in (("patch", 3), ("spacing_mm", 3), ("window", 2)):
            rest[name] = _numbers(name, rest[name], count)
        rest["colors"] = tuple(rest["colors"])
        rest["regions"] = tuple(tuple(each) for each in rest.get("regions", ()))
        return cls(sheet=ClassSheet(classes), **rest)

    @classmethod
    def from_bundle(cls, config: Mapping[str, Any]) -> VolumeSpec:
        """Return what ``config.json`` tells; earlier ones told some of it elsewhere.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not as expected.
        """
        training, volume = dict(config.get("training") or {}), dict(config["volume"])
        told: dict[str, Any] = {
            "picture": str(training.get("picture", "")),
            "asks": config["network"].get("architecture") == "medclipseg",
        }
        if "flip_axes" in training:
            orientation = str(volume.get("orientation", "RAS"))
            told["learnt_flips"] = world_letters(training["flip_axes"], orientation)
        return cls.from_dict({**told, **volume})


def world_letters(axes: Sequence[int], orientation: str) -> str:
    """Return the axes of a window, 0 to 2, as letters of R, A and S.

    >>> world_letters([0, 2], "SPL")
    'RS'
    """
    numbers = sorted(_axis_of(orientation[axis]) for axis in axes)
    return "".join(SIDES[number][0] for number in numbers)


def _check_flips(flips: str) -> None:
    """Refuse what are no axes of the world."""
    world = "".join(pair[0] for pair in SIDES)
    if not set(flips) <= set(world):
        msg = f"flips must be letters of {world}, got {flips!r}"
        raise ValueError(msg)


def _axis_of(letter: str) -> int:
    """Return the axis of the world that a letter names; -1 if none."""
    return next((n for n, pair in enumerate(SIDES) if letter in pair), -1)


def _numbers(
    name: str, told: list[float] | None, count: int
) -> tuple[float, ...] | None:
    """Return so many numbers, or nothing where nothing is told."""
    if told is None and name != "patch":
        return None
    numbers = tuple(told or ())
    if len(numbers) != count:
        msg = f"{name} must be {count} numbers, got {told}"
        raise ValueError(msg)
    return numbers
