"""An opened image to napari's layer data: upright, in its place, with sane contrast."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.place import TURN, WORLD, turned

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.io.opened import Opened

    Matrix = npt.NDArray[np.float64]
    LayerData = tuple[Any, dict[str, Any], str]

PERCENTILES = (0.5, 99.5)
"""Of a sample of the voxels: black and white where the header tells no window."""
_SAMPLED_SLICES = 5
_SAMPLED_PIXELS = 256
_FLAT = 1e-12
_LEAST_CONTRAST = 1e-6
"""Of a flat image's value: one more than a very large number is that number."""


def to_layer_data(opened: Opened, path: Path, series: int | None = None) -> LayerData:
    """Return an Image layer that lies where the file says, without copying voxels.

    What lies at a known place is turned, by a view, so that its axes are nearest to
    those of napari's world, see `place`. Other images keep their axes.

    Parameters
    ----------
    opened : Opened
    path : Path
        The file or folder, for the metadata.
    series : int, optional
        Number of the DICOM series, for the metadata.
    """
    voxels, affine, walked = _upright(opened)
    placed = _is_placed(opened)
    world = _world(opened, affine)
    frame = _frame(world, placed=placed)
    spatial = len(opened.spatial_shape)
    first = "frame" if opened.is_film else "slice"
    names = WORLD if placed else (first, "row", "column")[-spatial:]
    length = "mm" if opened.units == "mm" else "pixel"
    lengths = [length] * spatial
    if opened.pixel_mm is not None:
        lengths[-2:] = ["mm", "mm"]
    edges = np.linalg.norm(affine[:3, :spatial], axis=0)
    choices: dict[str, Any] = {
        "name": opened.name,
        "rgb": opened.rgb,
        **frame,
        "units": (*(axis.unit or "pixel" for axis in opened.series), *lengths),
        "axis_labels": (*(axis.name for axis in opened.series), *names),
        "metadata": {
            KEY: {
                "path": str(path),
                "affine": affine.tolist(),
                "stored_affine": opened.affine.tolist(),
                "units": "mm" if _is_in_body(opened) else "pixel",
                "shape": [int(size) for size in _spatial(voxels, opened)],
                "spacing_mm": edges.tolist() if opened.units == "mm" else None,
                "slice_axis": walked,
                "read_axes": _read_axes(opened),
                "facts": dict(opened.facts),
                **({} if series is None else {"series": series}),
            }
        },
    }
    if not opened.rgb:
        choices |= {"colormap": "gray", "contrast_limits": contrast_limits(opened)}
    return voxels, choices, "image"


def _spatial(voxels: Any, opened: Opened) -> tuple[int, ...]:
    """Return the sizes of the last three axes but colour, as the layer has them."""
    sizes = voxels.shape[: voxels.ndim - int(opened.rgb)]
    return tuple(sizes[-3:])


def contrast_limits(opened: Opened) -> tuple[float, float]:
    """Return black and white: the header's window, or percentiles of a few slices."""
    sample = _sample(opened.voxels)
    if not sample.size:
        return 0.0, 1.0
    low, high = float(sample.min()), float(sample.max())
    told = _told_window(opened.facts)
    if told is not None and told[0] < high and told[1] > low:
        return told
    ends = np.percentile(sample, PERCENTILES)
    if ends[0] < ends[1]:
        low, high = float(ends[0]), float(ends[1])
    return low, (high if high > low else low + max(1, _LEAST_CONTRAST * abs(low)))


def _told_window(facts: Any) -> tuple[float, float] | None:
    """Return the window of a DICOM or the display range of a NIfTI header."""
    if "window_center" in facts:
        center, width = float(facts["window_center"]), float(facts["window_width"])
        return (center - width / 2, center + width / 2) if width > 0 else None
    if "cal_min" in facts:
        return float(facts["cal_min"]), float(facts["cal_max"])
    return None


def _sample(voxels: Any) -> npt.NDArray[Any]:
    """Return finite grey values of a few pictures: of lazy ones few blocks are read."""
    leading = voxels.shape[:-2]
    places = np.linspace(0, math.prod(leading) - 1, _SAMPLED_SLICES + 2)[1:-1]
    every = tuple(
        slice(None, None, max(1, size // _SAMPLED_PIXELS)) for size in voxels.shape[-2:]
    )
    pictures = [
        voxels[np.unravel_index(place, leading) if leading else ()]
        for place in sorted({round(place) for place in places})
    ]
    together = np.concatenate([np.asarray(one)[every].ravel() for one in pictures])
    return np.asarray(together[np.isfinite(together)])


def _is_in_body(opened: Opened) -> bool:
    """Whether its place in the body is known, or at least its sides.

    Of some pictures only the spacing is known.
    """
    is_told = "spacing_from" not in opened.facts or "sides_from" in opened.facts
    return opened.units == "mm" and is_told


def _is_placed(opened: Opened) -> bool:
    """Whether it is a volume of known place in the body."""
    return _is_in_body(opened) and len(opened.spatial_shape) == 3


def _upright(opened: Opened) -> tuple[Any, Matrix, int]:
    """Return a view of the voxels with its affine to RAS+ and its slice axis."""
    if not _is_in_body(opened):
        return opened.voxels, opened.affine, opened.slice_axis
    before, spatial = len(opened.series), len(opened.spatial_shape)
    view, affine, order = turned(opened.voxels, opened.affine, TURN, before, spatial)
    walked = order.index(opened.slice_axis) if spatial == 3 else 0
    return view, affine, walked


def _read_axes(opened: Opened) -> list[tuple[int, bool]]:
    """Return which axis of what `read` gives each of the layer's is, and if flipped."""
    from nibabel.orientations import io_orientation

    count = len(opened.spatial_shape)
    turns = [(axis, False) for axis in range(count)]
    if _is_placed(opened):
        told = io_orientation(TURN @ opened.affine)
        order = np.argsort(told[:, 0]).tolist()
        turns = [(axis, bool(told[axis, 1] < 0)) for axis in order]
    if opened.is_turned:
        turns = [(count - 1 - axis, flipped) for axis, flipped in turns]
    return turns


def _world(opened: Opened, affine: Matrix) -> Matrix:
    """Return the layer's index to napari's world, (D + 1, D + 1)."""
    before, spatial = len(opened.series), len(opened.spatial_shape)
    world = np.eye(before + spatial + 1)
    for axis, told in enumerate(opened.series):
        world[axis, axis] = told.step
    if _is_placed(opened):
        world[before:, before:] = TURN @ affine
        return world
    edges: tuple[float, ...] = (1.0,) * spatial
    if opened.units == "mm":  # in the order of the layer's axes
        edges = tuple(np.linalg.norm(affine[:3, :spatial], axis=0).tolist())
    if opened.pixel_mm is not None:
        edges = (*edges[:-2], *opened.pixel_mm)
    for axis, edge in enumerate(edges):
        world[before + axis, before + axis] = edge
    return world


def _frame(world: Matrix, *, placed: bool) -> dict[str, Any]:
    """Return scale, translate and what is left of a matrix as napari composes them.

    Where the axes are the world's, scale and translate say all, which every plugin
    understands; otherwise the scale is the spacing, and the affine turns it.
    """
    linear = world[:-1, :-1]
    scale = np.linalg.norm(linear, axis=0)
    if np.abs(linear - np.diag(scale)).max() <= _FLAT:
        frame: dict[str, Any] = {"scale": scale}
        return {**frame, "translate": world[:-1, -1]} if placed else frame
    affine = world.copy()
    affine[:-1, :-1] /= scale
    return {"scale": scale, "affine": affine}
