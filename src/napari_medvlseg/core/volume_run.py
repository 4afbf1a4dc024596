"""One run of a 3D model over a volume: window after window, draw after draw.

Symbols: C classes with the background, P of them that were asked for, S draws,
R x A x S voxels of the model's grid.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from napari_medvlseg.core.class_sentences import (
    choose_asked,
    colors_of,
    untaught_words,
)
from napari_medvlseg.core.config import NO_FLIPS
from napari_medvlseg.core.errors import ImageError, PromptError
from napari_medvlseg.core.io.class_sheet import find_class_texts
from napari_medvlseg.core.maps import exclusive_maps, independent_maps
from napari_medvlseg.core.preprocess.resample import ModelGrid
from napari_medvlseg.core.preprocess.volumes import VolumeWindows, network_volume
from napari_medvlseg.core.provenance import provenance
from napari_medvlseg.core.run import NO_SPACING, SliceStore, Step
from napari_medvlseg.core.sampling import (
    DrawNoise,
    Place,
    draw_batches,
    flip_views,
)
from napari_medvlseg.core.sides import find_midline
from napari_medvlseg.core.types import Segmentation
from napari_medvlseg.core.uncertainty import ClassStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.class_texts import ClassSheet
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.types import Image
    from napari_medvlseg.core.volume_predictor import VolumePredictor
    from napari_medvlseg.core.volume_spec import VolumeSpec

    Map = npt.NDArray[np.float32]

LEAST_SAMPLES = 5
"""Before a standard error is believed."""
MANY_WINDOWS = 64
"""From so many on, neighbours share a quarter and not what the card says."""
LESS_OVERLAP = 0.25


class _Views(NamedTuple):
    """A window, and what is seen of it from each side."""

    window: Tensor
    looked: dict[tuple[int, ...], Any]


class VolumeRun:
    """One run over a volume.

    Parameters
    ----------
    image : Image
    prompts : sequence of str
    predictor : VolumePredictor
    config : SegmentConfig
    counts : tuple of int
        Numbers of draws whose results are kept, for `after`.

    Raises
    ------
    ImageError
        If the image is no grey volume, or one slice of it is asked for.
    PromptError
        If a prompt names what the model does not know, or the classes' texts are of
        another number of classes.
    """

    def __init__(
        self,
        image: Image,
        prompts: Sequence[str],
        predictor: VolumePredictor,
        config: SegmentConfig,
        counts: tuple[int, ...] = (),
    ) -> None:
        self.started = time.monotonic()
        spec = self.spec = predictor.spec
        _check_whole(image, predictor, config)
        if not config.flips:
            config = replace(config, flips=spec.flips)
        self.views = flip_views(config.flips)
        if not predictor.network.samples:  # others would be the same
            config, counts = replace(config, num_samples=len(self.views)), ()
        self.image, self.predictor, self.config = image, predictor, config
        self.sheet = _sheet_of(config, spec.sheet)
        self.choice = choose_asked(
            spec, self.sheet.names, prompts, forgiving=config.read_names
        )
        self.asked = tuple(prompts)
        self.texts = self._texts()
        self.words = predictor.words(self.texts)
        self.grid = ModelGrid.for_spec(image, spec)
        volume = network_volume(image, self.grid, spec.window, min_max=spec.min_max)
        self.windows = windows_of(volume, spec)
        fewer = [count for count in counts if count < config.num_samples]
        self.earlier = {count: self.windows.emptied() for count in fewer}
        self.batch_size = predictor.fitting_batch(config.batch_size)
        self.total = len(self.windows) * config.num_samples
        self.done = 0
        self.resumed = 0
        self.drawn: list[int] = []
        self._finished: set[int] = set()

    def _texts(self) -> list[str]:
        """Return what the network reads: of every class, or each question alone."""
        own = self.sheet.descriptions(self.spec.text_format)
        if not self.spec.asks:
            return own
        pairs = zip(self.choice.indices, self.choice.sentences, strict=True)
        return [sentence or own[index] for index, sentence in pairs]

    def steps(self, kept: SliceStore | None) -> Iterator[Step]:
        """Do window after window, but for those that are kept."""
        todo = [n for n in range(len(self.windows)) if not self._recall(n, kept)]
        self.resumed = len(self.windows) - len(todo)
        self.done = self.resumed * self.config.num_samples
        if not todo:
            yield Step(self.done, self.total, self._final)
        for index in todo:
            statistics = ClassStatistics(exclusive=self.spec.exclusive)
            for count in self._sample(index, statistics):
                self.done += count
                yield Step(self.done, self.total, self._so_far(index, statistics))
            means = statistics.means().cpu()
            self.drawn.append(statistics.count)
            for count, windows in self.earlier.items():
                windows.add(index, statistics.means_at(count).cpu())
            self._finish(index, means)
            if kept is not None:
                kept.save(index, [means.numpy()])

    def _sample(self, index: int, statistics: ClassStatistics) -> Iterator[int]:
        """Add the draws of a window; yield how many, also those that are spared."""
        config, seen = self.config, _Views(self.windows.cut(index), {})
        views = len(self.views)
        for group in draw_batches(
            config.num_samples, self.batch_size, views=views, stops=self.earlier
        ):
            for draws in group:
                statistics.add(self._draw(index, draws, seen))
            if statistics.count in self.earlier:
                statistics.keep()
            done = sum(len(draws) for draws in group)
            left = config.num_samples - statistics.count
            enough = (
                statistics.count >= LEAST_SAMPLES
                and statistics.standard_error() < config.tolerance
            )
            if left and enough:
                yield done + left
                return
            yield done

    def _draw(self, index: int, draws: range, seen: _Views) -> Tensor:
        """Return draws of one view of a window, turned back; remember what it sees."""
        view = self.views[draws[0] % len(self.views)]
        axes = [n + 2 for n in self.spec.view_axes(view)]  # after draws and channels
        if view not in seen.looked:
            window = seen.window.flip(axes) if axes else seen.window
            seen.looked[view] = self.predictor.look(window, self.words)
        noise = DrawNoise(self.config.seed, draws, Place(0, index))
        logits = self.predictor.draw(seen.looked[view], len(draws), noise)
        return logits.flip(axes) if axes else logits

    def _recall(self, index: int, kept: SliceStore | None) -> bool:
        """Take in a window that is kept; say whether it is."""
        arrays = kept.load(index) if kept is not None else None
        if arrays is None or len(arrays) != 1:
            return False
        self._finish(index, torch.from_numpy(arrays[0]))
        return True

    def _finish(self, index: int, means: Tensor) -> None:
        """Take in a window that is done."""
        self.windows.add(index, means)
        self._finished.add(index)

    def _so_far(
        self, index: int, statistics: ClassStatistics
    ) -> Callable[[], Segmentation]:
        """Return what gives the result so far, the window under way included."""

        def snapshot() -> Segmentation:
            if index in self._finished:  # asked for after the run went on
                return self._final()
            also = index, statistics.means().cpu()
            return self._segmentation(partial(self.windows.blended, also=also))

        return snapshot

    def after(self, count: int) -> Segmentation:
        """Return what the first draws gave of the volume whose run is over.

        Parameters
        ----------
        count : int
            One of the run's counts; where there are not more draws, all of them.
        """
        return self._segmentation(self.earlier.get(count, self.windows).blended)

    def _final(self) -> Segmentation:
        """Return the result of the windows that are done."""
        return self._segmentation(self.windows.blended)

    def _segmentation(self, blended: Callable[[int], Map]) -> Segmentation:
        """Return the result on the image's own grid, from maps on the model's."""

        def native(row: int) -> Map:
            found: Map = self.grid.to_native(blended(row))
            return found

        if self.spec.exclusive:
            wanted, shape = self.choice.indices, self.image.spatial_shape
            maps = exclusive_maps(native, len(self.spec.names), wanted, shape)
        else:
            classes = len(self.texts)
            rows = range(classes) if self.spec.asks else self.choice.indices
            maps = independent_maps(native, classes, rows, self.config.threshold)
        return Segmentation(
            prompts=self.choice.prompts,
            **maps,
            affine=self.image.affine.copy(),
            threshold=self.config.threshold,
            min_foreground=self.predictor.card.min_foreground,
            slice_axis=self.image.slice_axis,
            provenance=self._provenance(),
            units=self.image.units,
            doubtful_from=self.predictor.card.doubtful_from,
            exclusive=self.spec.exclusive,
            midline=find_midline(self.image, self.choice.prompts),
            colors=colors_of(self.choice, self.spec),
        )

    def _hints(self) -> list[str]:
        """Say what the user may want to know."""
        hints = [*self.choice.hints, *self._reworded(), *self._unlearnt_flips()]
        if self.spec.spacing_mm and self.image.units != "mm":
            hints.append(NO_SPACING)
        if self.config.intensity != "auto" or self.config.smooth_slices:
            hints.append(
                "a 3D model has grey values of its own and needs no smoothing across "
                "slices; what was chosen of these had no effect"
            )
        return hints

    def _reworded(self) -> list[str]:
        """Say which words of the user's own texts a network that reads them lacks."""
        hints = []
        for index in dict.fromkeys(self.choice.indices if self.spec.asks else ()):
            title, own = self.sheet.names[index], self.spec.names[index]
            words = untaught_words(title, own, self.spec.picture)
            if title != own and words:
                told = ", ".join(repr(word) for word in words)
                hints.append(
                    f"{own!r} was asked for as {title!r}, but this model was not "
                    f"taught {told}: do not rely on the answer"
                )
        return hints

    def _unlearnt_flips(self) -> list[str]:
        """Say along which axes draws see the volume flipped, but training did not."""
        learnt = self.spec.learnt_flips
        flips = "" if self.config.flips == NO_FLIPS else self.config.flips
        strange = [] if learnt is None else [x for x in flips if x not in learnt]
        if not strange:
            return []
        usable = f"use --flips {learnt} or none" if learnt else "use --flips none"
        hint = (
            f"this model was never trained on volumes flipped along "
            f"{', '.join(strange)}, and may exchange its classes there; {usable}"
        )
        return [hint]

    def _provenance(self) -> Mapping[str, Any]:
        """Say how the result came about."""
        drawn = self.drawn or [self.config.num_samples]
        return provenance(
            self.predictor.card,
            {
                "prompts": list(self.choice.prompts),
                "asked": list(self.asked),
                "classes": list(self.sheet.names),
                "class_texts": self.texts,
                "num_samples": self.config.num_samples,
                "tolerance": self.config.tolerance,
                "samples_drawn": [round(sum(drawn) / len(drawn), 1)],
                "seed": self.config.seed,
                "flips": self.config.flips,
                "threshold": self.config.threshold,
                "device": str(self.predictor.device),
                "precision": self.predictor.precision,
                "window": self.spec.window,
                "voxel_mm": list(self.grid.spacing_mm),
                "windows": len(self.windows),
                "resumed_windows": self.resumed,
                "hints": self._hints(),
                "image": self.image.name,
                "spacing_from": self.image.facts.get("spacing_from"),
                "seconds": round(time.monotonic() - self.started, 3),
            },
        )


