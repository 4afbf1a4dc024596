"""Image layers to core images: what is cut out, and where it lies in the layer.

Symbols: D, the layer's axes without colour; K, the two or three of them that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.types import RGB_CHANNELS, Image, Segmentation
from napari_medvlseg.plugin.cut_place import affine_in_patient, affine_on_screen
from napari_medvlseg.plugin.layer_space import (
    KEY,
    channel_axis,
    mm_per_unit,
    region_box,
    shown_index,
    shown_order,
    spatial_shape,
    to_world,
)

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

MOST_PIXELS = 2**28
"""Of one picture, whose maps take 16 bytes each; a slide of a microscope has more."""


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
        Index along the kept axes to RAS+ mm where the layer's place in the patient is
        known. Otherwise the picture is taken to stand on the screen as one looks at a
        patient: right is the patient's left, down is inferior.
    units : str
        ``"mm"`` or ``"pixel"``.
    colour : int, optional
        Axis of the layer that is taken for red, green and blue.
    long : axes of the layer
        Beside the kept ones, those on which a result is as long as the layer.
    facts : mapping
        What the layer's metadata tells; ``orientation`` where its place is known and
        the whole picture is cut, ``on_screen`` where it is not known.
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
    colour: int | None = None
    long: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    filed: npt.NDArray[np.float64] | None = None
    """Likewise, as the layer's file lays its axes out where it tells no unit."""

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
            0 if axis in (*self.kept, *self.long) else index
            for axis, index in enumerate(self.index)
        )

    @property
    def stretch(self) -> tuple[int, ...]:
        """How many voxels of the layer each voxel of a result covers, per axis."""
        return tuple(
            size if axis == self.colour else 1 for axis, size in enumerate(self.shape)
        )

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Sizes of what `expand` returns."""
        return tuple(
            size if axis in (*self.kept, *self.long) else 1
            for axis, size in enumerate(self.shape)
        )

    def overlaps(self, other: LayerCut) -> bool:
        """Whether another cut of the same layer shares voxels with this one."""
        if self.shape != other.shape:
            return False
        mine, its = self._extent(), other._extent()
        return all(
            max(one.start, two.start) < min(one.stop, two.stop)
            for one, two in zip(mine, its, strict=True)
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
        if self.colour is not None:
            selection[self.colour] = slice(None)
        try:
            voxels = np.asarray(self.data[tuple(selection)])
        except OSError as error:
            msg = (
                f"expected to read the image {self.name!r}, got: {error}; open it again"
            )
            raise ImageError(msg) from error
        if self.colour is not None:
            before = sum(axis < self.colour for axis in self.kept)
            voxels = np.moveaxis(voxels, before, -1)
        affine = self.affine.copy()
        start = [part.start for part in self.box] + [0] * (3 - len(self.box))
        affine[:3, 3] += affine[:3, :3] @ start
        return Image(
            voxels,
            affine,
            rgb=self.rgb or self.colour is not None,
            units=self.units,
            slice_axis=self.walked,
            name=self.name,
            facts=self.facts,
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
        """Return an array on the kept axes with one voxel on every other axis.

        Only a slice of an oblique volume becomes as long as the layer, zero beside the
        slice: napari draws such a layer as if its slices lay straight behind each
        other, so one that began elsewhere would not lie on its image.
        """
        sizes = dict(zip(self.kept, array.shape, strict=True))
        flat = array.reshape(
            tuple(sizes.get(axis, 1) for axis in range(len(self.shape)))
        )
        if not self.long:
            return flat
        sizes.update((axis, self.shape[axis]) for axis in self.long)
        shape = tuple(sizes.get(axis, 1) for axis in range(len(self.shape)))
        whole = np.zeros(shape, array.dtype)  # what stays zero takes no memory
        whole[self._place_in_long()] = flat
        return whole

    def holds(self, index: Sequence[int]) -> bool:
        """Whether a voxel of what `expand` returns is one of the cut."""
        return all(
            place.start <= number < place.stop
            for axis, (place, number) in enumerate(
                zip(self._place_in_long(), index, strict=True)
            )
            if axis in self.long
        )

    def _extent(self) -> list[slice]:
        """Return the layer's voxels that are cut, along each axis."""
        extent = [slice(index, index + 1) for index in self.index]
        for axis, part in zip(self.kept, self.box, strict=True):
            extent[axis] = part
        if self.colour is not None:
            extent[self.colour] = slice(0, self.shape[self.colour])
        return extent

    def _place_in_long(self) -> tuple[slice, ...]:
        """Return where in what `expand` returns the cut lies."""
        return tuple(
            slice(index, index + 1) if axis in self.long else slice(None)
            for axis, index in enumerate(self.index)
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
    colour: int | None = None,
    mirrored: tuple[bool, bool] = (False, False),
) -> LayerCut:
    """Say which part of a layer is meant, from what the viewer shows now.

    Parameters
    ----------
    layer : Image layer
        Grey or RGB, with any number of axes.
    dims : Dims
        The viewer's: which axes are displayed, and where the sliders stand.
    whole : bool
        Three axes, the displayed ones and the slider next to them that is not the
        channels', instead of two.
    region : Shapes layer, optional
        Its selected shapes (all if none is) bound the run on the displayed axes.
    colour : int, optional
        Axis of a grey layer that is taken for red, green and blue.
    mirrored : two bools
        Whether the camera shows rows from below, and columns from the right.

    Raises
    ------
    ImageError
        If the layer has fewer than two axes, the region misses the image, colour is
        on the screen, or the picture is larger than `MOST_PIXELS`.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = spatial_shape(layer)
    if len(shape) < 2:
        msg = f"expected an image with at least 2 axes, got shape {shape}"
        raise ImageError(msg)
    order = shown_order(layer.ndim, dims)
    shown = order[-2:]
    _check_colour(colour, shape, shown)
    kept = _kept_axes(order, {colour, channel_axis(layer)}, whole=whole)
    walked = next((axis for axis in order if axis in kept), 0)
    box = {axis: slice(0, size) for axis, size in enumerate(shape)}
    if region is not None:
        box.update(region_box(region, layer, shape, shown))
    _check_size([box[axis] for axis in shown])
    index = shown_index(layer, dims, shape)
    cut = LayerCut(
        data=data,
        rgb=bool(layer.rgb),
        name=str(layer.name),
        shape=shape,
        kept=kept,
        index=index,
        walked=kept.index(walked) if len(kept) == 3 else 0,
        box=tuple(box[axis] for axis in kept),
        affine=np.eye(4),
        units="mm" if mm_per_unit(layer.units, kept) is not None else "pixel",
        colour=colour,
        long=_oblique_axes(layer, kept),
    )
    return _placed(cut, layer, order, mirrored)


def _check_colour(
    colour: int | None, shape: tuple[int, ...], shown: Sequence[int]
) -> None:
    """Refuse an axis that cannot be colour."""
    if colour is None:
        return
    if shape[colour] not in RGB_CHANNELS:
        msg = f"expected 3 or 4 channels of colour, got {shape[colour]}; segment one"
        raise ImageError(msg)
    if colour in shown:
        msg = "expected the channels on a slider, got them on the screen; roll the axes"
        raise ImageError(msg)


def _check_size(box: Sequence[slice]) -> None:
    """Refuse a picture whose maps would fill the memory."""
    height, width = (part.stop - part.start for part in box)
    if height * width > MOST_PIXELS:
        msg = (
            f"expected a picture of at most {MOST_PIXELS:,} pixels, got {height:,} x "
            f"{width:,}; draw a region"
        )
        raise ImageError(msg)


def _kept_axes(
    order: Sequence[int], channels: set[int | None], *, whole: bool
) -> tuple[int, ...]:
    """Return the displayed axes and, of a volume, the slider next to them."""
    sliders = [axis for axis in order[:-2] if axis not in channels]
    return tuple(sorted([*(sliders[-1:] if whole else []), *order[-2:]]))


def _oblique_axes(layer: napari.layers.Layer, kept: Sequence[int]) -> tuple[int, ...]:
    """Return the axes not kept whose steps move a voxel along a kept one."""
    linear = to_world(layer)[:-1, :-1]
    size = np.abs(linear).max()
    return tuple(
        axis
        for axis in range(layer.ndim)
        if axis not in kept and np.abs(linear[list(kept), axis]).max() > 1e-9 * size
    )


def _placed(
    cut: LayerCut,
    layer: napari.layers.Layer,
    order: Sequence[int],
    mirrored: tuple[bool, bool],
) -> LayerCut:
    """Give a cut its affine, and the facts that its place allows."""
    entry = layer.metadata.get(KEY)
    facts = dict(entry.get("facts") or {}) if isinstance(entry, dict) else {}
    stated = facts.pop("orientation", None)
    affine = affine_in_patient(cut, layer)
    if affine is None:
        affine = affine_on_screen(cut, layer, order, mirrored)
        facts["on_screen"] = True
        cut = replace(cut, filed=affine_in_patient(cut, layer, in_mm=False))
    else:
        cut = replace(cut, units="mm")
        if not cut.is_boxed:  # a box has a middle of its own, not the patient's
            facts["orientation"] = stated or "known"
    return replace(cut, affine=affine, facts=facts)
