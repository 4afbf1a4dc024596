"""The values that flow through the core: an image in, a segmentation out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, ImageError, PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

MAX_PROMPT_CHARACTERS = 2000
"""Longer prompts are refused: no caption of the field comes near."""

RGB_CHANNELS = (3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Voxels on a grid, and where that grid lies in the world.

    Parameters
    ----------
    voxels : (*spatial) or, with ``rgb``, (*spatial, 3 | 4)
        Native dtype; two or three spatial axes.
    affine : (4, 4)
        Voxel index to world, RAS+; the identity where nothing is known.
    rgb : bool
        Whether the last axis of `voxels` is colour.
    units : str
        ``"mm"`` where the affine is physical, otherwise ``"pixel"``.
    slice_axis : int
        Spatial axis that a 2D model walks along in a volume or a film.
    name : str
        For layers and files; holds no patient data.
    facts : mapping
        What the file's header tells, ready for JSON; nothing about the patient.
    channels : tuple of (*spatial)
        What else was measured on the same grid, for a 3D model of several channels;
        `voxels` is the first of these.

    Raises
    ------
    ImageError
        If the voxels have no pixel or not two or three spatial axes, or a channel has
        another shape.
    GeometryError
        If the affine is not an invertible (4, 4) matrix.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    rgb: bool = False
    units: str = "pixel"
    slice_axis: int = 0
    name: str = "image"
    facts: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[npt.NDArray[Any], ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.voxels.shape)
        if self.ndim not in (2, 3):
            msg = (
                f"expected an image with 2 or 3 spatial axes, got shape {shape}; "
                "take one channel, time point or series of it"
            )
            raise ImageError(msg)
        if self.rgb and shape[-1] not in RGB_CHANNELS:
            msg = f"expected 3 or 4 colour channels on the last axis, got shape {shape}"
            raise ImageError(msg)
        if 0 in shape:
            msg = f"expected at least one pixel, got an empty image of shape {shape}"
            raise ImageError(msg)
        if any(channel.shape != shape for channel in self.channels):
            shapes = [tuple(channel.shape) for channel in self.channels]
            msg = f"expected channels of one shape {shape}, got {shapes}; resample them"
            raise ImageError(msg)
        _check_affine(self.affine)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return int(self.voxels.ndim) - int(self.rgb)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without colour."""
        return tuple(int(size) for size in self.voxels.shape[: self.ndim])

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Edge lengths of one voxel in mm, or None where they are unknown."""
        if self.units != "mm":
            return None
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(edge) for edge in edges[: self.ndim])


def _check_affine(affine: npt.NDArray[np.float64]) -> None:
    """Refuse what does not map voxels to a world one to one."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        msg = f"expected a finite (4, 4) affine, got shape {affine.shape}"
        raise GeometryError(msg)
    if abs(float(np.linalg.det(affine[:3, :3]))) < np.finfo(np.float64).tiny:
        msg = "expected an invertible affine, got one that flattens the image"
        raise GeometryError(msg)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question in words about an image.

    Raises
    ------
    PromptError
        If the text is empty, longer than `MAX_PROMPT_CHARACTERS` or unprintable.
    """

    text: str

    def __post_init__(self) -> None:
        cleaned = " ".join(self.text.split())
        if not cleaned:
            msg = "expected a prompt in words, got an empty one; type what to look for"
            raise PromptError(msg)
        if len(cleaned) > MAX_PROMPT_CHARACTERS:
            msg = (
                f"expected a prompt of at most {MAX_PROMPT_CHARACTERS} characters, got "
                f"{len(cleaned)}; describe one structure in a sentence or two"
            )
            raise PromptError(msg)
        if any(not character.isprintable() for character in cleaned):
            msg = "expected a prompt of printable text, got control characters"
            raise PromptError(msg)
        object.__setattr__(self, "text", cleaned)


@dataclass(frozen=True, slots=True)
class Midline:
    """Where the left and the right of a patient's body meet in an image.

    Parameters
    ----------
    axis : int
        Spatial axis of the image that runs from one side to the other.
    index : float
        Of the midline along it.
    rightward : bool
        Whether the index grows towards the patient's right.
    """

    axis: int
    index: float
    rightward: bool


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What a model found for some prompts, and how sure it is, on the image's grid.

    Parameters
    ----------
    prompts : P texts
        Label ``i + 1`` belongs to ``prompts[i]``.
    labels : (*spatial) uint8 or uint16
        0 is background; where prompts overlap, the most probable one.
    probability : (P, *spatial) float32
        Mean over the draws, in [0, 1].
    predictive_entropy, mutual_information, expected_entropy : (P, *spatial) float32
        Total, epistemic and aleatoric uncertainty in nats, at most ln 2 each; see
        `exclusive` for classes.
    affine : (4, 4)
        The image's own.
    threshold : float
        Probability above which a pixel is labelled.
    min_foreground : float
        Smallest share of a picture's pixels that counts as found.
    slice_axis : int or None
        Axis of the pictures that the share is taken of; None for one picture.
    provenance : mapping
        Model id and weights hash, prompts, samples, seed, versions, time.
    doubtful_from : float or None
        `doubt` from which an answer is called doubtful, in nats; None if unknown.
    exclusive : bool
        Whether the classes exclude each other (softmax) or are independent questions.
        If they do, labels are the most probable class or the background, and the three
        uncertainties are one map for all classes, (1, *spatial), at most ln C for C
        classes with the background.
    colors : P texts, or none
        Of each label, as ``#rrggbb``; without them those of `palette`.
    midline : Midline or None
        Where the patient's left and right meet; None if that is unknown.
    """

    prompts: tuple[str, ...]
    labels: npt.NDArray[np.integer[Any]]
    probability: npt.NDArray[np.float32]
    predictive_entropy: npt.NDArray[np.float32]
    mutual_information: npt.NDArray[np.float32]
    expected_entropy: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    threshold: float
    min_foreground: float
    slice_axis: int | None
    provenance: Mapping[str, Any]
    units: str = "pixel"
    doubtful_from: float | None = None
    exclusive: bool = False
    midline: Midline | None = None
    colors: tuple[str, ...] = ()

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """Where each prompt was found, (P, *spatial), overlaps included."""
        if self.exclusive:
            numbers = np.arange(1, len(self.prompts) + 1)
            found: npt.NDArray[np.bool_] = self.labels == numbers.reshape(
                -1, *[1] * self.labels.ndim
            )
            return found
        above: npt.NDArray[np.bool_] = self.probability > self.threshold
        if self.min_foreground > 0:
            for index, mask in enumerate(above):
                above[index] &= large_enough(mask, self.min_foreground, self.slice_axis)
        return above

    @property
    def present(self) -> tuple[bool, ...]:
        """Whether each prompt was found at all, overlaps included."""
        return tuple(self._is_found(index) for index in range(len(self.prompts)))

    def _is_found(self, index: int) -> bool:
        """Look for one prompt picture by picture: the mask of a volume is 80 MB."""
        if self.exclusive:
            return any(bool((part == index + 1).any()) for part in self.labels)
        values = self.probability[index]
        axis = self.slice_axis
        pictures = values[None] if axis is None else np.moveaxis(values, axis, 0)
        above = (picture > self.threshold for picture in pictures)
        return any(mask.any() and mask.mean() >= self.min_foreground for mask in above)

    @property
    def max_entropy(self) -> float:
        """Largest entropy that there is, in nats: ln 2 of a yes/no question.

        Of C classes that exclude one another, and a background, it is ln(C + 1), even
        where the prompts name only some of them.
        """
        known = len(self.provenance.get("classes", self.prompts))
        return math.log(known + 1 if self.exclusive else 2)

    @property
    def doubt(self) -> tuple[float, ...]:
        """Predictive entropy in nats, a pixel expected to belong to each structure."""
        return tuple(self.doubt_at(index) for index in range(len(self.prompts)))

    def doubt_at(self, index: int) -> float:
        """Return the doubt of one prompt.

        Of classes that exclude one another, which share their entropy, it is the mean
        entropy of a voxel, weighed by the probability that it belongs to the class.
        """
        probability = self.probability[index]
        entropy = self.map_of("predictive_entropy", index)
        return doubt_of(
            probability, entropy * probability if self.exclusive else entropy
        )

    def map_of(self, name: str, index: int) -> npt.NDArray[np.float32]:
        """Return the map (*spatial) that tells about a prompt.

        Parameters
        ----------
        name : str
            ``probability`` or an uncertainty.
        index : int
            Of the prompt.
        """
        values: npt.NDArray[np.float32] = getattr(self, name)
        chosen: npt.NDArray[np.float32] = values[index if len(values) > 1 else 0]
        return chosen

    @property
    def doubtful(self) -> tuple[bool, ...]:
        """Whether each answer should be looked at closely."""
        return tuple(self.calls_doubtful(doubt) for doubt in self.doubt)

    def calls_doubtful(self, doubt: float) -> bool:
        """Whether an answer of this doubt should be looked at closely."""
        return self.doubtful_from is not None and doubt >= self.doubtful_from

    @property
    def overlap_fraction(self) -> float:
        """Share of pixels that more than one prompt claims."""
        if len(self.prompts) < 2 or self.exclusive:
            return 0.0
        # Small numbers: of a volume, the usual ones would fill half a gigabyte.
        claims = (self.probability > self.threshold).sum(axis=0, dtype=np.uint16)
        return float((claims > 1).mean())


def doubt_of(
    probability: npt.NDArray[np.floating[Any]],
    predictive_entropy: npt.NDArray[np.floating[Any]],
) -> float:
    """Return the entropy in nats a pixel that is expected to belong to a structure.

    Parameters
    ----------
    probability, predictive_entropy : (*spatial)
    """
    expected = float(probability.sum(dtype=np.float64))
    return float(predictive_entropy.sum(dtype=np.float64)) / (expected + 1.0)


def large_enough(
    mask: npt.NDArray[np.bool_], min_foreground: float, slice_axis: int | None
) -> npt.NDArray[np.bool_]:
    """Tell, per picture, whether the mask covers enough of it to count as found.

    Parameters
    ----------
    mask : (*spatial) bool
    min_foreground : float
        Share of a picture's pixels.
    slice_axis : int, optional
        Spatial axis of the pictures of a volume; without it there is one picture.

    Returns
    -------
    bool, of a shape that broadcasts to `mask`
    """
    axes = tuple(axis for axis in range(mask.ndim) if axis != slice_axis)
    enough: npt.NDArray[np.bool_] = (
        mask.mean(axis=axes, keepdims=True) >= min_foreground
    )
    return enough
