"""A viewer's working session to a `Workspace`, and back into a viewer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.io.workspace import (
    SavedImage,
    SavedResult,
    Workspace,
    image_fingerprint,
)
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.layer_file import is_stack_of_unknown_files
from napari_medvlseg.plugin.layers import LayerCut
from napari_medvlseg.plugin.own_layers import FRAME, frame_told, own_layers
from napari_medvlseg.plugin.reader import only_series
from napari_medvlseg.plugin.result_layers import KEY, Result, is_result
from napari_medvlseg.plugin.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import napari.layers
    import napari.viewer

    from napari_medvlseg.core.types import Segmentation

LOOK = ("opacity", "visible", "blending", "gamma")
CAMERA = ("center", "zoom", "angles")


def gather(
    viewer: napari.viewer.Viewer,
    results: Iterable[Result],
    controls: Mapping[str, Any],
) -> Workspace:
    """Return what is open in a viewer.

    Parameters
    ----------
    viewer : Viewer
        Its Image layers are kept by reference; those that were never a file, whole.
    results : iterable of Result
        Complete ones.
    controls : mapping
        What is typed and chosen, ready for JSON.
    """
    known = [(r, r.segmentation) for r in results if r.segmentation is not None]
    images: list[Any] = [
        layer
        for layer in viewer.layers
        if isinstance(layer, Image) and not is_result(layer)
    ]
    for result, _ in known:  # its image may have been removed, or never found
        wanted = _image_of(result)
        if not any(wanted == one for one in images):
            images.append(wanted)
    camera = _camera(viewer)
    return Workspace(
        images=tuple(
            one if isinstance(one, SavedImage) else _saved_image(one) for one in images
        ),
        results=tuple(
            _saved_result(result, segmentation, _place_in(images, _image_of(result)))
            for result, segmentation in known
        ),
        layers=own_layers(viewer.layers, [result for result, _ in known]),
        controls=controls,
        view={
            "ndisplay": int(viewer.dims.ndisplay),
            "order": [int(axis) for axis in viewer.dims.order],
            "step": [int(step) for step in viewer.dims.current_step],
            "camera": {
                "center": [float(value) for value in camera.center],
                "zoom": float(camera.zoom),
                "angles": [float(value) for value in camera.angles],
            },
        },
    )


def open_images(
    viewer: napari.viewer.Viewer,
    saved: Sequence[SavedImage],
    paths: Sequence[Path | None],
) -> list[Any]:
    """Open a session's images; None stands for one that could not be opened.

    Parameters
    ----------
    viewer : Viewer
    saved : sequence of SavedImage
    paths : as many paths
        Where each is now; None for one that is kept whole, or that is given up.
    """
    numbers = _series_numbers(saved, paths)
    opened: dict[Path, list[Any]] = {}
    layers: list[Any] = []
    for image, path in zip(saved, paths, strict=True):
        layer = None
        if image.voxels is not None:
            layer = Image(image.voxels, rgb=bool(image.look["rgb"]))
            viewer.add_layer(layer)
        elif path is not None:
            if path not in opened:
                with only_series(numbers[path]):
                    opened[path] = _open(viewer, path, image.look)
            layer = _take_alike(opened[path], image.look)
        if layer is not None:
            _apply_look(layer, image)
        layers.append(layer)
    for left in opened.values():  # of these files, what the session did not show
        for layer in left:
            viewer.layers.remove(layer)
    return layers


def restored_result(
    viewer: napari.viewer.Viewer, saved: SavedResult, image: SavedImage, layer: Any
) -> Result:
    """Return a result without layers yet; `layer` is its image's, if that is there."""
    told = saved.job
    cut = told["cut"]
    shape = tuple(cut["shape"])
    data = _finest(layer) if layer is not None else np.zeros(0)
    job = Job(
        LayerCut(
            data=data,
            rgb=bool(cut["rgb"]),
            name=str(cut["name"]),
            shape=shape,
            kept=tuple(cut["kept"]),
            index=tuple(cut["index"]),
            walked=int(cut["walked"]),
            box=tuple(slice(*ends) for ends in cut["box"]),
            affine=saved.segmentation.affine,
            units=str(cut["units"]),
            colour=cut["colour"],
            long=tuple(cut["long"]),
            facts=cut["facts"],
        ),
        saved.segmentation.prompts,
        str(told["model"]),
        SegmentConfig(**told["config"]),
        colors=saved.segmentation.colors,
        exclusive=saved.segmentation.exclusive,
        max_entropy=saved.segmentation.max_entropy,
    )
    frame = told["frame"]
    result = Result(
        viewer.layers,
        job,
        LayerFrame(
            **{name: np.array(frame[name], float) for name in FRAME},
            units=tuple(frame["units"]),
            axis_labels=tuple(frame["axis_labels"]),
            metadata={} if layer is None else dict(layer.metadata),
        ),
    )
    result.image = layer
    result.missing = image if layer is None else None
    return result


def apply_view(viewer: napari.viewer.Viewer, view: Mapping[str, Any]) -> None:
    """Show what was on the screen, as far as the axes are the same."""
    if len(view["order"]) == viewer.dims.ndim:
        viewer.dims.order = tuple(view["order"])
        viewer.dims.current_step = tuple(view["step"])
        viewer.dims.ndisplay = view["ndisplay"]
    for name in CAMERA:
        value = view["camera"][name]
        setattr(_camera(viewer), name, tuple(value) if name != "zoom" else value)


