"""Draw docs/images/coordinates.png: one slice in its file, its patient and napari.

    python scripts/coordinates_picture.py

The grids are turned by the plugin's own reader and writer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from napari_medvlseg.core.io.opened import Opened
from napari_medvlseg.core.palette import label_color
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.opened_layer import to_layer_data
from napari_medvlseg.plugin.saved_layer import saved_layer

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Array = npt.NDArray[Any]

TARGET = Path(__file__).parents[1] / "docs" / "images" / "coordinates.png"
SHAPE = (19, 15)
"""Rows and columns, as they are stored."""
SPACING_MM = (16.0, 16.0)
TILT = np.radians(14)
GREYS = "gray"
RED, BLUE = label_color(6), label_color(1)


def main() -> None:
    """Draw it."""
    affine = _affine()
    body = _body(affine)
    opened = Opened(voxels=body, affine=affine, units="mm", name="slice")
    upright, told, _ = to_layer_data(opened, Path("ct.nii.gz"))
    place = np.array(told["metadata"][KEY]["affine"])
    mask = (upright > 200).astype(np.uint8)
    saved = saved_layer((mask, told, "labels"))
    figure, panels = plt.subplots(1, 4, figsize=(11.5, 3.9), layout="constrained")
    _draw_stored(panels[0], body, "1  the file's grid", "row 0, column 0")
    _draw_patient(panels[1], body, affine)
    _draw_upright(panels[2], upright, mask)
    _draw_stored(panels[3], body, "4  the saved mask", "again row 0, column 0")
    _overlay(panels[3], saved.item.values)
    panels[3].set_xlabel("the file's order and affine")
    panels[0].set_xlabel("rows and columns as stored")
    assert np.allclose(saved.grid.affine, affine)  # noqa: S101 - what it shows
    assert np.allclose(place[:3, :3].T @ place[:3, :3], np.diag([256, 256, 1]))  # noqa: S101
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})


def _affine() -> Array:
    """Return row, column to RAS+ mm: rows run to the patient's right, columns up."""
    affine = np.eye(4)
    rows = np.array([np.cos(TILT), np.sin(TILT), 0]) * SPACING_MM[0]
    columns = np.array([-np.sin(TILT), np.cos(TILT), 0]) * SPACING_MM[1]
    affine[:3, 0], affine[:3, 1] = rows, columns
    middle = (np.array(SHAPE) - 1) / 2
    affine[:3, 3] = -(affine[:3, :2] @ middle)
    return affine


def _body(affine: Array) -> Array:
    """Return an abdomen: a trunk, its spine at the back, a liver on the right."""
    rows, columns = np.indices(SHAPE)
    ones = np.ones(rows.size)
    index = np.stack([rows.ravel(), columns.ravel(), 0 * ones, ones])
    right, front, _, _ = affine @ index
    grey = np.full(rows.size, 25)
    grey[(right / 125) ** 2 + (front / 92) ** 2 < 1] = 110
    grey[(right / 22) ** 2 + ((front + 58) / 22) ** 2 < 1] = 180
    grey[((right - 58) / 48) ** 2 + ((front - 18) / 48) ** 2 < 1] = 235
    return grey.reshape(SHAPE).astype(np.uint8)


def _draw_stored(panel: Axes, values: Array, title: str, corner: str) -> None:
    """Draw a grid as an array is printed, its first voxel at the upper left."""
    panel.imshow(values, cmap=GREYS, vmin=0, vmax=255)
    panel.set_title(title)
    panel.plot(0, 0, "o", color=RED)
    panel.annotate(corner, (0.6, 0.1), color=RED, va="center", fontsize=8)
    _clear(panel)


def _draw_patient(panel: Axes, values: Array, affine: Array) -> None:
    """Draw each voxel where it lies in the patient, seen from the feet."""
    edges = (SHAPE[0] + 1, SHAPE[1] + 1)
    ends = np.indices(edges).reshape(2, -1) - 0.5
    world = affine[:2, :2] @ ends + affine[:2, 3:]
    x, y = world.reshape(2, *edges)
    panel.pcolormesh(x, y, values, cmap=GREYS, vmin=0, vmax=255)
    panel.plot(*affine[:2, 3], "o", color=RED)
    for axis, name in ((0, "rows"), (1, "columns")):
        step = affine[:2, axis] * 4
        arrow = {"arrowstyle": "->", "color": RED, "lw": 1.6}
        x0, y0 = affine[:2, 3]
        end = (x0 + step[0], y0 + step[1])
        panel.annotate("", end, (x0, y0), arrowprops=arrow)
        beyond = (x0 + 1.1 * step[0], y0 + 1.1 * step[1])
        panel.annotate(name, beyond, color=RED, fontsize=8, ha="center")
    panel.invert_xaxis()  # as radiologists look: the patient's right is on the left
    panel.set_aspect("equal")
    panel.set_title("2  the patient, RAS+")
    panel.set_xlabel("x, to the right (mm)")
    panel.set_ylabel("y, to the front (mm)")
    panel.tick_params(labelsize=7)


def _draw_upright(panel: Axes, values: Array, mask: Array) -> None:
    """Draw the layer in napari, with the letters at its edges."""
    panel.imshow(values, cmap=GREYS, vmin=0, vmax=255)
    _overlay(panel, mask)
    panel.set_title("3  napari, and a result")
    panel.set_xlabel("a view of the same voxels, upright")
    for letter, where in zip(
        "RLAP", ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95), (0.5, 0.05)), strict=True
    ):
        panel.text(
            *where,
            letter,
            transform=panel.transAxes,
            color="white",
            ha="center",
            va="center",
            weight="bold",
        )
    _clear(panel)


def _overlay(panel: Axes, mask: Array) -> None:
    """Colour a mask."""
    shown = np.ma.masked_equal(mask, 0)
    colours = mpl.colors.ListedColormap([BLUE])
    panel.imshow(shown, cmap=colours, alpha=0.75)


def _clear(panel: Axes) -> None:
    """Leave no ticks."""
    panel.set_xticks([])
    panel.set_yticks([])


if __name__ == "__main__":
    main()
