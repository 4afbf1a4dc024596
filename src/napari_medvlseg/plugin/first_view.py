"""The plane that a volume is first seen in: that in which thick slices were taken.

Napari's world stays as it is, see `place`; only the order changes in which the viewer
shows its axes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from napari_medvlseg.plugin.layer_space import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import napari.viewer

    from napari_medvlseg.plugin.opened_layer import LayerData

THICK = 1.5
"""So many times the longest edge of a pixel is what is called a thick slice."""


def show_as_acquired(layers: Sequence[LayerData]) -> None:
    """Let napari, if nothing is open in it, show volumes in the plane of their slices.

    It does so when the first of them comes; one that is seen best as napari shows it
    changes nothing.

    Parameters
    ----------
    layers : sequence of layer data
        What a reader is about to return.
    """
    entries = [layer[1]["metadata"][KEY] for layer in layers]
    axes = {axis for axis in map(thick_axis, entries) if axis is not None}
    viewer = _current_viewer()
    if len(axes) != 1 or viewer is None or len(viewer.layers):
        return
    inserted = viewer.layers.events.inserted
    (axis,) = axes

    def on_inserted(event: Any) -> None:
        inserted.disconnect(on_inserted)
        paths = {entry["path"] for entry in entries}
        if event.value.metadata.get(KEY, {}).get("path") in paths:
            _walk_along(viewer, axis)

    inserted.connect(on_inserted, position="last")  # after the viewer's own


def thick_axis(entry: Mapping[str, Any]) -> int | None:
    """Return which of the last three axes thick slices were taken along.

    Parameters
    ----------
    entry : mapping
        Of an opened layer's metadata.

    Returns
    -------
    int or None
        0 to 2; None where the layer is no volume of known place or has no such slices.
    """
    spacing, axis = entry.get("spacing_mm"), int(entry.get("slice_axis", 0))
    if entry.get("units") != "mm" or spacing is None or len(spacing) != 3:
        return None
    longest = max(edge for other, edge in enumerate(spacing) if other != axis)
    return axis if spacing[axis] >= THICK * longest else None


def _walk_along(viewer: napari.viewer.Viewer, axis: int) -> None:
    """Put one of the last three axes on the slider next to the picture."""
    count = int(viewer.dims.ndim)
    walked = count - 3 + axis
    others = [other for other in range(count) if other != walked]
    order = (*others[:-2], walked, *others[-2:])
    if order != tuple(viewer.dims.order):
        viewer.dims.order = order
        viewer.reset_view()


def _current_viewer() -> Any:
    """Return the viewer that is in front, without starting napari to find out."""
    napari = sys.modules.get("napari")
    return None if napari is None else napari.current_viewer()
