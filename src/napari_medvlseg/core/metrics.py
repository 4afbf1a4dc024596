"""How well a mask agrees with a reference: overlap and distance of the surfaces.

Any number of axes. Both masks empty counts as complete agreement in every quantity. Of
one empty mask the overlap and the normalised surface distance are 0, and the Hausdorff
distance is the diagonal of the grid, longer than any distance on it.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Distances = npt.NDArray[np.float64]

PERCENTILE = 95


@dataclass(frozen=True, slots=True)
class Confusion:
    """Numbers of voxels: rightly and wrongly in the mask, rightly and wrongly not."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def sensitivity(self) -> float:
        """Share of the reference that the mask holds (recall).

        Without a reference 1 if the mask is empty as well, otherwise 0.
        """
        if not self.true_positive + self.false_negative:
            return float(not self.false_positive)
        return self.true_positive / (self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of what is outside the reference and outside the mask; 1 of nothing."""
        outside = self.true_negative + self.false_positive
        return self.true_negative / outside if outside else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and sensitivity: the DSC of these voxels."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """How far the voxels of two surfaces lie from the other surface.

    Parameters
    ----------
    of_mask, of_reference : (N,), (M,)
        Distances of the voxels of the mask's surface to the reference's, and the other
        way round; both are empty if one of the masks is.
    is_equal : bool
        Whether no or both masks are empty.
    longest : float
        Diagonal of the grid.
    """

    of_mask: Distances
    of_reference: Distances
    is_equal: bool
    longest: float

    def within(self, tolerance: float) -> float:
        """Return the share of both surfaces that lies within a tolerance."""
        total = self.of_mask.size + self.of_reference.size
        if not total:
            return float(self.is_equal)
        near = np.count_nonzero(self.of_mask <= tolerance)
        near += np.count_nonzero(self.of_reference <= tolerance)
        return near / total

    def hd95(self) -> float:
        """Return the larger of the two 95th percentiles."""
        if not self.of_mask.size:
            return 0.0 if self.is_equal else self.longest
        sides = (self.of_mask, self.of_reference)
        return max(float(np.percentile(side, PERCENTILE)) for side in sides)


def dice_similarity_coefficient(mask: Mask, reference: Mask) -> float:
    """Overlap 2 |A and B| / (|A| + |B|), in [0, 1].

    Parameters
    ----------
    mask, reference : (*spatial) bool
    """
    return confusion(mask, reference).f1


def confusion(mask: Mask, reference: Mask) -> Confusion:
    """Count the voxels that are right and wrong, in the mask and outside.

    Parameters
    ----------
    mask, reference : (*spatial) bool
    """
    _check_shapes(mask, reference)
    both = int(np.count_nonzero(mask & reference))
    found, there = int(np.count_nonzero(mask)), int(np.count_nonzero(reference))
    return Confusion(both, found - both, mask.size - found - there + both, there - both)


def pooled(cases: Iterable[Confusion]) -> Confusion:
    """Return the counts of all cases together: large structures weigh more."""
    counts = [astuple(case) for case in cases]
    return Confusion(*(sum(column) for column in zip((0,) * 4, *counts, strict=True)))


def normalized_surface_distance(
    mask: Mask,
    reference: Mask,
    tolerance: float = 2.0,
    spacing: Sequence[float] | None = None,
) -> float:
    """Share of both surfaces within `tolerance` of the other one, in [0, 1].

    Parameters
    ----------
    mask, reference : (*spatial) bool
    tolerance : float
        Largest distance that counts as agreement, in the units of `spacing`.
    spacing : floats, one an axis, optional
        Edge lengths of a voxel; without them distances are in voxels.
    """
    return surface_distances(mask, reference, spacing).within(tolerance)


def hd95(mask: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> float:
    """95th percentile of the Hausdorff distance, in the units of `spacing`.

    The larger of the two directed ones: 95 % of either surface is that near.

    Parameters
    ----------
    mask, reference : (*spatial) bool
        Both empty gives 0, one empty the diagonal of the grid.
    spacing : floats, one an axis, optional
        Edge lengths of a voxel; without them the distance is in voxels.
    """
    return surface_distances(mask, reference, spacing).hd95()


def surface_distances(
    mask: Mask, reference: Mask, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Measure once what several quantities are made of.

    Parameters
    ----------
    mask, reference : (*spatial) bool
    spacing : floats, one an axis, optional
        Edge lengths of a voxel; without them distances are in voxels.

    Notes
    -----
    A surface is the set of voxels that an erosion by a voxel takes away, and a distance
    is that of the voxels' centres (MONAI's, without sub-voxels).
    """
    _check_shapes(mask, reference)
    edges = tuple(spacing) if spacing is not None else (1.0,) * mask.ndim
    longest = math.hypot(*(n * e for n, e in zip(mask.shape, edges, strict=True)))
    if not (mask.any() and reference.any()):
        nothing = np.zeros(0)
        return SurfaceDistances(
            nothing, nothing, bool(mask.any() == reference.any()), longest
        )
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    box = _around(mask | reference)
    with warnings.catch_warnings():  # MONAI 1.6 calls what it deprecates
        warnings.filterwarnings("ignore", r".*always_return_as_numpy", FutureWarning)
        _, sides, _ = get_edge_surface_distance(
            torch.from_numpy(np.ascontiguousarray(mask[box])),
            torch.from_numpy(np.ascontiguousarray(reference[box])),
            spacing=list(edges),
            symmetric=True,
        )
    first, second = (side.numpy().astype(np.float64) for side in sides)
    return SurfaceDistances(first, second, is_equal=True, longest=longest)


def _around(mask: Mask) -> tuple[slice, ...]:
    """Return the box that holds a mask: distances outside it are not asked for."""
    return tuple(
        slice(int(places.min()), int(places.max()) + 1) for places in np.nonzero(mask)
    )


def _check_shapes(mask: Mask, reference: Mask) -> None:
    """Refuse masks on different grids."""
    if mask.shape != reference.shape:
        msg = f"masks must share a grid, got shapes {mask.shape} and {reference.shape}"
        raise ValueError(msg)
