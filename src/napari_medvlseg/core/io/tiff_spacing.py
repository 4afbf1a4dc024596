"""The size of a TIFF's pixels, where it is certain: as OME-TIFF and ImageJ tell it.

The resolution tags of any other TIFF are about paper: 72 dots an inch says nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.io.grid import MM_PER_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import tifffile

_MM_PER_UNIT = {
    **MM_PER_UNIT,
    "nm": 1e-6,
    "\N{ANGSTROM SIGN}": 1e-7,
    "\\u00b5m": 0.001,  # so ImageJ writes the Greek letter
    "inch": 25.4,
    "in": 25.4,
}
"""In lower case."""
_PAPER_UNITS = {2: "inch", 3: "cm"}
"""Of the tag ResolutionUnit; 1 is none."""


def tiff_spacing(
    tiff: tifffile.TiffFile, axes: str
) -> tuple[tuple[float, ...], str] | None:
    """Return the edges of a voxel in mm along some axes, and who tells them.

    Parameters
    ----------
    tiff : TiffFile
    axes : str
        Of the image, as tifffile calls them: ``"YX"`` or ``"ZYX"``. Of others, as
        frames in time, no length is known.

    Returns
    -------
    tuple of float, and ``"OME-TIFF"`` or ``"ImageJ"``; or None
        None also where one axis is not told, or not in a unit of length.
    """
    if axes not in ("YX", "ZYX"):
        return None
    if tiff.is_ome:
        edges, source = _ome_edges(tiff), "OME-TIFF"
    elif tiff.is_imagej:
        edges, source = _imagej_edges(tiff), "ImageJ"
    else:
        return None
    told = tuple(edges.get(axis, 0.0) for axis in axes)
    known = all(math.isfinite(edge) and edge > 0 for edge in told)
    return (told, source) if known else None


def flat_affine(edges: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return an affine that keeps each axis as it stands, and only tells lengths.

    Slices, rows and columns run down, back and to the left of a world that has no
    patient.
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, edge in enumerate(edges):
        affine[len(edges) - 1 - axis, axis] = -edge
    if len(edges) == 2:
        affine[2, 2] = 1.0
    return affine


def _ome_edges(tiff: tifffile.TiffFile) -> dict[str, float]:
    """Return the PhysicalSize of each axis, micrometres unless another unit is told."""
    import tifffile

    told: Any = tifffile.xml2dict(tiff.ome_metadata or "")
    images = told.get("OME", {}).get("Image", {})
    first = images[0] if isinstance(images, list) else images
    pixels: Mapping[str, Any] = first.get("Pixels", {})
    edges = {}
    for axis in "XYZ":
        unit = str(pixels.get(f"PhysicalSize{axis}Unit", "um")).lower()
        size = pixels.get(f"PhysicalSize{axis}", 0.0)
        edges[axis] = _number(size) * _MM_PER_UNIT.get(unit, 0.0)
    return edges


def _imagej_edges(tiff: tifffile.TiffFile) -> dict[str, float]:
    """Return the pixels' size of the resolution tags, in the unit that ImageJ tells."""
    told = tiff.imagej_metadata or {}
    unit = str(told.get("unit", "")).lower()
    tags = tiff.pages.first.tags
    paper = _PAPER_UNITS.get(int(tags["ResolutionUnit"].value), unit)
    factor = _MM_PER_UNIT.get(unit, 0.0)
    if factor != _MM_PER_UNIT.get(paper, 0.0):
        return {}  # they contradict each other
    edges = {"Z": _number(told.get("spacing", 0.0)) * factor}
    for axis in "XY":
        count, length = tags[f"{axis}Resolution"].value
        edges[axis] = factor * length / count if count else 0.0
    return edges


def _number(told: Any) -> float:
    """Return a number; 0 for what is none."""
    try:
        return float(told)
    except (TypeError, ValueError):
        return 0.0
