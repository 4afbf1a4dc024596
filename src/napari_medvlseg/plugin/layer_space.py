"""Where a layer's voxels lie: in napari's world, on its screen and in the patient.

Symbols: D, the layer's axes without colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import CompositeAffine

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari.components
    import napari.layers
    import napari.viewer
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]

KEY = "medvlseg"
"""Of what this plugin keeps in a layer's metadata."""
CHANNEL_LABELS = frozenset(
    ("c", "ch", "channel", "channels", "color", "colors", "colour", "colours")
)


def to_world(layer: napari.layers.Layer) -> Matrix:
    """Return the (D + 1, D + 1) matrix from index to world, as napari composes it."""
    inner = CompositeAffine(
        layer.scale, layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    matrix: Matrix = layer.affine.affine_matrix @ inner.affine_matrix
    return matrix


def shown_order(ndim: int, dims: napari.components.Dims) -> list[int]:
    """Return the layer's axes in the order of the viewer, displayed ones last."""
    missing = int(dims.ndim) - ndim
    return [int(axis) - missing for axis in dims.order if axis >= missing]


def shown_index(
    layer: napari.layers.Layer,
    dims: napari.components.Dims,
    shape: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the voxel of the layer that the viewer's sliders pick.

    On the two displayed axes nothing is picked. As napari does it, so that it is the
    slice on the screen also in an oblique layer: only the sliders count, in the
    viewer's units, and what the displayed axes would add is left out.
    """
    sliders = shown_order(layer.ndim, dims)[:-2]
    if not sliders:
        return tuple(0 for _ in shape)
    position = np.zeros(layer.ndim + 1)
    position[-1] = 1
    point = np.asarray(dims.point, float)[-layer.ndim :]
    units = getattr(dims, "units", None)  # an older napari has none
    ratios = unit_ratios(units, layer.units)
    position[sliders] = (point * ratios)[sliders]
    index = (np.linalg.inv(to_world(layer)) @ position)[:-1]
    rounded = np.zeros(layer.ndim, int)
    rounded[sliders] = np.rint(index[sliders])
    return tuple(int(place) for place in np.clip(rounded, 0, np.array(shape) - 1))


def unit_ratios(given: Sequence[Any] | None, wanted: Sequence[Any]) -> Matrix:
    """Return what lengths in units are multiplied with to be in others, per axis.

    Where they do not convert into each other it is 1.
    """
    ratios = np.ones(len(wanted))
    if given is None or len(given) < len(wanted):
        return ratios
    for axis, (unit, other) in enumerate(
        zip(list(given)[-len(wanted) :], wanted, strict=True)
    ):
        if unit != other and unit.is_compatible_with(other):
            ratios[axis] = float((1 * unit).to(other).magnitude)
    return ratios


def mm_per_unit(
    units: Sequence[Any], axes: Sequence[int]
) -> npt.NDArray[np.float64] | None:
    """Return each axis' unit in mm, 1 for what is no length.

    None if one of `axes` is no length.
    """
    factors = [
        float((1 * unit).to("mm").magnitude) if unit.is_compatible_with("mm") else None
        for unit in units
    ]
    if any(factors[axis] is None for axis in axes):
        return None
    return np.array([1.0 if factor is None else factor for factor in factors])


def patient_affine(
    metadata: Mapping[str, Any],
    shape: Sequence[int] | None = None,
    *,
    in_mm: bool = True,
) -> Matrix | None:
    """Return the (4, 4) matrix from a layer's last three axes to RAS+ mm.

    It is in the layer's metadata. Of a layer with two axes the third column is the
    picture's normal. None where the place in the patient is unknown: only what this
    plugin's reader, samples and results say of it is believed, since napari's world has
    no patient.

    Parameters
    ----------
    metadata : mapping
        The layer's.
    shape : sequence of int, optional
        The layer's, without colour. Where it is not the one that the metadata were
        written for, they are of another layer: napari copies them to layers that it
        splits, projects or crops from one.
    in_mm : bool
        Whether what a file lays out in units that it does not tell is no place.
    """
    entry = metadata.get(KEY)
    if not isinstance(entry, Mapping) or not _tells_place(entry, shape, in_mm=in_mm):
        return None
    try:
        affine = np.array(entry["affine"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return None
    flattens = abs(float(np.linalg.det(affine[:3, :3]))) < np.finfo(float).tiny
    return None if flattens else affine


def _tells_place(
    entry: Mapping[str, Any], shape: Sequence[int] | None, *, in_mm: bool
) -> bool:
    """Whether what is kept in metadata tells the place of a layer of a shape."""
    told = entry.get("shape")
    is_its_own = shape is None or told is None or list(told) == list(shape[-3:])
    return is_its_own and (entry.get("units") == "mm" or not in_mm)


def patient_columns(ndim: int) -> dict[int, int]:
    """Return which column of `patient_affine` belongs to which axis of a layer."""
    spatial = min(ndim, 3)
    return {ndim - spatial + column: column for column in range(spatial)}


def spatial_shape(layer: napari.layers.Layer) -> tuple[int, ...]:
    """Return the sizes of a layer of voxels, of several resolutions the finest."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return tuple(int(size) for size in data.shape[: layer.ndim])


def screen_to_patient(
    layer: napari.layers.Layer, dims: napari.components.Dims
) -> Matrix | None:
    """Return where right and down in napari's 2D view go in the patient, (3, 2).

    That is before the camera mirrors anything. None where that is unknown.
    """
    affine = patient_affine(layer.metadata, spatial_shape(layer))
    if not _tells_sides(layer.metadata):
        return None
    shown = shown_order(layer.ndim, dims)[-2:]
    columns = patient_columns(layer.ndim)
    if affine is None or len(shown) < 2 or any(axis not in columns for axis in shown):
        return None
    rightdown = shown[::-1]
    drawn = to_world(layer)[np.ix_(rightdown, rightdown)]
    try:
        steps = np.linalg.inv(drawn)
    except np.linalg.LinAlgError:  # napari draws such a layer as a line
        return None
    picked = affine[:3, [columns[axis] for axis in rightdown]]
    directions: Matrix = picked @ steps
    return directions


def _tells_sides(metadata: Mapping[str, Any]) -> bool:
    """Whether a file has told the patient's sides, or they are but a convention."""
    facts = (metadata.get(KEY) or {}).get("facts") or {}
    return facts.get("orientation") != "unknown"


def channel_axis(layer: napari.layers.Image) -> int | None:
    """Return the axis of a grey layer that its label calls the channels'."""
    labels = [str(label).lower() for label in layer.axis_labels]
    found = [axis for axis, label in enumerate(labels) if label in CHANNEL_LABELS]
    return found[0] if found and not layer.rgb else None


def colour_axis(layer: napari.layers.Image) -> int | None:
    """Return the axis of a grey layer that may hold red, green and blue.

    It is the channels' axis if that has 3 or 4 places, or the first of three axes of a
    layer of bytes that has.
    """
    labelled = channel_axis(layer)
    data = layer.data[0] if layer.multiscale else layer.data
    axis = labelled
    if labelled is None and not layer.rgb and layer.ndim == 3 and data.dtype == "u1":
        axis = 0
    is_colour = axis is not None and layer.ndim > 2 and data.shape[axis] in (3, 4)
    return axis if is_colour else None


def camera_of(viewer: napari.viewer.Viewer) -> napari.components.Camera:
    """Return a viewer's camera, which napari 0.9 moved."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def mirrored(camera: napari.components.Camera) -> tuple[bool, bool]:
    """Return whether a camera shows rows from below, and columns from the right."""
    vertical, horizontal = camera.orientation2d
    return str(vertical) == "up", str(horizontal) == "left"


def extents(layer: napari.layers.Image | None) -> dict[str, Any]:
    """Return what `OptionsView.set_extents` wants to know about a layer.

    A layer is a photograph if it calls an axis its channels and that has three places.
    """
    if layer is None:
        return {"has_slices": False, "colour": None, "is_photograph": False}
    channels, colour = channel_axis(layer), colour_axis(layer)
    data = layer.data[0] if layer.multiscale else layer.data
    return {
        "has_slices": layer.ndim - int(channels is not None) > 2,
        "colour": colour,
        "is_photograph": channels is not None and data.shape[channels] == 3,
    }


def region_box(
    region: napari.layers.Shapes,
    layer: napari.layers.Image,
    shape: tuple[int, ...],
    shown: Sequence[int],
) -> Mapping[int, slice]:
    """Return, per displayed axis, the voxels that the shapes' bounding box covers.

    The shapes are taken where napari draws them over the image.

    Raises
    ------
    ImageError
        If there is no shape, or none lies on the image.
    """
    points = _drawn_at(region, layer, shown)
    box = {}
    for number, axis in enumerate(shown):
        start = max(int(np.floor(points[:, number].min() + 0.5)), 0)
        stop = min(int(np.ceil(points[:, number].max() + 0.5)), shape[axis])
        if stop <= start:
            msg = f"expected the region {region.name!r} to lie on the image, got one "
            raise ImageError(msg + "beside it; draw it over the image")
        box[axis] = slice(start, stop)
    return box


def _drawn_at(
    region: napari.layers.Shapes, layer: napari.layers.Image, shown: Sequence[int]
) -> Matrix:
    """Return the shapes' corners as indices along the displayed axes, (corners, 2)."""
    chosen = sorted(region.selected_data) or range(len(region.data))
    corners = [corner for number in chosen for corner in region.data[number]]
    if not corners:
        msg = f"expected a rectangle in {region.name!r}, got none; draw one, or choose "
        raise ImageError(msg + "the whole image")
    missing = layer.ndim - region.ndim
    axes = [axis - missing for axis in shown]
    if min(axes) < 0:
        msg = f"expected a region with the image's axes, got {region.ndim} axes in "
        raise ImageError(msg + f"{region.name!r}; draw a new one")
    ratios = unit_ratios(region.units, layer.units)[list(shown)]
    points = _on_screen(region, axes, np.array(corners, float)[:, axes]) * ratios
    drawn = to_world(layer)
    try:
        steps = np.linalg.inv(drawn[np.ix_(shown, shown)])
    except np.linalg.LinAlgError as error:
        msg = "expected a layer that napari can draw in 2D, got one seen from its edge"
        raise ImageError(msg + "; choose the whole image") from error
    indices: Matrix = (points - drawn[list(shown), -1]) @ steps.T
    return indices


def _on_screen(
    layer: napari.layers.Layer, axes: Sequence[int], points: Matrix
) -> Matrix:
    """Return where napari draws points (N, 2): it leaves out what lies out of plane."""
    matrix = to_world(layer)
    placed: Matrix = points @ matrix[np.ix_(axes, axes)].T + matrix[list(axes), -1]
    return placed
