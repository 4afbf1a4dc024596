"""Where a cut of a layer lies: in the patient, or else in front of who looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.plugin.layer_space import (
    mm_per_unit,
    patient_affine,
    patient_columns,
    to_world,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari.layers
    import numpy.typing as npt

    from napari_medvlseg.plugin.layers import LayerCut


def affine_in_patient(
    cut: LayerCut, layer: napari.layers.Layer, *, in_mm: bool = True
) -> npt.NDArray[np.float64] | None:
    """Return the kept axes to RAS+ mm; None if the layer does not tell.

    Or to what its file lays out in unknown units, which need not be mm (`in_mm`).
    """
    known = patient_affine(layer.metadata, cut.shape, in_mm=in_mm)
    columns = patient_columns(layer.ndim)
    if known is None or any(axis not in columns for axis in cut.kept):
        return None
    rest = [column for axis, column in columns.items() if axis not in cut.kept]
    unused = sorted(set(range(3)) - set(columns.values()))
    picked = [*(columns[axis] for axis in cut.kept), *rest, *unused]
    affine = known[:, [*picked, 3]].copy()
    for axis, column in columns.items():
        if axis not in cut.kept:
            affine[:, 3] += known[:, column] * cut.index[axis]
    return affine


def affine_on_screen(
    cut: LayerCut,
    layer: napari.layers.Layer,
    order: Sequence[int],
    mirrored: tuple[bool, bool],
) -> npt.NDArray[np.float64]:
    """Return the kept axes to a world in which the screen looks at a patient.

    Lengths, angles and places to each other are the layer's own.
    """
    matrix = to_world(layer)
    down, right = order[-2:]
    depth = next((axis for axis in cut.kept if axis not in (down, right)), None)
    if depth is None and len(order) > 2:
        depth = order[-3]
    origin = [0 if axis in cut.kept else cut.index[axis] for axis in range(layer.ndim)]
    steps = np.column_stack([matrix[:-1, list(cut.kept)], (matrix @ [*origin, 1])[:-1]])
    per_unit = mm_per_unit(layer.units, cut.kept)
    if per_unit is not None:
        steps = steps * per_unit[:, None]
    upward, leftward = mirrored
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    columns = [*range(len(cut.kept)), 3]
    affine[0, columns] = steps[right] * (1 if leftward else -1)
    affine[1, columns] = 0 if depth is None else steps[depth]
    affine[2, columns] = steps[down] * (1 if upward else -1)
    if len(cut.kept) == 2:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        length = float(np.linalg.norm(normal))
        if length == 0:  # seen from its edge: only the lengths can be kept
            affine[2, 0], affine[0, 1] = -np.linalg.norm(steps[:, :2], axis=0)
            normal, length = np.array([0.0, 1.0, 0.0]), 1.0
        affine[:3, 2] = normal / length
    return affine
