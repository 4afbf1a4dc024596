"""The user's own layers but images to a saved session, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Points, Shapes, Surface, Tracks, Vectors
from napari.utils.colormaps import DirectLabelColormap

from napari_medvlseg.core.io.saved_layers import SavedLayer
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.result_layers import KEY, is_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import napari.components
    import napari.layers
    import napari.viewer

    from napari_medvlseg.plugin.result_layers import Result

    Arrays = dict[str, Any]

FRAME = ("scale", "translate", "rotate", "shear", "affine")
LOOK = ("opacity", "visible", "blending")
_PER_POINT = ("size", "face_color", "border_color", "border_width", "shown")
_PER_SHAPE = ("face_color", "edge_color", "edge_width", "z_index")
_VECTORS = ("edge_width", "length", "vector_style")
_TRACKS = ("tail_width", "tail_length", "head_length", "hide_completed_tracks")
_SURFACE = ("gamma", "shading")
_SURFACE_PARTS = ("texture", "texcoords", "vertex_colors")
_KEPT = (Points, Shapes, Labels, Vectors, Tracks, Surface)


def own_layers(
    layers: napari.components.LayerList, results: Iterable[Result]
) -> tuple[SavedLayer, ...]:
    """Return the layers of a viewer that are no images and no result's.

    Parameters
    ----------
    layers : LayerList
        The viewer's.
    results : iterable of Result
        Those whose masks are kept with them.
    """
    known = list(results)
    return tuple(
        _saved(layer)
        for layer in layers
        if isinstance(layer, _KEPT)
        and not any(result.owns(layer) for result in known)
        and not _is_unfinished(layer)
    )


def add_own_layers(viewer: napari.viewer.Viewer, saved: Iterable[SavedLayer]) -> int:
    """Show layers of a session; return how many."""
    count = 0
    for one in saved:
        layer = _MAKERS[one.kind](one.arrays, one.look)
        layer.name = one.name
        for name in LOOK:
            setattr(layer, name, one.look[name])
        viewer.add_layer(layer)
        count += 1
    return count


def frame_told(frame: LayerFrame) -> dict[str, Any]:
    """Return a frame ready for JSON."""
    return {
        **{name: getattr(frame, name).tolist() for name in FRAME},
        "units": [str(unit) for unit in frame.units],
        "axis_labels": list(frame.axis_labels),
    }


def _is_unfinished(layer: napari.layers.Layer) -> bool:
    """Whether a layer is of a run that is under way."""
    return is_result(layer) and not layer.metadata[KEY].get("complete", True)


def _saved(layer: Any) -> SavedLayer:
    """Keep a layer."""
    kind = type(layer).__name__.lower()
    kind = kind if kind in _KEEPERS else "labels"
    arrays, look = _KEEPERS[kind](layer)
    features = {str(k): v.tolist() for k, v in layer.features.items()}
    common = {
        **frame_told(LayerFrame.of(layer)),
        "opacity": float(layer.opacity),
        "visible": bool(layer.visible),
        "blending": str(layer.blending),
        "features": features,
        "place": layer.metadata.get(KEY),
    }
    return SavedLayer(
        kind=kind, name=str(layer.name), look={**common, **look}, arrays=arrays
    )


def _points_kept(layer: Points) -> tuple[Arrays, dict[str, Any]]:
    """Keep points, their sizes, symbols, colours and texts."""
    arrays = {name: np.asarray(getattr(layer, name)) for name in _PER_POINT}
    arrays["data"] = np.asarray(layer.data)
    arrays["symbol"] = np.array([str(symbol.value) for symbol in layer.symbol], "U32")
    return arrays, {"ndim": int(layer.ndim), "text": _text_told(layer)}


def _shapes_kept(layer: Shapes) -> tuple[Arrays, dict[str, Any]]:
    """Keep shapes, one after the other, with how many corners each has."""
    arrays = {name: np.asarray(getattr(layer, name)) for name in _PER_SHAPE}
    corners = [np.asarray(corners, float) for corners in layer.data]
    arrays["data"] = np.concatenate([np.zeros((0, layer.ndim)), *corners])
    arrays["corners"] = np.array([len(one) for one in corners], np.int64)
    arrays["shape_type"] = np.array([str(kind) for kind in layer.shape_type], "U32")
    return arrays, {"ndim": int(layer.ndim), "text": _text_told(layer)}


def _vectors_kept(layer: Vectors) -> tuple[Arrays, dict[str, Any]]:
    """Keep vectors and their colours."""
    arrays = {"data": np.asarray(layer.data), "edge_color": layer.edge_color}
    return arrays, {"ndim": int(layer.ndim), **_plain(layer, _VECTORS)}


def _tracks_kept(layer: Tracks) -> tuple[Arrays, dict[str, Any]]:
    """Keep tracks and what they come from."""
    look = _plain(layer, (*_TRACKS, "color_by"))
    graph: Any = layer.graph
    look["graph"] = [
        [int(child), [int(parent) for parent in np.atleast_1d(parents)]]
        for child, parents in graph.items()
    ]
    look["colormap"] = str(layer.colormap)
    return {"data": np.asarray(layer.data)}, look


def _surface_kept(layer: Surface) -> tuple[Arrays, dict[str, Any]]:
    """Keep a surface, its values and what is painted on it."""
    arrays = dict(zip(("vertices", "faces", "values"), layer.data, strict=False))
    painted = {name: getattr(layer, name) for name in _SURFACE_PARTS}
    arrays |= {name: part for name, part in painted.items() if part is not None}
    look = _plain(layer, _SURFACE)
    limits: Any = layer.contrast_limits
    look["contrast_limits"] = [float(end) for end in limits]
    look["colormap"] = str(layer.colormap.name)
    return {name: np.asarray(array) for name, array in arrays.items()}, look


def _text_told(layer: Any) -> dict[str, Any]:
    """Return the text beside points or shapes, ready for JSON."""
    text = layer.text
    # napari's models had other names before pydantic 2
    dump = getattr(text, "model_dump_json", None) or text.json
    told: dict[str, Any] = json.loads(dump())
    return told


def _plain(layer: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return plain values of a layer, ready for JSON."""
    values = {name: getattr(layer, name) for name in names}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    return {
        name: value.item() if hasattr(value, "item") else value
        for name, value in plain.items()
    }


