"""How well a mask agrees with a reference: overlap and surface distance.

Both masks empty counts 1, one empty counts 0, for either quantity.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]


def dice_similarity_coefficient(mask: Mask, reference: Mask) -> float:
    """Overlap 2 |A and B| / (|A| + |B|), in [0, 1].

    Parameters
    ----------
    mask, reference : (*spatial) bool
    """
    _check_shapes(mask, reference)
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


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

    Notes
    -----
    A surface is the set of voxels that an erosion by a voxel takes away (MONAI's
    ``compute_surface_dice`` without sub-voxels).
    """
    _check_shapes(mask, reference)
    if not (mask.any() and reference.any()):
        return float(mask.any() == reference.any())
    import torch
    from monai.metrics.surface_dice import compute_surface_dice

    box = _around(mask | reference)
    with warnings.catch_warnings():  # MONAI 1.6 calls what it deprecates
        warnings.filterwarnings("ignore", r".*always_return_as_numpy", FutureWarning)
        agreement = compute_surface_dice(
            torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None],
            torch.from_numpy(np.ascontiguousarray(reference[box]))[None, None],
            class_thresholds=[tolerance],
            include_background=True,
            spacing=list(spacing) if spacing is not None else None,
        )
    return float(agreement.item())


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
