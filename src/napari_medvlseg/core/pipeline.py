"""Segment an image from prompts: the only file that knows the order of the stages.

read -> Image -> preprocess -> model -> draws -> running statistics -> Segmentation
"""

from __future__ import annotations

import platform
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medvlseg.core.captions import exchange_sides
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import PromptError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.maps import Maps
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.preprocess.pixels import (
    resize,
    to_network_range,
    value_range,
)
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.core.preprocess.tiles import Tiling
from napari_medvlseg.core.sampling import (
    DrawNoise,
    Place,
    draw_batches,
    is_mirrored,
)
from napari_medvlseg.core.sides import find_midline
from napari_medvlseg.core.types import Image, Prompt, Segmentation
from napari_medvlseg.core.uncertainty import RunningStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.models.compact import Pyramid

    Words = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Vectors and mask of a prompt, and of what it says of the mirrored picture."""

TILE_FROM = 1.5
"""A concept that asks for tiles gets them from so many tiles a side on."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is; `snapshot` gives the result so far.

    A snapshot is taken before the run goes on. Of a volume it shares its memory with
    the run and fills up as slices finish.
    """

    done: int
    total: int
    snapshot: Callable[[], Segmentation]


def segment(
    image: Image | npt.NDArray[Any] | str | Path,
    prompts: str | Sequence[str],
    model: str | Predictor = "compact",
    **choices: Any,
) -> Segmentation:
    """Segment what the prompts name, and say how sure that is.

    Parameters
    ----------
    image : Image, array or path
        An array is grey, (H, W) or (slices, H, W), or ends in 3 or 4 colours.
    prompts : str or sequence of str
        Each is a question of its own.
    model : str or Predictor
        A model id, a bundle's folder, or a loaded model.
    **choices
        Fields of `SegmentConfig`: ``num_samples=30``, ``seed=0``, ``threshold=0.5``...

    Returns
    -------
    Segmentation
        On the image's own grid.

    Raises
    ------
    MedVLSegError
        If image, prompts or model cannot be used; the message says what to do.

    Examples
    --------
    >>> from napari_medvlseg import segment
    >>> result = segment("fundus.png", "retinal vessels")  # doctest: +SKIP
    """
    config = SegmentConfig(**choices)
    predictor = (
        model
        if isinstance(model, Predictor)
        else Predictor.load(model, device=config.device, precision=config.precision)
    )
    questions = [prompts] if isinstance(prompts, str) else list(prompts)
    steps = segment_steps(as_image(image), questions, predictor, config)
    (last,) = deque(steps, maxlen=1)  # an image has at least one picture
    return last.snapshot()


def segment_steps(
    image: Image,
    prompts: Sequence[str],
    predictor: Predictor,
    config: SegmentConfig,
) -> Iterator[Step]:
    """Yield after the first draw of a picture, and then after each batch of draws.

    Closing the iterator cancels the run. The last step holds the final result.
    """
    run = _Run(image, prompts, predictor, config)
    yield from run.steps()


def as_image(image: Image | npt.NDArray[Any] | str | Path) -> Image:
    """Return an `Image` from what a user may hand over."""
    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return read(image)
    voxels = np.asarray(image)
    coloured = voxels.ndim > 2 and voxels.shape[-1] in (3, 4)
    return Image(voxels, rgb=coloured)


class _Run:
    """One run over the pictures of an image."""

    def __init__(
        self,
        image: Image,
        prompts: Sequence[str],
        predictor: Predictor,
        config: SegmentConfig,
    ) -> None:
        if not prompts:
            msg = "expected at least one prompt, got none; type what to look for"
            raise PromptError(msg)
        self.started = time.monotonic()
        self.image, self.predictor, self.config = image, predictor, config
        self.prompts = tuple(Prompt(text).text for text in prompts)
        self.mirrors = predictor.card.input.mirror and config.num_samples > 1
        self.words = [self._words_of(prompt) for prompt in self.prompts]
        self.slices = choose_slices(image, config.axis, config.slice_index)
        self.limits = value_range(image.voxels)
        self.tiled = [self._in_tiles(prompt) for prompt in self.prompts]
        self.maps = Maps(
            len(self.prompts),
            image.spatial_shape,
            threshold=config.threshold,
            min_foreground=predictor.card.min_foreground,
        )
        self.midline = find_midline(image, self.prompts)
        self.done = 0
        self.total = 0

    def steps(self) -> Iterator[Step]:
        """Segment picture after picture."""
        for index in self.slices.indices:
            picture = self.slices.picture(self.image.voxels, index)
            pixels = to_network_range(picture, self.limits)
            work = self._work(pixels, index)
            self.total = self.total or len(self.slices.indices) * sum(
                part.size for part in work
            )
            yield from self._finish(work, index)

    def _words_of(self, prompt: str) -> Words:
        """Return the words of a prompt, and those for the mirrored picture."""
        there = exchange_sides(prompt) if self.mirrors else prompt
        return self.predictor.words(prompt), self.predictor.words(there)

    def _work(self, pixels: Tensor, index: int) -> list[_Part]:
        """Return what there is to do for each prompt."""
        spec = self.predictor.card.input
        whole = None
        parts: list[_Part] = []
        for words, tiled in zip(self.words, self.tiled, strict=True):
            if tiled:
                tiling = Tiling(pixels, spec.tile, spec.overlap)
                parts.append(_TiledPart(self, words, tiling, index))
            else:
                whole = (
                    whole if whole is not None else resize(pixels, spec.size, spec.size)
                )
                parts.append(_WholePart(self, words, whole, index))
        return parts

    def _finish(self, work: list[_Part], index: int) -> Iterator[Step]:
        """Do the parts of a picture by turns, so that all prompts show early."""
        todo = [part.advance() for part in work]
        snapshot = self._snapshot_of(work, self.slices.window(index))
        while todo:
            for part_steps in list(todo):
                count = next(part_steps, 0)
                if count:
                    self.done += count
                else:
                    todo.remove(part_steps)
            if todo:
                yield Step(self.done, self.total, snapshot)
        if self.slices.axis is not None:  # a volume's maps fill up slice by slice
            snapshot()

    def _snapshot_of(
        self, work: list[_Part], window: tuple[slice | int, ...]
    ) -> Callable[[], Segmentation]:
        """Return a function that enters a picture into the maps and shows them."""

        def snapshot() -> Segmentation:
            for row, part in enumerate(work):
                self._enter(row, part.means(), window)
            self.maps.label(window)
            return self._segmentation()

        return snapshot

    def _enter(self, row: int, means: Tensor, window: tuple[slice | int, ...]) -> None:
        """Bring mean probability and entropy to the image's grid."""
        turn = self.slices.turn
        shape = [
            s for a, s in enumerate(self.image.spatial_shape) if a != self.slices.axis
        ]
        height, width = reversed(shape) if turn.transpose else shape
        probability, entropy = resize(means, height, width).numpy()
        self.maps.enter(row, window, turn.undo(probability), turn.undo(entropy))

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
            min_foreground=self.predictor.card.min_foreground,
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

    def _provenance(self) -> Mapping[str, Any]:
        """Say how the result came about."""
        return provenance(
            self.predictor.card,
            {
                "prompts": list(self.prompts),
                "num_samples": self.config.num_samples,
                "seed": self.config.seed,
                "threshold": self.config.threshold,
                "device": str(self.predictor.device),
                "precision": self.predictor.precision,
                "tiled": list(self.tiled),
                "mirrored_draws": self.mirrors,
                "axis": self.slices.axis,
                "slice_index": self.config.slice_index,
                "image": self.image.name,
                "seconds": round(time.monotonic() - self.started, 3),
            },
        )


