"""What else a session keeps: the user's own layers, images that are missing, stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels, Points, Shapes, Surface, Tracks, Vectors
from napari.utils.colormaps import DirectLabelColormap
from PIL import Image as Picture
from qtpy.QtWidgets import QFileDialog

from napari_medvlseg.core.io.workspace import FILE
from napari_medvlseg.plugin.result_layers import KEY, is_result
from tests.dicom_files import write_dicom_file
from tests.plugin.conftest import WAIT_MS, disc, run_and_wait

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

OURS = "napari-medvlseg"
PLACE = {
    "scale": (0.5, 0.25),
    "translate": (3, -7),
    "rotate": 30,
    "units": ("mm", "mm"),
    "axis_labels": ("row", "column"),
    "opacity": 0.5,
    "blending": "additive",
}


def _save(qtbot: QtBot, dock: SegmentWidget, folder: Path) -> None:
    with qtbot.waitSignal(dock.workspace.told, timeout=WAIT_MS):
        dock.workspace.save_requested.emit(folder)


def _open(qtbot: QtBot, dock: SegmentWidget, folder: Path) -> None:
    with qtbot.waitSignal(dock._actions.restored, timeout=WAIT_MS):
        dock.workspace.open_from(folder)


def _same(layer: Any, before: Any, *names: str) -> None:
    """Whether two layers are alike in what every one has, and in these."""
    frame = ("scale", "translate", "rotate", "units", "axis_labels")
    for name in (*frame, "name", "opacity", "blending", "visible", *names):
        ours, theirs = getattr(layer, name), getattr(before, name)
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_points_shapes_and_labels_of_the_user_come_back(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    viewer = viewer_with_disc
    run_and_wait(qtbot, dock, "bright blob")
    points = Points(
        [[1, 2], [3.5, 4]],
        name="landmarks",
        size=[2, 3],
        symbol=["x", "disc"],
        face_color=["red", "blue"],
        features={"who": ["a", "b"]},
        text={"string": "{who}", "color": "red", "size": 14, "anchor": "upper_left"},
        **PLACE,
    )
    corners = [[[0, 0], [0, 5], [4, 5], [4, 0]], [[1, 1], [2, 3], [6, 7]]]
    shapes = Shapes(
        corners,
        name="regions",
        shape_type=["ellipse", "path"],
        edge_color=["green", "white"],
        edge_width=[1, 2],
        **PLACE,
    )
    labels = Labels(disc().astype(np.uint16) // 100, name="mine", **PLACE)
    labels.colormap = DirectLabelColormap(color_dict={None: "red", 2: "yellow"})
    labels.visible = False
    empty = (Points(ndim=3, name="none yet"), Shapes(ndim=2, name="no region"))
    own = [points, shapes, labels, *empty]
    for layer in own:
        viewer.add_layer(layer)
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    found = [viewer.layers[layer.name] for layer in own]
    each = ("data", "size", "symbol", "face_color", "border_width", "shown")
    _same(found[0], points, *each)
    assert found[0].features["who"].tolist() == ["a", "b"]
    assert found[0].text == points.text
    assert found[0].text.values.tolist() == ["a", "b"]
    _same(found[1], shapes, "shape_type", "edge_color", "edge_width", "z_index")
    for ours, theirs in zip(found[1].data, shapes.data, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    _same(found[2], labels, "data")
    assert found[2].data.dtype == np.uint16
    np.testing.assert_array_equal(found[2].get_color(2), labels.get_color(2))
    assert [(layer.ndim, len(layer.data)) for layer in found[3:]] == [(3, 0), (2, 0)]
    assert "5 layers of your own" in dock.progress.status.text()


def test_vectors_tracks_and_surfaces_come_back(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    viewer = viewer_with_disc
    random = np.random.default_rng(0)
    vectors = Vectors(
        random.random((3, 2, 2)),
        name="flow",
        edge_color=["red", "green", "blue"],
        edge_width=2,
        length=3,
        vector_style="arrow",
        features={"speed": [1.0, 2.0, 3.0]},
        **PLACE,
    )
    cells = np.array([[0, 0, 1, 1], [0, 1, 2, 2], [1, 2, 3, 3], [1, 3, 4, 4]], float)
    tracks = Tracks(
        cells,
        name="cells",
        graph={1: [0]},
        features={"area": [4.0, 5, 6, 7]},
        color_by="area",
        colormap="viridis",
        tail_length=7,
    )
    corners, faces = random.random((4, 3)), np.array([[0, 1, 2], [1, 2, 3]])
    surface = Surface(
        (corners, faces, np.arange(4.0)),
        name="skin",
        colormap="magma",
        contrast_limits=(0.5, 2),
        shading="smooth",
        scale=(2, 1, 1),
        units="mm",
    )
    painted = Surface((corners, faces), name="paint", vertex_colors=np.eye(4))
    none_yet = Vectors(ndim=3, name="none yet")
    own = [vectors, tracks, surface, painted, none_yet]
    for layer in own:
        viewer.add_layer(layer)
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    found = [viewer.layers[layer.name] for layer in own]
    _same(found[0], vectors, "data", "edge_color", "edge_width", "length")
    assert found[0].vector_style == "arrow"
    assert found[0].features["speed"].tolist() == [1, 2, 3]
    _same(found[1], tracks, "data", "graph", "color_by", "colormap", "tail_length")
    assert found[1].features["area"].tolist() == [4, 5, 6, 7]
    _same(found[2], surface, "vertices", "faces", "vertex_values", "contrast_limits")
    assert (found[2].colormap.name, found[2].shading) == ("magma", "smooth")
    _same(found[3], painted, "vertices", "faces", "vertex_colors")
    assert (found[4].ndim, len(found[4].data)) == (3, 0)


def test_masks_of_results_are_not_kept_twice(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    copy = Labels(np.ones((3, 4), int), name="my copy")
    copy.metadata = dict(dock.session.results[0].mask.metadata)
    viewer_with_disc.add_layer(copy)
    _save(qtbot, dock, tmp_path / "session")
    kept = sorted(path.name for path in (tmp_path / "session").iterdir())
    assert kept == ["image-0.npy", "layer-0.npz", "result-0.npz", FILE]


def test_a_session_of_before_opens_without_layers(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    import json

    _save(qtbot, dock, tmp_path / "session")
    path = tmp_path / "session" / FILE
    told = json.loads(path.read_text(encoding="utf-8"))
    del told["layers"]
    path.write_text(json.dumps(told), encoding="utf-8")
    viewer_with_disc.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    assert len(viewer_with_disc.layers) == 1


def test_what_is_missing_stays_known_when_it_is_saved_again(
    qtbot: QtBot,
    viewer: Any,
    dock: SegmentWidget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "cells.png"
    Picture.fromarray(disc()).save(path)
    viewer.open(str(path), plugin=OURS)
    run_and_wait(qtbot, dock, "bright blob")
    _save(qtbot, dock, tmp_path / "one")
    viewer.layers.clear()
    moved = path.rename(tmp_path / "moved.png")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    _open(qtbot, dock, tmp_path / "one")
    qtbot.waitUntil(lambda: len(viewer.layers) == 5, timeout=WAIT_MS)
    _save(qtbot, dock, tmp_path / "two")
    viewer.layers.clear()
    moved.rename(path)
    _open(qtbot, dock, tmp_path / "two")
    assert viewer.layers[0].source.path == str(path)
    assert "1 image, 1 result" in dock.progress.status.text()


def test_a_moved_image_knows_where_it_is_now(
    qtbot: QtBot,
    viewer: Any,
    dock: SegmentWidget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "cells.png"
    Picture.fromarray(disc()).save(path)
    (layer,) = viewer.open(str(path), plugin=OURS)
    layer.metadata[KEY]["affine"][0][3] = 5.0  # as a session may tell it
    _save(qtbot, dock, tmp_path / "one")
    viewer.layers.clear()
    moved = str(path.rename(tmp_path / "moved.png"))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (moved, ""))
    _open(qtbot, dock, tmp_path / "one")
    entry = viewer.layers[0].metadata[KEY]
    assert entry["path"] == moved
    assert entry["affine"][0][3] == 5


def test_of_a_study_the_series_that_was_open_is_opened_unasked(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    """Both have one shape, so that only the number tells them apart."""
    study = tmp_path / "study"
    for number in (1, 2):
        for slice_ in range(3):
            write_dicom_file(
                study / f"{number}-{slice_}.dcm",
                np.full((4, 5), 10 * number + slice_, np.int16),
                SeriesInstanceUID=f"1.2.{number}",
                SeriesNumber=number,
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, slice_],
                PixelSpacing=[1, 1],
            )
    from napari_medvlseg.plugin.reader import only_series

    with only_series([2]):
        viewer.open(str(study), plugin=OURS)
    (layer,) = viewer.layers
    assert np.asarray(layer.data).max() == 22
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    (layer,) = viewer.layers
    assert np.asarray(layer.data).max() == 22
    assert not any(is_result(layer) for layer in viewer.layers)


def test_a_stack_of_files_comes_back_as_a_whole(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    for number in range(3):
        Picture.fromarray(disc() + number).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    viewer.open(paths, stack=True, plugin=OURS)
    assert viewer.layers[0].metadata[KEY]["files"] == ["0.png", "1.png", "2.png"]
    _save(qtbot, dock, tmp_path / "session")
    assert not (tmp_path / "session" / "image-0.npy").exists()
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    assert viewer.layers[0].data.shape == (3, 24, 32)


def test_a_stack_of_files_that_lie_apart_is_kept_whole(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Picture.fromarray(disc()).save(tmp_path / name / "0.png")
    paths = [str(tmp_path / name / "0.png") for name in ("a", "b")]
    viewer.open(paths, stack=True, plugin=OURS)
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    assert viewer.layers[0].data.shape == (2, 24, 32)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_stack_of_naparis_own_reader_is_kept_whole(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path, ending: str
) -> None:
    """Napari calls it by its first file, which alone would come back."""
    paths = [str(tmp_path / f"{number}{ending}") for number in range(3)]
    for number, path in enumerate(paths):
        Picture.fromarray(disc() + number).save(path)
    viewer.open(paths, stack=True, plugin="napari")
    assert viewer.layers[0].source.path == paths[0]
    dock.prompt.set_text("bright blob")
    dock.copy_command()
    assert "medvlseg segment IMAGE" in dock.progress.status.text()
    _save(qtbot, dock, tmp_path / "session")
    stack = np.asarray(viewer.layers[0].data)
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session")
    np.testing.assert_array_equal(viewer.layers[0].data, stack)


def test_a_picture_of_naparis_own_reader_is_kept_by_reference(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    Picture.fromarray(disc()).convert("RGBA").save(tmp_path / "a.png")
    viewer.open(str(tmp_path / "a.png"), plugin="napari")
    dock.prompt.set_text("bright blob")
    dock.copy_command()
    assert "a.png" in dock.progress.status.text()
    _save(qtbot, dock, tmp_path / "session")
    assert not (tmp_path / "session" / "image-0.npy").exists()