def _labels_kept(layer: Labels) -> tuple[Arrays, dict[str, Any]]:
    """Keep labels and, where they were chosen, their colours."""
    data = layer.data[0] if layer.multiscale else layer.data
    look: dict[str, Any] = {"contour": int(layer.contour)}
    if isinstance(layer.colormap, DirectLabelColormap):
        look["colors"] = [
            [label, [float(part) for part in color]]
            for label, color in layer.colormap.color_dict.items()
        ]
    return {"data": np.asarray(data)}, look


def _frame_of(look: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that place and describe a layer."""
    place = look["place"]
    return {
        **{name: np.array(look[name], float) for name in FRAME},
        "units": tuple(look["units"]),
        "axis_labels": tuple(look["axis_labels"]),
        "features": look["features"] or None,
        "metadata": {} if place is None else {KEY: place},
    }


def _points(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Points:
    """Return points as they were."""
    count = len(arrays["data"])
    each: dict[str, Any] = {}
    if count:
        each = {name: arrays[name] for name in (*_PER_POINT, "symbol")}
    layer = Points(arrays["data"], ndim=look["ndim"], **_frame_of(look), **each)
    _set_text(layer, look)
    return layer


def _shapes(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Shapes:
    """Return shapes as they were."""
    ends = np.cumsum(arrays["corners"])[:-1]
    corners = np.split(arrays["data"], ends) if len(arrays["corners"]) else []
    each: dict[str, Any] = {}
    if corners:
        each = {name: list(arrays[name]) for name in (*_PER_SHAPE, "shape_type")}
    layer = Shapes(corners, ndim=look["ndim"], **_frame_of(look), **each)
    _set_text(layer, look)
    return layer


def _set_text(layer: Points | Shapes, look: Mapping[str, Any]) -> None:
    """Write the text of a session; those of before have none."""
    if "text" in look:
        layer.text = look["text"]


def _vectors(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Vectors:
    """Return vectors as they were."""
    each: dict[str, Any] = {name: look[name] for name in _VECTORS}
    if len(arrays["data"]):
        each["edge_color"] = arrays["edge_color"]
    return Vectors(arrays["data"], ndim=look["ndim"], **_frame_of(look), **each)


def _tracks(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Tracks:
    """Return tracks as they were."""
    layer = Tracks(arrays["data"], graph=dict(look["graph"]), **_frame_of(look))
    for name in (*_TRACKS, "color_by", "colormap"):
        setattr(layer, name, look[name])
    return layer


def _surface(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Surface:
    """Return a surface as it was."""
    parts = [arrays[k] for k in ("vertices", "faces", "values") if k in arrays]
    return Surface(
        tuple(parts),
        **_frame_of(look),
        **{name: look[name] for name in (*_SURFACE, "contrast_limits", "colormap")},
        **{name: arrays[name] for name in _SURFACE_PARTS if name in arrays},
    )


def _labels(arrays: Mapping[str, Any], look: Mapping[str, Any]) -> Labels:
    """Return labels as they were."""
    layer = Labels(arrays["data"], **_frame_of(look))
    if "colors" in look:
        layer.colormap = DirectLabelColormap(color_dict=dict(look["colors"]))
    layer.contour = look["contour"]
    return layer


_KEEPERS: dict[str, Callable[[Any], tuple[Arrays, dict[str, Any]]]] = {
    "points": _points_kept,
    "shapes": _shapes_kept,
    "labels": _labels_kept,
    "vectors": _vectors_kept,
    "tracks": _tracks_kept,
    "surface": _surface_kept,
}
_MAKERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "points": _points,
    "shapes": _shapes,
    "labels": _labels,
    "vectors": _vectors,
    "tracks": _tracks,
    "surface": _surface,
}