class _Part(ABC):
    """One prompt on one picture."""

    size: int
    """Draws to make."""

    def __init__(self, run: _Run, words: Words, index: int) -> None:
        self.run, self.words, self.index = run, words, index

    @abstractmethod
    def advance(self) -> Iterator[int]:
        """Draw, batch by batch; yield how many."""

    @abstractmethod
    def means(self) -> Tensor:
        """Return mean probability and entropy so far, (2, h, w)."""

    def sample(
        self, pixels: Tensor, tile: int, statistics: RunningStatistics
    ) -> Iterator[int]:
        """Add all draws of one input of the network to the statistics."""
        config, predictor = self.run.config, self.run.predictor
        mirrors, place = self.run.mirrors, Place(self.index, tile)
        views: dict[bool, Pyramid] = {}  # looking one up hashes the picture
        for group in draw_batches(
            config.num_samples, config.batch_size, mirrors=mirrors
        ):
            for draws in group:
                mirrored = mirrors and is_mirrored(draws[0])
                if mirrored not in views:
                    seen = pixels.flip(-1) if mirrored else pixels
                    views[mirrored] = predictor.pyramid(seen)
                noise = DrawNoise(config.seed, draws, place)
                logits = predictor.draw(
                    views[mirrored], self.words[mirrored], len(draws), noise
                )
                statistics.add(logits.flip(-1) if mirrored else logits)
            yield sum(len(draws) for draws in group)


class _WholePart(_Part):
    """The picture resized to the network's input."""

    def __init__(self, run: _Run, words: Words, pixels: Tensor, index: int) -> None:
        super().__init__(run, words, index)
        self.pixels = pixels
        self.size = run.config.num_samples
        self.statistics = RunningStatistics()

    def advance(self) -> Iterator[int]:
        """Draw, batch by batch."""
        yield from self.sample(self.pixels, 0, self.statistics)

    def means(self) -> Tensor:
        """Return the means of the draws so far."""
        return self.statistics.means()


class _TiledPart(_Part):
    """The picture at full resolution, window after window."""

    def __init__(self, run: _Run, words: Words, tiling: Tiling, index: int) -> None:
        super().__init__(run, words, index)
        self.tiling = tiling
        self.size = run.config.num_samples * len(tiling.windows)

    def advance(self) -> Iterator[int]:
        """Finish a window, then the next."""
        for tile in range(len(self.tiling.windows)):
            statistics = RunningStatistics()
            counts = self.sample(self.tiling.cut(tile), tile, statistics)
            before = 0
            for count in counts:
                if before:
                    yield before
                before = count
            self.tiling.add(tile, statistics.means())
            yield before

    def means(self) -> Tensor:
        """Return the windows done so far, blended."""
        return self.tiling.merged()


def provenance(card: ModelCard, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return everything needed to make a result again."""
    return {
        "model": card.model_id,
        "weights_sha256": card.sha256,
        **run,
        "versions": {
            "napari-medvlseg": version("napari-medvlseg"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
    }
