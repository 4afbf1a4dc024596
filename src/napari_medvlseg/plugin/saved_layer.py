"""A layer to what is saved of it: its values on the grid of the image's own file.

Symbols: D, the layer's axes without colour; S, its last two or three, in space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, ImageError
from napari_medvlseg.core.io.formats import Source
from napari_medvlseg.core.io.placed import LABELS, Grid, Item, whole_numbers
from napari_medvlseg.plugin.layer_space import KEY, patient_affine
from napari_medvlseg.plugin.place import turned
from napari_medvlseg.plugin.result_layers import MASK

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    LayerData = tuple[Any, Mapping[str, Any], str]

_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")
_NIFTI_UNITS = {"second": "sec", "millisecond": "msec", "microsecond": "usec"}
_PERMUTED = 1e-3
"""How far, in voxels, steps along axes may be from those of the file's own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedLayer:
    """What is saved of a layer.

    Parameters
    ----------
    name : str
        The layer's.
    item : Item
    grid : Grid
    run : str
        Alike for all layers of one result; empty of other layers.
    told : mapping
        What the JSON repeats of a result.
    provenance : mapping
    threshold : float or None
    is_edited : bool
        Whether a person painted in it.
    """

    name: str
    item: Item
    grid: Grid
    run: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    is_edited: bool = False


def saved_layer(
    layer: LayerData, others: Sequence[LayerData] = (), *, as_picture: bool = False
) -> SavedLayer:
    """Return what is saved of a layer, in the order of its image's file.

    Parameters
    ----------
    layer : layer data
        A result of this plugin, an image that it opened, or labels on one.
    others : sequence of layer data
        Where to look for the image that labels of napari's own lie on.
    as_picture : bool
        Whether a slice of a volume stays a picture, as PNG wants it.

    Raises
    ------
    GeometryError
        If its place is not known, or its shape has been changed.
    ImageError
        If its voxels cannot be read, for instance because the file is gone.
    """
    _, attributes, _ = layer
    entry = _entry(attributes)
    if entry is not None and "kind" in entry:
        return _of_result(layer, entry, as_picture=as_picture)
    entry = entry or _entry_of_image(layer, others)
    if entry is None or "affine" not in entry:
        msg = (
            f"{attributes['name']}: expected a layer whose place MedVLSeg knows (a "
            "result, an image that it opened, or labels that lie exactly on one), got "
            "another; open its image with MedVLSeg, or choose another file type"
        )
        raise GeometryError(msg)
    return _of_image(layer, entry)


def _of_image(layer: LayerData, entry: Mapping[str, Any]) -> SavedLayer:
    """Return what is saved of an image that was opened, or of labels on one."""
    data, attributes, kind = layer
    rgb = bool(attributes.get("rgb"))
    values = _read(data, attributes)
    spatial = min(values.ndim - rgb, 3)
    lead = tuple(s for s in values.shape[: values.ndim - rgb - spatial] if s > 1)
    values = values.reshape(*lead, *values.shape[values.ndim - rgb - spatial :])
    affine = np.array(entry["affine"], float)
    values, affine = _as_stored(values, affine, entry, rgb=rgb, spatial=spatial)
    end = values.ndim - rgb
    grid = _grid(entry, values.shape[end - spatial : end], affine, attributes)
    is_labels = kind == "labels"
    return SavedLayer(
        name=str(attributes["name"]),
        item=Item(
            kind=LABELS if is_labels else "image",
            values=whole_numbers(values) if is_labels else values,
            rgb=rgb,
        ),
        grid=grid,
        is_edited=is_labels,
    )


def _of_result(
    layer: LayerData, entry: Mapping[str, Any], *, as_picture: bool
) -> SavedLayer:
    """Return what is saved of a result: its cut, or that in a volume of its image."""
    data, attributes, _ = layer
    values = _read(data, attributes)
    kept = [int(axis) for axis in entry["kept_axes"]]
    cut = _cut(values, entry, kept, str(attributes["name"]))
    shape = [int(size) for size in entry["image_shape"]]
    spatial = range(len(shape) - min(len(shape), 3), len(shape))
    is_opened = "stored_affine" in entry or patient_affine({KEY: entry}) is not None
    is_whole = is_opened and set(kept) <= set(spatial) and entry["colour_axis"] is None
    if is_whole and not (as_picture and cut.ndim == 2):
        cut, affine = _in_volume(cut, entry, kept, spatial)
        cut, affine = _as_stored(cut, affine, entry, rgb=False, spatial=cut.ndim)
        grid = _grid(entry, cut.shape, affine, attributes)
    else:
        affine = np.array(entry["grid_affine"], float)
        grid = Grid(
            shape=cut.shape,
            affine=affine,
            units=str(entry["grid_units"]),
            is_known=False,
            is_placed=False,
            name=str(entry["image"]),
            source=_source(entry),
        )
    return _described(str(attributes["name"]), entry, cut, grid)


def _described(
    name: str, entry: Mapping[str, Any], values: Array, grid: Grid
) -> SavedLayer:
    """Say whose result the values are."""
    is_mask = entry["kind"] == MASK
    provenance = dict(entry.get("provenance") or {})
    axes, index, shape = (entry[key] for key in ("kept_axes", "index", "image_shape"))
    told: dict[str, Any] = {
        "complete": bool(entry["complete"]),
        "edited": bool(entry["edited"]),
        "one_slice": len(axes) < len(grid.shape),
    }
    if any(size > 1 for size in shape[:-3]):
        told["volume"] = [int(place) for place in index[:-3]]
    same = [entry["image"], axes, index, provenance]
    return SavedLayer(
        name=name,
        item=Item(
            kind=LABELS if is_mask else str(entry["kind"]),
            values=whole_numbers(values) if is_mask else values,
            prompts=tuple(entry["prompts"]),
        ),
        grid=grid,
        run=json.dumps(same, default=str),
        told=told,
        provenance=provenance,
        threshold=entry.get("threshold"),
        is_edited=bool(told["edited"]),
    )


