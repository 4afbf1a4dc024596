"""Image layers to core images: what is cut out, and where it lies in the layer.

Symbols: D, the layer's axes without colour; K, the two or three of them that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.types import Image, Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import napari.components
    import napari.layers
    import numpy.typing as npt

MAPS = (
    "probability",
    "predictive_entropy",
    "mutual_information",
    "expected_entropy",
)
"""The maps of a `Segmentation`, as its fields are called."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerCut:
    """The part of an Image layer that is segmented, and the way back into the layer.

    Parameters
    ----------
    data : array-like (*D) or (*D, 3 | 4)
        The layer's own; of several resolutions the finest. May be lazy.
    rgb : bool
        Whether its last axis is colour.
    name : str
        The layer's.
    shape : D sizes
        Of the layer.
    kept : K axes of the layer, ascending
        The picture's or the volume's.
    index : D indices
        Where the other axes are cut.
    walked : int
        Which of the kept axes a 2D model walks along.
    box : K slices
        The region of interest; all of it where there is none.
    affine : (4, 4)
        Index along the kept axes to world.
    units : str
        ``"mm"`` or ``"pixel"``.
    """

    data: Any
    rgb: bool
    name: str
    shape: tuple[int, ...]
    kept: tuple[int, ...]
    index: tuple[int, ...]
    walked: int
    box: tuple[slice, ...]
    affine: npt.NDArray[np.float64]
    units: str

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Sizes of the kept axes, without a region of interest."""
        return tuple(self.shape[axis] for axis in self.kept)

    @property
    def is_boxed(self) -> bool:
        """Whether a region of interest leaves something out."""
        whole = tuple(slice(0, size) for size in self.kept_shape)
        return self.box != whole

    @property
    def offset(self) -> tuple[int, ...]:
        """Index in the layer of a result's first voxel."""
        return tuple(
            0 if axis in self.kept else index for axis, index in enumerate(self.index)
        )

    def read(self) -> Image:
        """Return the voxels, computed now if they are lazy.

        Raises
        ------
        ImageError
            If they cannot be read, for instance because the file is gone.
        """
        selection: list[slice | int] = list(self.index)
        for axis, part in zip(self.kept, self.box, strict=True):
            selection[axis] = part
        try:
            voxels = np.asarray(self.data[tuple(selection)])
        except OSError as error:
            msg = (
                f"expected to read the image {self.name!r}, got: {error}; open it again"
            )
            raise ImageError(msg) from error
        affine = self.affine.copy()
        start = [part.start for part in self.box] + [0] * (3 - len(self.box))
        affine[:3, 3] += affine[:3, :3] @ start
        return Image(
            voxels,
            affine,
            rgb=self.rgb,
            units=self.units,
            slice_axis=self.walked,
            name=self.name,
        )

    def paste(self, segmentation: Segmentation) -> Segmentation:
        """Return a result on the grid of the kept axes, zero outside the region."""
        if not self.is_boxed:
            return segmentation
        grown: dict[str, Any] = {
            name: _grow(array, (len(array), *self.kept_shape), (slice(None), *self.box))
            for name, array in ((name, getattr(segmentation, name)) for name in MAPS)
        }
        share = np.prod([part.stop - part.start for part in self.box])
        share /= np.prod(self.kept_shape)
        return replace(
            segmentation,
            labels=_grow(segmentation.labels, self.kept_shape, self.box),
            affine=self.affine,
            min_foreground=float(segmentation.min_foreground * share),
            provenance={**segmentation.provenance, "region_of_interest": self.bounds()},
            **grown,
        )

    def bounds(self) -> list[list[int]] | None:
        """First and one-past-last index of the region along each kept axis."""
        if not self.is_boxed:
            return None
        return [[part.start, part.stop] for part in self.box]

    def expand(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array on the kept axes with one voxel on every other axis."""
        sizes = dict(zip(self.kept, array.shape, strict=True))
        return array.reshape(
            tuple(sizes.get(axis, 1) for axis in range(len(self.shape)))
        )


def _grow(
    array: npt.NDArray[Any], shape: tuple[int, ...], box: tuple[slice, ...]
) -> npt.NDArray[Any]:
    """Put an array into zeros of a larger shape."""
    grown = np.zeros(shape, array.dtype)
    grown[box] = array
    return grown


def cut_layer(
    layer: napari.layers.Image,
    dims: napari.components.Dims,
    *,
    whole: bool,
    region: napari.layers.Shapes | None = None,
) -> LayerCut:
    """Say which part of a layer is meant, from what the viewer shows now.

    Parameters
    ----------
    layer : Image layer
        Grey or RGB, with any number of axes.
    dims : Dims
        The viewer's: which axes are displayed, and where the sliders stand.
    whole : bool
        Three axes, the displayed ones and the slider next to them, instead of two.
    region : Shapes layer, optional
        Its selected shapes (all if none is) bound the run on the displayed axes.

    Raises
    ------
    ImageError
        If the layer has fewer than two axes, or the region misses the image.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(size) for size in data.shape[: layer.ndim])
    if len(shape) < 2:
        msg = f"expected an image with at least 2 axes, got shape {shape}"
        raise ImageError(msg)
    order = _displayed_order(layer.ndim, dims)
    shown = order[-2:]
    kept = tuple(sorted(order[-3:] if whole else shown))
    walked = next((axis for axis in order if axis in kept), 0)
    box = {axis: slice(0, size) for axis, size in enumerate(shape)}
    if region is not None:
        box.update(_region_box(region, layer, shape, shown))
    return LayerCut(
        data=data,
        rgb=bool(layer.rgb),
        name=str(layer.name),
        shape=shape,
        kept=kept,
        index=_current_index(layer, dims, shape),
        walked=kept.index(walked) if len(kept) == 3 else 0,
        box=tuple(box[axis] for axis in kept),
        affine=_kept_affine(layer, kept, _current_index(layer, dims, shape)),
        units="mm" if _mm_per_unit(layer.units) is not None else "pixel",
    )


