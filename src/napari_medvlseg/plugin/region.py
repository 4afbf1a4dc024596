"""A Shapes layer to draw a region of interest in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Shapes

from napari_medvlseg.plugin.frame import LayerFrame

if TYPE_CHECKING:
    import napari.layers

NAME = "region of interest"
COLOUR = "#f0e442"


def region_layer(image: napari.layers.Image | None) -> Shapes:
    """Return an empty layer that lies where an image does."""
    ndim = image.ndim if image is not None else 2
    place = LayerFrame.of(image).at((0,) * ndim) if image is not None else {}
    layer = Shapes(ndim=ndim, name=NAME, face_color="transparent", **place)
    layer.edge_color = layer.current_edge_color = COLOUR
    layer.current_face_color = "transparent"
    return layer
