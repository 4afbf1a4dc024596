"""One run over the pictures of an image: slice after slice, prompts by turns."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from napari_medvlseg.core.captions import exchange_sides
from napari_medvlseg.core.maps import Maps
from napari_medvlseg.core.parts import Part, Question, TiledPart, WholePart
from napari_medvlseg.core.preprocess.pixels import resize, to_network_range
from napari_medvlseg.core.preprocess.resample import picture_size
from napari_medvlseg.core.preprocess.slices import choose_slices, picture_spacing
from napari_medvlseg.core.preprocess.tiles import Tiling
from napari_medvlseg.core.provenance import provenance
from napari_medvlseg.core.reading import Reading
from napari_medvlseg.core.sides import find_midline
from napari_medvlseg.core.types import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.preprocess.intensity import Greys
    from napari_medvlseg.core.types import Image

TILE_FROM = 1.5
"""A concept that asks for tiles gets them from so many tiles a side on."""

FROM_EVIDENCE = (
    "this model tells its uncertainty from the evidence that it found, in one pass; "
    "the number of samples changes nothing"
)
NO_SPACING = (
    "this model wants pixels of a size in mm, which the image does not tell; it was "
    "taken as it is"
)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is; `snapshot` gives the result so far.

    A snapshot is taken before the run goes on. Of a volume it shares its memory with
    the run and fills up as slices finish.
    """

    done: int
    total: int
    snapshot: Callable[[], Segmentation]


class SliceStore(Protocol):
    """Where the finished slices of a run are kept, to go on from."""

    def load(self, index: int) -> list[npt.NDArray[np.float32]] | None:
        """Return what was kept of a slice."""
        ...

    def save(self, index: int, arrays: Sequence[npt.NDArray[np.float32]]) -> None:
        """Keep a slice."""
        ...