def _displayed_order(ndim: int, dims: napari.components.Dims) -> list[int]:
    """Return the layer's axes in the order of the viewer, displayed ones last."""
    missing = int(dims.ndim) - ndim
    return [int(axis) - missing for axis in dims.order if axis >= missing]


def _current_index(
    layer: napari.layers.Image, dims: napari.components.Dims, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the voxel of the layer where the viewer's sliders stand."""
    position = layer.world_to_data(tuple(dims.point)[-layer.ndim :])
    rounded = np.rint(np.asarray(position, float)).astype(int)
    return tuple(int(index) for index in np.clip(rounded, 0, np.array(shape) - 1))


def _region_box(
    region: napari.layers.Shapes,
    layer: napari.layers.Image,
    shape: tuple[int, ...],
    shown: Sequence[int],
) -> Mapping[int, slice]:
    """Return, per displayed axis, the voxels that the shapes' bounding box covers."""
    chosen = sorted(region.selected_data) or range(len(region.data))
    corners = [corner for number in chosen for corner in region.data[number]]
    if not corners:
        msg = f"expected a rectangle in {region.name!r}, got none; draw one, or choose "
        raise ImageError(msg + "the whole image")
    missing = (0.0,) * max(layer.ndim - region.ndim, 0)
    points = np.array(
        [
            layer.world_to_data((*missing, *region.data_to_world(tuple(corner))))
            for corner in corners
        ]
    )[:, -layer.ndim :]
    box = {}
    for axis in shown:
        start = max(int(np.floor(points[:, axis].min() + 0.5)), 0)
        stop = min(int(np.ceil(points[:, axis].max() + 0.5)), shape[axis])
        if stop <= start:
            msg = f"expected the region {region.name!r} to lie on the image, got one "
            raise ImageError(msg + "beside it; draw it over the image")
        box[axis] = slice(start, stop)
    return box


def _kept_affine(
    layer: napari.layers.Image, kept: tuple[int, ...], index: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return the (4, 4) matrix from kept axes to the last three axes of the world."""
    origin = np.array(
        [0 if axis in kept else index[axis] for axis in range(layer.ndim)], float
    )
    start = np.array(layer.data_to_world(tuple(origin)), float)
    columns = [
        np.array(layer.data_to_world(tuple(origin + unit)), float) - start
        for unit in np.eye(layer.ndim)[list(kept)]
    ]
    rows = min(layer.ndim, 3)
    per_mm = _mm_per_unit(layer.units) or np.ones(layer.ndim)
    scale = np.asarray(per_mm)[-rows:]
    affine = np.eye(4)
    affine[:rows, : len(kept)] = (np.array(columns).T[-rows:].T * scale).T
    affine[:rows, 3] = start[-rows:] * scale
    if len(kept) == 2 and rows == 3:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        length = float(np.linalg.norm(normal))
        affine[:3, 2] = normal / length if length > 0 else normal
    return affine


def _mm_per_unit(units: Sequence[Any]) -> list[float] | None:
    """Return each axis' unit in mm; None if an axis of the last two has no length."""
    factors = [
        float((1 * unit).to("mm").magnitude) if unit.is_compatible_with("mm") else None
        for unit in units
    ]
    if None in factors[-2:]:
        return None
    return [1.0 if factor is None else factor for factor in factors]
