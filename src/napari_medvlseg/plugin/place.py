"""Where volumes that we read lie in napari's world.

Where their place in the body is known, that world is (inferior, posterior, left) in mm:
RAS+ in the opposite order and with the opposite signs, `TURN`. So a slice stands on the
screen as radiologists hold it, whichever axis the slider walks along, and volumes of
one body overlay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]

WORLD = ("inferior", "posterior", "left")
"""Where the coordinates of napari's world grow."""
TURN = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], float)
"""RAS+ to napari's world, and back."""


def turned(
    voxels: Any, affine: Matrix, wanted: Matrix, before: int, spatial: int
) -> tuple[Any, Matrix, list[int]]:
    """Return voxels by a view whose axes in space go along those of another frame.

    Parameters
    ----------
    voxels : array, (*before, *spatial, ...)
    affine : (4, 4)
        Index along the axes in space to a world.
    wanted : (4, 4)
        That world to the frame, whose first axes come first.
    before : int
        Axes before those in space.
    spatial : int
        Axes in space, 2 or 3.

    Returns
    -------
    voxels, the affine of the new indices to the same world, and the former axis of each
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation

    turns = io_orientation(wanted @ affine)[:spatial]
    turns[:, 0] = np.argsort(np.argsort(turns[:, 0]))  # of a picture, two of three
    order = np.argsort(turns[:, 0]).astype(int).tolist()
    rest = range(before + spatial, voxels.ndim)
    moved = voxels.transpose(
        [*range(before), *(before + axis for axis in order), *rest]
    )
    steps = [slice(None, None, -1 if turns[axis, 1] < 0 else 1) for axis in order]
    shape = voxels.shape[before : before + spatial]
    back = np.eye(4)
    kept = [*range(spatial), 3]
    back[np.ix_(kept, kept)] = inv_ornt_aff(turns, shape)
    view = moved[(*[slice(None)] * before, *steps)]
    return view, affine @ back, order