class Run:
    """One run over the pictures of an image."""

    def __init__(
        self,
        image: Image,
        prompts: tuple[str, ...],
        predictor: Predictor,
        config: SegmentConfig,
        greys: Greys,
    ) -> None:
        self.started = time.monotonic()
        self.evidential = predictor.network.evidential
        draws_differ = predictor.network.samples or predictor.card.input.mirror
        if self.evidential or not draws_differ:
            config = replace(config, num_samples=1)  # the others would be the same
        self.image, self.predictor, self.config = image, predictor, config
        self.prompts, self.greys = prompts, greys
        self.mirrors = predictor.card.input.mirror and config.num_samples > 1
        self.readings = [self._read(prompt) for prompt in self.prompts]
        asked = [reading.text for reading in self.readings]
        self.questions = [self._question(text) for text in asked]
        self.slices = choose_slices(image, config.axis, config.slice_index)
        self.size = picture_size(image, self.slices, predictor.card.input.spacing_mm)
        self.tiled = [self._in_tiles(text) for text in asked]
        self.sigma = self._sigma_in_slices()
        self.midline = find_midline(image, self.prompts)
        self.min_foreground = predictor.card.min_foreground_of(asked)
        self.maps = Maps(
            len(self.prompts),
            image.spatial_shape,
            threshold=config.threshold,
            min_foreground=self.min_foreground,
        )
        self.done = 0
        self.total = 0
        self.resumed = 0
        self.is_final = False

    def steps(self, kept: SliceStore | None) -> Iterator[Step]:
        """Segment picture after picture, but for those that are kept."""
        indices = self.slices.indices
        todo = [index for index in indices if not self._recall(index, kept)]
        self.resumed = len(indices) - len(todo)
        if not todo:
            self.done = self.total = len(indices)
            yield Step(self.done, self.total, self._final)
        for index in todo:
            work = self._work(index)
            if not self.total:
                size = sum(part.size for part in work)
                self.done, self.total = size * self.resumed, size * len(indices)
            yield from self._finish(work, index)
            if kept is not None:
                kept.save(index, [part.means().numpy() for part in work])

    def _read(self, prompt: str) -> Reading:
        """Return what to ask the model, if it may be asked otherwise than typed."""
        read = self.predictor.read if self.config.read_names else Reading
        return read(prompt)

    def _question(self, prompt: str) -> Question:
        """Return the words of a prompt, and those for the mirrored picture."""
        there = exchange_sides(prompt) if self.mirrors else prompt
        words = self.predictor.words(prompt), self.predictor.words(there)
        return Question(self.predictor, self.config, words, self.mirrors)

    def _recall(self, index: int, kept: SliceStore | None) -> bool:
        """Enter a slice that is kept into the maps; say whether it is."""
        means = kept.load(index) if kept is not None else None
        if means is None or len(means) != len(self.prompts):
            return False
        self._show(index, [torch.from_numpy(array) for array in means])
        return True

    def _work(self, index: int) -> list[Part]:
        """Return what there is to do for each prompt."""
        spec = self.predictor.card.input
        picture = self.slices.picture(self.image.voxels, index)
        pixels = to_network_range(picture, self.greys.limits)
        whole: Tensor | None = None
        fine: Tensor | None = None
        parts: list[Part] = []
        for question, tiled in zip(self.questions, self.tiled, strict=True):
            if tiled:
                fine = resize(pixels, *self.size) if fine is None else fine
                tiling = Tiling(fine, spec.tile, spec.overlap)
                parts.append(TiledPart(question, tiling, index))
            else:
                whole = self._resized(pixels) if whole is None else whole
                parts.append(WholePart(question, whole, index))
        return parts

    def _resized(self, pixels: Tensor) -> Tensor:
        """Return a whole picture as the network takes it."""
        side, smooths = self.predictor.card.input.size, self.predictor.network.smooths
        return resize(pixels, side, side, smooths=smooths)

    def _finish(self, work: list[Part], index: int) -> Iterator[Step]:
        """Do the parts of a picture by turns, so that all prompts show early."""
        todo = [part.advance() for part in work]
        while todo:
            for part_steps in list(todo):
                count = next(part_steps, 0)
                if count:
                    self.done += count
                else:
                    todo.remove(part_steps)
            if todo:
                yield Step(self.done, self.total, partial(self._so_far, work, index))
        if self.slices.axis is not None:  # a volume's maps fill up slice by slice
            self._show(index, [part.means() for part in work])

    def _so_far(self, work: list[Part], index: int) -> Segmentation:
        """Enter a picture into the maps and return them."""
        self._show(index, [part.means() for part in work])
        return self._final() if self.done == self.total else self._segmentation()

    def _final(self) -> Segmentation:
        """Return the result, smoothed once if that is wanted."""
        if self.sigma and not self.is_final and self.slices.axis is not None:
            self.maps.smooth(self.slices.axis, self.sigma)
            self.is_final = True
        return self._segmentation()

    def _show(self, index: int, means: Sequence[Tensor]) -> None:
        """Bring mean probability and entropy of a picture to the image's grid."""
        if self.is_final:  # it is in already, and smoothed
            return
        turn, window = self.slices.turn, self.slices.window(index)
        height, width = self.slices.picture_shape(self.image.spatial_shape)
        for row, values in enumerate(means):
            probability, entropy = resize(values, height, width).numpy()
            self.maps.enter(row, window, turn.undo(probability), turn.undo(entropy))
        self.maps.label(window)

    def _segmentation(self) -> Segmentation:
        """Return the result so far."""
        maps = self.maps if self.slices.axis is not None else self.maps.copy()
        return Segmentation(
            prompts=self.prompts,
            labels=maps.labels,
            probability=maps.probability,
            predictive_entropy=maps.predictive_entropy,
            mutual_information=maps.mutual_information,
            expected_entropy=maps.expected_entropy,
            affine=self.image.affine.copy(),
            threshold=self.config.threshold,
            min_foreground=self.min_foreground,
            slice_axis=self.slices.axis,
            provenance=self._provenance(),
            units=self.image.units,
            doubtful_from=self.predictor.card.doubtful_from,
            midline=self.midline,
        )

    def _in_tiles(self, prompt: str) -> bool:
        """Follow the user's choice, or the card's for what the prompt names."""
        if self.config.tiling != "auto":
            return self.config.tiling == "tile"
        if self._resampled_mm() is not None:
            return True  # resized as a whole, a picture would lose its spacing
        concept = self.predictor.card.concept_of(prompt)
        longest = max(
            size
            for axis, size in enumerate(self.image.spatial_shape)
            if axis != self.slices.axis
        )
        return (
            concept is not None
            and concept.tiling == "tile"
            and longest >= TILE_FROM * self.predictor.card.input.tile
        )

    def _resampled_mm(self) -> tuple[float, float] | None:
        """Return the height and width of a pixel that the network sees, if chosen."""
        spacing = picture_spacing(self.image, self.slices)
        if self.predictor.card.input.spacing_mm is None or spacing is None:
            return None
        height, width = self.slices.picture_shape(self.image.spatial_shape)
        return (
            spacing[0] * height / self.size[0],
            spacing[1] * width / self.size[1],
        )

    def _sigma_in_slices(self) -> float:
        """Return how far to smooth across the slices; 0 where there is but one."""
        if self.slices.axis is None or len(self.slices.indices) < 2:
            return 0.0
        spacing = self.image.spacing_mm
        unit = 1.0 if spacing is None else spacing[self.slices.axis]
        return self.config.smooth_slices / unit

    def _smoothing(self) -> Mapping[str, Any] | None:
        """Say how the result is smoothed across its slices, if it is."""
        if not self.sigma:
            return None
        unit = "mm" if self.image.units == "mm" else "slices"
        return {"sigma": self.config.smooth_slices, "unit": unit}

    def _hints(self) -> list[str]:
        """Say what the user may want to know of names, grey values and spacing."""
        hints = [reading.hint for reading in self.readings if reading.hint]
        hints += [self.greys.hint] if self.greys.hint else []
        hints += [FROM_EVIDENCE] if self.evidential else []
        if self.predictor.card.input.spacing_mm and self.image.units != "mm":
            hints.append(NO_SPACING)
        return hints

    def _provenance(self) -> Mapping[str, Any]:
        """Say how the result came about."""
        pixel_mm = self._resampled_mm() if any(self.tiled) else None
        return provenance(
            self.predictor.card,
            {
                "prompts": list(self.prompts),
                "read_as": [reading.text for reading in self.readings],
                "num_samples": self.config.num_samples,
                "tolerance": self.config.tolerance,
                "samples_drawn": [_mean(question.drawn) for question in self.questions],
                "seed": self.config.seed,
                "threshold": self.config.threshold,
                "device": str(self.predictor.device),
                "precision": self.predictor.precision,
                "intensity": self.greys.told(),
                "tiled": list(self.tiled),
                "pixel_mm": None if pixel_mm is None else list(pixel_mm),
                "mirrored_draws": self.mirrors,
                "uncertainty_from": "evidence" if self.evidential else "samples",
                "axis": self.slices.axis,
                "slice_index": self.config.slice_index,
                "smoothing": self._smoothing(),
                "resumed_slices": self.resumed,
                "hints": self._hints(),
                "image": self.image.name,
                "spacing_from": self.image.facts.get("spacing_from"),
                "seconds": round(time.monotonic() - self.started, 3),
            },
        )


def _mean(drawn: Sequence[int]) -> float | None:
    """Return the mean number of samples, once there is one."""
    return round(sum(drawn) / len(drawn), 1) if drawn else None
