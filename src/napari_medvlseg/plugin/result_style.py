"""How results are drawn: the same in every one, so that they compare."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from napari.utils.colormaps import Colormap, DirectLabelColormap, ensure_colormap

from napari_medvlseg.core.palette import label_color

COLORS = 256


@dataclass(frozen=True, slots=True)
class MapStyle:
    """How a kind of map is drawn, the same in every result so that they compare."""

    title: str
    colormap: str
    limit: float
    unit: str
    blending: str
    opacity: float
    clear_below: float = 0.0


STYLES = {
    "probability": MapStyle(
        "probability", "viridis", 1.0, "", "translucent_no_depth", 0.7, 0.05
    ),
    **{
        name: MapStyle(
            title, "plasma", math.log(2), " nats", "translucent_no_depth", 0.9, 0.5
        )
        for name, title in (
            ("predictive_entropy", "predictive entropy"),
            ("mutual_information", "mutual information"),
            ("expected_entropy", "expected entropy"),
        )
    },
}
"""The image shows through where a map is nearly 0: nothing is found, or all is certain.

Maps are laid over the image and not added to it: a sum is lost on a bright image, as
that of a skull in 3D or an X-ray, and two entropies would look like a third. They may
not hide the mask's surface in 3D: hence no depth.
"""


def style_of(kind: str, max_entropy: float) -> MapStyle:
    """Return how a map is drawn whose entropies end there, in nats.

    What is nearly 0 fades out below the same value whatever the limit.
    """
    style = STYLES[kind]
    return replace(style, limit=max_entropy) if style.unit else style


def map_colormap(style: MapStyle) -> Colormap:
    """Return a map's colours, which fade out below a value if the style says so."""
    colormap = ensure_colormap(style.colormap)
    if not style.clear_below:
        return colormap
    values = np.linspace(0, style.limit, COLORS)
    colors = colormap.map(values / style.limit)
    colors[:, 3] = np.clip(values / style.clear_below, 0, 1)
    # By a name of its own: napari would give another's new colours to every layer.
    name = f"{style.colormap}, clear at 0"
    if style.unit and style.limit > math.log(2):
        name = f"{name}, to {style.limit:.3g}"
    return Colormap(colors, name=name)


def label_colormap(count: int, own: tuple[str, ...] = ()) -> DirectLabelColormap:
    """Return a colour for each prompt; labels that are painted anew are grey.

    Parameters
    ----------
    count : int
    own : `count` texts, or none
        The colours that the model gives its classes.
    """
    colors: dict[int | None, str] = {None: "#999999", 0: "#00000000"}
    numbers = range(1, count + 1)
    colors.update({label: label_color(label, own) for label in numbers})
    return DirectLabelColormap(color_dict=colors)