def _cut(values: Array, entry: Mapping[str, Any], kept: list[int], name: str) -> Array:
    """Return a result's values on its kept axes alone."""
    shape, index = entry["image_shape"], entry["index"]
    wanted = tuple(
        size if axis in kept or length > 1 else 1
        for axis, (size, length) in enumerate(zip(shape, values.shape, strict=False))
    )
    if values.shape != wanted or len(wanted) != len(shape):
        msg = (
            f"{name}: expected a result of the shape {wanted}, got {values.shape}; run "
            "it again"
        )
        raise GeometryError(msg)
    picked = tuple(
        slice(None) if axis in kept else min(int(index[axis]), length - 1)
        for axis, length in enumerate(values.shape)
    )
    return values[picked]


def _in_volume(
    cut: Array, entry: Mapping[str, Any], kept: list[int], spatial: range
) -> tuple[Array, Array]:
    """Return a cut among zeros in the volume of its image, and the affine of that."""
    affine = np.array(entry["affine"], float)
    if patient_affine({KEY: entry}) is not None:  # of the result's first voxel
        offset = [float(entry["offset"][axis]) for axis in spatial]
        affine[:3, 3] -= affine[:3, : len(offset)] @ offset
    if cut.ndim == len(spatial):
        return cut, affine
    whole = np.zeros([int(entry["image_shape"][axis]) for axis in spatial], cut.dtype)
    place = tuple(
        slice(None) if axis in kept else int(entry["index"][axis]) for axis in spatial
    )
    whole[place] = cut
    return whole, affine


def _as_stored(
    values: Array,
    affine: Array,
    entry: Mapping[str, Any],
    *,
    rgb: bool,
    spatial: int,
) -> tuple[Array, Array]:
    """Undo the turn by which an opened image stands upright in napari."""
    if "stored_affine" not in entry:
        return values, affine
    stored = np.array(entry["stored_affine"], float)
    steps = np.linalg.solve(stored[:3, :3], affine[:3, :3])[:spatial, :spatial]
    if np.abs(steps - np.rint(steps)).max() > _PERMUTED:
        return values, affine
    before = values.ndim - rgb - spatial
    back = np.linalg.inv(stored)
    view, undone, _ = turned(values, affine, back, before, spatial)
    is_same = np.allclose(undone, stored, rtol=0, atol=1e-6)
    return view, stored if is_same else undone


def _grid(
    entry: Mapping[str, Any],
    shape: tuple[int, ...],
    affine: Array,
    attributes: Mapping[str, Any],
) -> Grid:
    """Return the grid of an image that was opened, or of a sample."""
    has_spacing = entry.get("spacing_mm") is not None
    in_body = patient_affine({KEY: entry}) is not None
    return Grid(
        shape=tuple(shape),
        affine=affine,
        units="mm" if has_spacing or in_body else "pixel",
        is_known=in_body or "stored_affine" in entry,
        is_placed=in_body,
        name=str(entry.get("image") or attributes["name"]),
        source=_source(entry),
        step=_step(attributes) if "kind" not in entry else None,
    )


def _source(entry: Mapping[str, Any]) -> Source | None:
    """Return what an image was read from, if it was a file."""
    if "path" not in entry:
        return None
    series = entry.get("series")
    return Source(Path(entry["path"]), None if series is None else str(series))


def _step(attributes: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the time between the volumes of a series, as NIfTI calls its unit."""
    units, scale = attributes.get("units"), attributes.get("scale")
    if units is None or scale is None or len(scale) < 4:
        return None
    unit = _NIFTI_UNITS.get(str(units[0]))
    return (float(scale[0]), unit) if unit else None


def _entry(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what this plugin keeps in a layer's metadata."""
    entry = (attributes.get("metadata") or {}).get(KEY)
    return entry if isinstance(entry, Mapping) else None


def _entry_of_image(
    layer: LayerData, others: Sequence[LayerData]
) -> Mapping[str, Any] | None:
    """Return the entry of an image on which labels lie voxel by voxel."""
    data, attributes, kind = layer
    if kind != "labels":
        return None
    for other, place, other_kind in others:
        entry = _entry(place)
        if other_kind != "image" or entry is None or "kind" in entry:
            continue
        rgb = bool(place.get("rgb"))
        shape = _finest(other, place).shape
        same = shape[: len(shape) - rgb] == _finest(data, attributes).shape
        if same and all(
            np.array_equal(attributes[name], place[name]) for name in _TRANSFORMS
        ):
            return entry
    return None


def _finest(data: Any, attributes: Mapping[str, Any]) -> Any:
    """Return voxels, of several resolutions the finest."""
    return data[0] if attributes.get("multiscale") else data


def _read(data: Any, attributes: Mapping[str, Any]) -> Array:
    """Return voxels, computed now if they are lazy."""
    try:
        return np.asarray(_finest(data, attributes))
    except OSError as error:
        msg = (
            f"{attributes['name']}: expected to read its voxels, got: {error}; open "
            "the image again"
        )
        raise ImageError(msg) from error