def _camera(viewer: napari.viewer.Viewer) -> Any:
    """Return the camera, which moved to a scene of its own in napari 0.9."""
    return getattr(viewer, "scene", viewer).camera


def _saved_image(layer: Any) -> SavedImage:
    """Keep a layer: the way to its file, or its voxels."""
    source = layer.source
    path = Path(source.path) if source.path else None
    apart = (layer.metadata.get(KEY) or {}).get("files") == []
    apart = apart or is_stack_of_unknown_files(layer)
    if path is not None and (apart or not path.exists()):
        path = None  # it was on the internet, is gone or many: keep what is in memory
    look = {
        **frame_told(LayerFrame.of(layer)),
        **{name: _plain(getattr(layer, name)) for name in LOOK},
        "rgb": bool(layer.rgb),
        "shape": [int(size) for size in _finest(layer).shape],
        "contrast_limits": [float(end) for end in layer.contrast_limits],
        "colormap": str(layer.colormap.name),
        "reader": source.reader_plugin,
        "place": layer.metadata.get(KEY),
    }
    return SavedImage(
        name=str(layer.name),
        path=path,
        fingerprint={} if path is None else image_fingerprint(path),
        look=look,
        voxels=np.asarray(_finest(layer)) if path is None else None,
    )


def _saved_result(
    result: Result, segmentation: Segmentation, image: int
) -> SavedResult:
    """Keep a result with its own frame and cut."""
    cut, config = result.job.cut, result.job.config
    return SavedResult(
        image=image,
        segmentation=segmentation,
        job={
            "complete": result.is_complete,
            "model": result.job.model,
            "config": asdict(config),
            "frame": frame_told(result.frame),
            "cut": {
                "rgb": cut.rgb,
                "name": cut.name,
                "shape": list(cut.shape),
                "kept": list(cut.kept),
                "index": list(cut.index),
                "walked": cut.walked,
                "box": [[part.start, part.stop] for part in cut.box],
                "units": cut.units,
                "colour": cut.colour,
                "long": list(cut.long),
                "facts": dict(cut.facts),
            },
        },
        edited=result.edited_labels,
    )


def _apply_look(layer: Any, image: SavedImage) -> None:
    """Place and show a layer as it was."""
    look = image.look
    layer.name = image.name
    for name in FRAME:
        setattr(layer, name, np.array(look[name], float))
    layer.units = tuple(look["units"])
    layer.axis_labels = tuple(look["axis_labels"])
    if look["place"] is not None:
        where = {k: v for k, v in layer.metadata.get(KEY, {}).items() if k == "path"}
        layer.metadata = {**layer.metadata, KEY: {**look["place"], **where}}
    if not layer.rgb:
        low, high = look["contrast_limits"]
        ends = layer.contrast_limits_range
        layer.contrast_limits_range = (min(low, ends[0]), max(high, ends[1]))
        layer.contrast_limits = (low, high)
        layer.colormap = look["colormap"]
    for name in LOOK:
        setattr(layer, name, look[name])


def _open(
    viewer: napari.viewer.Viewer, path: Path, look: Mapping[str, Any]
) -> list[Any]:
    """Open a file with the reader it was opened with, if that is still there."""
    place = look.get("place") or {}
    names = place.get("files") or [path.name]  # of a stack: they lie side by side
    paths: Any = [str(path.parent / name) for name in names]
    stack = len(paths) > 1
    try:
        return list(viewer.open(paths, stack=stack, plugin=look.get("reader")))
    except ValueError:  # napari's, for a reader that is not installed
        return list(viewer.open(paths, stack=stack))


def _series_numbers(
    saved: Sequence[SavedImage], paths: Sequence[Path | None]
) -> dict[Path, frozenset[int] | None]:
    """Return which series of each folder are meant; None for all that is there."""
    numbers: dict[Path, frozenset[int] | None] = {}
    for image, path in zip(saved, paths, strict=True):
        if path is not None:
            number = _series_of(image.look.get("place"))
            told = frozenset() if number is None else frozenset([number])
            numbers[path] = (numbers.get(path) or frozenset()) | told or None
    return numbers


def _series_of(place: Any) -> int | None:
    """Return the number of the DICOM series that a layer's metadata tell."""
    return place.get("series") if isinstance(place, dict) else None


def _take_alike(layers: list[Any], look: Mapping[str, Any]) -> Any:
    """Take the first of a file's layers that has the series, shape and colours."""
    for layer in layers:
        is_image = isinstance(layer, Image) and bool(layer.rgb) == bool(look["rgb"])
        is_series = _series_of(layer.metadata.get(KEY)) == _series_of(look.get("place"))
        same_shape = is_image and list(_finest(layer).shape) == list(look["shape"])
        if same_shape and is_series:
            layers.remove(layer)
            return layer
    return None


def _finest(layer: Any) -> Any:
    """Return the data of an Image layer, of several resolutions the finest."""
    return layer.data[0] if layer.multiscale else layer.data


def _image_of(result: Result) -> Any:
    """Return a result's image layer, or what is known of it where it is not there."""
    return result.missing if result.image is None else result.image


def _place_in(layers: Sequence[Any], wanted: Any) -> int:
    """Return where a layer stands; napari may wrap layers for plugins."""
    return next(number for number, layer in enumerate(layers) if layer == wanted)


def _plain(value: Any) -> Any:
    """Return a value of a layer ready for JSON."""
    return value.item() if hasattr(value, "item") else value