def windows_of(volume: Tensor, spec: VolumeSpec) -> VolumeWindows:
    """Cut a volume (channels, R, A, S) as a model wants it, less if there are many."""
    windows = VolumeWindows(volume, spec.patch, spec.overlap)
    if len(windows) >= MANY_WINDOWS and spec.overlap > LESS_OVERLAP:
        return VolumeWindows(volume, spec.patch, LESS_OVERLAP)
    return windows


def _check_whole(
    image: Image, predictor: VolumePredictor, config: SegmentConfig
) -> None:
    """Refuse what is no whole volume of the model's channels."""
    name = predictor.card.model_id
    if image.ndim != 3 or image.rgb or config.slice_index is not None:
        got = "one slice" if config.slice_index is not None else "a picture"
        msg = (
            f"expected a whole grey volume for {name}, got {got}; choose a 2D model, "
            "for instance compact, or the whole volume"
        )
        raise ImageError(msg)
    wanted, got_channels = predictor.spec.channels, 1 + len(image.channels)
    if got_channels != wanted:
        msg = (
            f"expected a volume of {wanted} channels for {name}, got {got_channels}; "
            "give a NIfTI file of four axes, or a file a channel (--channel), in the "
            "order of training"
        )
        raise ImageError(msg)


def _sheet_of(config: SegmentConfig, own: ClassSheet) -> ClassSheet:
    """Return the classes' texts: the model's own or the user's, in the same order."""
    told = config.class_texts.strip()
    if not told:
        return own
    sheet = find_class_texts(told)
    if len(sheet.classes) != len(own.classes):
        msg = (
            f"expected texts of the model's {len(own.classes)} classes in their order "
            f"({', '.join(own.names)}), got {len(sheet.classes)}"
        )
        raise PromptError(msg)
    return sheet
