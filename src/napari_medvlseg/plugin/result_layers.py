"""Results to layers: the only place that adds layers to the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_medvlseg.plugin import layer_space
from napari_medvlseg.plugin.layers import MAPS
from napari_medvlseg.plugin.result_style import (
    STYLES,
    label_colormap,
    map_colormap,
    style_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import napari.components
    import napari.layers
    import numpy.typing as npt

    from napari_medvlseg.core.io.workspace import SavedImage
    from napari_medvlseg.core.types import Segmentation
    from napari_medvlseg.plugin.findings import Findings
    from napari_medvlseg.plugin.frame import LayerFrame
    from napari_medvlseg.plugin.worker import Job

KEY = layer_space.KEY
"""Of what this plugin keeps in a layer's metadata."""

MASK = "mask"
KINDS = (MASK, *MAPS)
MASK_OPACITY = 0.6
MAX_NAME_CHARACTERS = 48


def is_result(layer: napari.layers.Layer) -> bool:
    """Whether a layer was made by this plugin."""
    return "kind" in layer.metadata.get(KEY, {})  # a reader's has no kind


class Result:
    """The layers of one run, which it refines, re-labels and hides.

    Parameters
    ----------
    layers : LayerList
        The viewer's.
    job : Job
        What was run.
    frame : LayerFrame
        Where the image lay when the run began.

    Attributes
    ----------
    image : Image layer or None
        What was segmented; None where it is not there.
    missing : SavedImage or None
        What an earlier session knew of an image that is not there.
    findings : Findings or None
        What is on the screen of it.
    """

    def __init__(
        self, layers: napari.components.LayerList, job: Job, frame: LayerFrame
    ) -> None:
        self.job = job
        self.segmentation: Segmentation | None = None
        self.findings: Findings | None = None
        self.image: Any = None
        self.missing: SavedImage | None = None
        self.is_edited = False
        self.is_wanted = True
        self.is_complete = False
        self._layers = layers
        self.frame = frame
        self._made: dict[tuple[str, int], Any] = {}
        self._number = 0
        self._given_names: dict[tuple[str, int], str] = {}

    @property
    def mask(self) -> Any:
        """The Labels layer, or None while it is not there."""
        return self._made.get((MASK, 0))

    @property
    def layers(self) -> list[Any]:
        """Those of its layers that the viewer still has."""
        return [layer for layer in self._made.values() if layer in self._layers]

    @property
    def edited_labels(self) -> Any:
        """The labels on the kept axes as they were painted; None if they were not."""
        if not self.is_edited or self.mask is None:
            return None
        return np.asarray(self.mask.data).reshape(self.job.cut.kept_shape)

    def owns(self, layer: object) -> bool:
        """Whether a layer is one of this result's."""
        return any(layer == made for made in self._made.values())

    def asks_the_same(self, other: Result) -> bool:
        """Whether another result is of the same prompts on the same image."""
        mine, its = self.job, other.job
        return its.prompts == mine.prompts and its.cut.name == mine.cut.name

    def goes_on_from(self, other: Result) -> bool:
        """Whether another result is an unfinished one of the very same run."""
        mine, its = self.job, other.job
        return (
            not other.is_complete
            and self.asks_the_same(other)
            and (its.model, its.config) == (mine.model, mine.config)
            and its.cut.data is mine.cut.data
            and (its.cut.kept, its.cut.index) == (mine.cut.kept, mine.cut.index)
            and its.cut.box == mine.cut.box
        )

    def prepare(self, shown: Collection[str]) -> Iterator[None]:
        """Add the layers that will be shown, empty, one a step.

        Adding a layer holds napari's window for a fifth of a second. So that happens
        where the user has just pressed Run, and not in the midst of the run.
        """
        active = self._layers.selection.active
        for which in self._order():
            if which[0] in shown and self.is_wanted:
                dtype = np.uint8 if which[0] == MASK else np.float32
                empty = self.job.cut.expand(np.zeros(self.job.cut.kept_shape, dtype))
                self._add(which, empty, is_shown=True, complete=False)
                yield
        if active is not None and active in self._layers:
            self._layers.selection.active = active

    def show(
        self, segmentation: Segmentation, shown: Collection[str], *, complete: bool
    ) -> Iterator[None]:
        """Fill or refine the layers, one a step; those that are not shown come last."""
        self.segmentation = segmentation
        active = self._layers.selection.active
        for kind in KINDS:
            if complete or kind in shown:
                count = 1 if kind == MASK else len(getattr(segmentation, kind))
                for number in range(count):
                    self._show_one((kind, number), kind in shown, complete=complete)
                    yield
        if active is not None and active in self._layers:
            self._layers.selection.active = active

    def relabel(self, segmentation: Segmentation) -> None:
        """Take over the labels of another threshold."""
        self.segmentation = segmentation
        if self.mask in self._layers:
            self.mask.data = self.job.cut.expand(segmentation.labels)
            origin = self._origin((MASK, 0), complete=self.is_complete)
            self.mask.metadata = origin

    def paint(self, labels: npt.NDArray[Any]) -> None:
        """Take over labels, on the kept axes, that were corrected earlier."""
        self.mask.data = self.job.cut.expand(labels)
        self._on_painted()

    def mark(self, *, complete: bool) -> None:
        """Say in the layers whether the run was finished."""
        self.is_complete = complete
        for layer in self.layers:
            layer.metadata[KEY]["complete"] = complete

    def set_shown(self, shown: Collection[str]) -> None:
        """Show these kinds of layers and hide the others."""
        for (kind, _), layer in self._made.items():
            layer.visible = kind in shown

    def remove(self) -> Iterator[None]:
        """Take the layers out of the viewer, one a step."""
        for layer in self.layers:
            if layer in self._layers:  # the user may be quicker
                self._layers.remove(layer)
                yield

    def drop_maps(self) -> Iterator[None]:
        """Let go of all but the mask, one layer a step.

        Those of a volume are more than a gigabyte. Python frees a layer that was
        removed when it happens to look for cycles, but its voxels at once.
        """
        self.segmentation = self.findings = None
        for which in [which for which in self._made if which[0] != MASK]:
            self._drop(which)
            yield

    def drop(self) -> Iterator[None]:
        """Let go of the maps, then of the mask."""
        yield from self.drop_maps()
        for which in list(self._made):
            self._drop(which)
            yield

    def _drop(self, which: tuple[str, int]) -> None:
        """Remove a layer, and leave it no voxels."""
        layer = self._made.pop(which)
        if layer in self._layers:  # the user may be quicker
            self._layers.remove(layer)
        layer.data = np.zeros((1,) * layer.ndim, layer.data.dtype)

    def restore_names(self) -> None:
        """Take a lower number, if one is free since older results are gone."""
        self._choose_number()
        for which, layer in self._made.items():
            if layer in self._layers and layer.name == self._given_names.get(which):
                layer.name = self._given_names[which] = self._name(*which)

    def voxel_at(self, world: tuple[float, ...]) -> tuple[int, ...] | None:
        """Return the index into the maps at a place in the world; None beside them."""
        if self.mask not in self._layers or self.segmentation is None:
            return None
        data = self.mask.world_to_data(world[-self.mask.ndim :])
        index = np.rint(np.asarray(data, float)).astype(int)
        if (index < 0).any() or (index >= self.mask.data.shape).any():
            return None
        if not self.job.cut.holds(index.tolist()):
            return None
        return tuple(int(index[axis]) for axis in self.job.cut.kept)

    def _show_one(
        self,
        which: tuple[str, int],
        is_shown: bool,  # noqa: FBT001 - private
        *,
        complete: bool,
    ) -> None:
        """Add a layer below the mask, or give the one that is there its new data."""
        data = self._data(*which)
        layer = self._made.get(which)
        if layer is None:
            self._add(which, data, is_shown=is_shown, complete=complete)
        elif layer in self._layers and not (layer == self.mask and self.is_edited):
            layer.data = data
            layer.metadata = self._origin(which, complete=complete)
            layer.editable = True

    def _add(
        self,
        which: tuple[str, int],
        data: npt.NDArray[Any],
        *,
        is_shown: bool,
        complete: bool,
    ) -> None:
        """Add a layer at its place among those of this result."""
        if not self._made:
            self._choose_number()
        self._made[which] = layer = self._make(*which, data)
        layer.visible = is_shown
        layer.metadata = self._origin(which, complete=complete)
        self._insert(which)
        self._given_names[which] = layer.name
        # Strokes on an empty mask would be lost when the first result comes.
        layer.editable = self.segmentation is not None

    def _data(self, kind: str, number: int) -> npt.NDArray[Any]:
        """Return a layer's data on the image layer's axes."""
        segmentation = self._known()
        if kind == MASK:
            return self.job.cut.expand(segmentation.labels)
        return self.job.cut.expand(getattr(segmentation, kind)[number])

    def _make(self, kind: str, number: int, data: npt.NDArray[Any]) -> Any:
        """Make a layer that lies where the image's layer does."""
        prompts = self.job.prompts
        place = self.frame.at(self.job.cut.offset, self.job.cut.stretch)
        if kind == MASK:
            layer = Labels(
                data,
                name=self._name(kind, number),
                opacity=MASK_OPACITY,
                features=_features(prompts),
                colormap=label_colormap(len(prompts), self.job.colors),
                **place,
            )
            layer.events.paint.connect(self._on_painted)
            return layer
        style = style_of(kind, self.job.max_entropy)
        colormap: Any = map_colormap(style)  # napari's hints know names only
        return Image(
            data,
            name=self._name(kind, number),
            colormap=colormap,
            contrast_limits=(0, style.limit),
            blending=style.blending,
            opacity=style.opacity,
            **place,
        )

    def _insert(self, which: tuple[str, int]) -> None:
        """Put a layer on top, but below those of its result that come after it."""
        order = [which for which in self._order() if which in self._made]
        above = order[order.index(which) + 1 :]
        places = [
            self._layers.index(self._made[other])
            for other in above
            if self._made[other] in self._layers
        ]
        top = min(places, default=len(self._layers))
        self._layers.insert(top, self._made[which])

    def _order(self) -> list[tuple[str, int]]:
        """Return the layers from the lowest to the mask."""
        return [*self.job.maps, (MASK, 0)]

    def _origin(self, which: tuple[str, int], *, complete: bool) -> dict[str, Any]:
        """Return a layer's metadata: the image layer's own, and where this is from."""
        kind, number = which
        job, cut = self.job, self.job.cut
        prompts = job.prompts if kind == MASK else job.prompts_of(kind, number)
        self.is_complete = complete
        found = {}
        if self.segmentation is not None:
            found = {
                "threshold": self.segmentation.threshold,
                "provenance": dict(self.segmentation.provenance),
            }
        origin = {
            "kind": kind,
            "image": cut.name,
            "prompts": list(prompts) if kind == MASK else [", ".join(prompts)],
            "grid_affine": cut.affine,
            "grid_units": cut.units,
            "kept_axes": list(cut.kept),
            "offset": list(cut.offset),
            "index": list(cut.index),
            "image_shape": list(cut.shape),
            "colour_axis": cut.colour,
            "edited": kind == MASK and self.is_edited,
            "region_of_interest": cut.bounds(),
            "complete": complete,
            **found,
        }
        metadata = self.frame.metadata
        known = layer_space.patient_affine(metadata, cut.shape)
        if known is not None:  # of the image's first voxel: ours may be another
            start = [*cut.offset[-3:], *[0] * (3 - len(cut.offset[-3:])), 1]
            known[:, 3] = known @ start
            origin["affine"] = known.tolist()
            origin["shape"] = list(cut.result_shape[-3:])
        return {
            **metadata,
            KEY: {"units": cut.units, **metadata.get(KEY, {}), **origin},
        }

    def _known(self) -> Segmentation:
        """Return the segmentation, which is there before a layer is filled."""
        if self.segmentation is None:
            msg = "a result is shown before it is there"
            raise RuntimeError(msg)
        return self.segmentation

    def _name(self, kind: str, number: int) -> str:
        """Return a name that can be told apart where the layer list cuts it off.

        All layers of a result have the same number: napari would count each kind apart.
        """
        title = MASK if kind == MASK else STYLES[kind].title
        prompts = self.job.prompts
        prompts = prompts if kind == MASK else self.job.prompts_of(kind, number)
        prompt = ", ".join(prompts)
        if len(prompt) > MAX_NAME_CHARACTERS:
            prompt = prompt[: MAX_NAME_CHARACTERS - 1].rstrip() + "…"
        name = f"{title} · {prompt} · {self.job.cut.name}"
        return f"{name} [{self._number}]" if self._number else name

    def _choose_number(self) -> None:
        """Take the first number that no layer of another result has."""
        taken = {str(layer.name) for layer in self._layers if not self.owns(layer)}
        for self._number in range(len(taken) + 1):
            if not taken & {self._name(*which) for which in self._order()}:
                break

    def _on_painted(self) -> None:
        """Note that the user corrected the mask by hand."""
        self.is_edited = True
        self.mask.metadata[KEY]["edited"] = True


def _features(prompts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return the table that napari's status bar reads a label's prompt from."""
    return {
        "index": list(range(len(prompts) + 1)),
        "prompt": ["background", *prompts],
    }
