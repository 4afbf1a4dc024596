"""The letters at the canvas' edges follow what napari shows."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from nibabel.orientations import aff2axcodes
from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QApplication

from napari_medvlseg.core.orientation import EdgeLetters
from napari_medvlseg.plugin.layer_space import KEY, camera_of
from napari_medvlseg.plugin.orientation_marks import letters_for
from napari_medvlseg.plugin.sample_data import spine_ct

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
AXIAL = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]])
"""Slices from foot to head, rows to posterior, columns to the patient's left."""


def placed(affine: Any = AXIAL, **entry: Any) -> dict[str, Any]:
    place = {"affine": np.asarray(affine).tolist(), "units": "mm", **entry}
    return {"metadata": {KEY: place}}


def letters(viewer: Any) -> EdgeLetters | None:
    return letters_for(viewer.layers, viewer.dims, camera_of(viewer))


def corners(right: str, bottom: str) -> EdgeLetters:
    return EdgeLetters(
        left=OPPOSITE[right], right=right, top=OPPOSITE[bottom], bottom=bottom
    )


def test_the_letters_are_right_for_all_orientations_axis_orders_and_flips() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((2, 3, 4)))
    orders = list(permutations(range(3)))
    checked = set()
    for axes in orders:
        for number, signs in enumerate(product((1.0, -1.0), repeat=3)):
            affine = np.diag([*signs, 1.0])[[*axes, 3]]
            layer.metadata = placed(affine)["metadata"]
            viewer.dims.order = order = orders[number % 6]
            vertical, horizontal = divmod(number % 4, 2)
            camera_of(viewer).orientation2d = (
                ("down", "up")[vertical],
                ("right", "left")[horizontal],
            )
            codes = aff2axcodes(affine)
            bottom, right = codes[order[1]], codes[order[2]]
            wanted = corners(
                OPPOSITE[right] if horizontal else right,
                OPPOSITE[bottom] if vertical else bottom,
            )
            assert letters(viewer) == wanted
            checked.add((axes, signs))
    assert len(checked) == 48


def test_a_layer_that_napari_mirrors_or_turns_takes_its_letters_along() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((2, 3, 4)), **placed())
    assert letters(viewer) == corners("L", "P")
    layer.scale = (1, 1, -1)
    assert letters(viewer) == corners("R", "P")
    layer.scale = (1, 1, 1)
    layer.rotate = (0, 0, 90)  # in the plane of the slices
    turned = letters(viewer)
    assert turned in (corners("A", "L"), corners("P", "R"))
    layer.rotate = (0, 0, 45)
    oblique = letters(viewer)
    assert oblique is not None
    assert {len(getattr(oblique, edge)) for edge in ("left", "top")} == {2}


@pytest.mark.parametrize(
    "entry",
    [{}, {"units": "pixel"}, {"affine": [[1, 2], [3, 4]]}, {"affine": None}],
    ids=["none", "no lengths", "odd", "absent"],
)
def test_a_picture_of_unknown_place_has_no_letters(entry: dict[str, Any]) -> None:
    viewer = ViewerModel()
    metadata = placed(**entry)["metadata"] if entry else {}
    viewer.add_image(np.zeros((3, 4)), metadata=metadata)
    assert letters(viewer) is None


def test_what_is_hidden_in_3d_or_contradictory_has_no_letters() -> None:
    viewer = ViewerModel()
    assert letters(viewer) is None
    layer = viewer.add_image(np.zeros((2, 3, 4)), **placed())
    viewer.dims.ndisplay = 3
    assert letters(viewer) is None
    viewer.dims.ndisplay = 2
    assert letters(viewer) is not None
    unknown = viewer.add_image(np.zeros((2, 3, 4)))
    assert letters(viewer) is None  # it is on top
    unknown.visible = False
    assert letters(viewer) is not None
    other = viewer.add_image(np.zeros((2, 3, 4)), **placed(np.eye(4)))
    assert letters(viewer) is None
    other.visible = layer.visible = False
    assert letters(viewer) is None


def test_of_a_series_the_time_has_no_letters() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((2, 3, 4, 5)), **placed())
    assert letters(viewer) == corners("L", "P")
    viewer.dims.order = (1, 2, 3, 0)
    assert letters(viewer) is None


def texts(dock: SegmentWidget) -> dict[str, str]:
    labels = dock.marks.labels
    return {edge: label.text for edge, label in labels.items() if not label.isHidden()}


def test_the_canvas_shows_the_letters_and_follows(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    layer = viewer.add_image(np.zeros((2, 3, 4)), **placed())
    dock = make_dock()

    dock.marks.attach(dock)  # as when the window is shown
    assert texts(dock) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    label = dock.marks.labels["left"]
    assert label.testAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    viewer.dims.roll()
    qtbot.waitUntil(lambda: texts(dock)["top"] in "SI")
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: texts(dock) == {})
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: len(texts(dock)) == 4)
    layer.visible = False
    qtbot.waitUntil(lambda: texts(dock) == {})
    viewer.layers.clear()
    ((pixels, choices, _),) = spine_ct()
    viewer.add_image(pixels, **choices)
    qtbot.waitUntil(lambda: texts(dock).get("left") == "R")
    dock.options.marks.setChecked(False)
    assert texts(dock) == {}
    assert not make_dock().options.marks.isChecked()  # in the next session too
    labels = dict(dock.marks.labels)
    dock.session.leave()
    assert dock.marks.labels == {}
    assert labels
    viewer.dims.ndisplay = 3  # nobody listens
    viewer.layers.clear()


def test_the_letters_stand_at_the_middle_of_the_edges(
    viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(np.zeros((2, 3, 4)), **placed())
    dock.marks.attach(dock)
    dock.marks.refresh()
    canvas = dock.marks.labels["left"].parentWidget()
    assert canvas is not None
    before = canvas.size()
    canvas.resize(640, 480)
    # The window of a test is hidden, and Qt tells hidden widgets their size later.
    QApplication.sendEvent(canvas, QResizeEvent(canvas.size(), before))
    rects = {edge: label.geometry() for edge, label in dock.marks.labels.items()}
    area = canvas.rect()
    assert all(area.contains(rect) for rect in rects.values())
    assert rects["left"].left() < 20
    assert area.right() - rects["right"].right() < 20
    assert rects["top"].top() < 20
    assert area.bottom() - rects["bottom"].bottom() < 20
    for edge in ("left", "right"):
        assert abs(rects[edge].center().y() - area.center().y()) <= 2
    for edge in ("top", "bottom"):
        assert abs(rects[edge].center().x() - area.center().x()) <= 2
