"""One prompt on one picture: the whole picture resized, or window after window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_medvlseg.core.sampling import (
    DrawNoise,
    Place,
    draw_batches,
    is_mirrored,
)
from napari_medvlseg.core.uncertainty import RunningStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.models.promptable import ImageFeatures
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.preprocess.tiles import Tiling

    Words = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Vectors and mask of a prompt, and of what it says of the mirrored picture."""


LEAST_SAMPLES = 5
"""Before a standard error is believed."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt's words, and how they are asked.

    Parameters
    ----------
    predictor : Predictor
    config : SegmentConfig
    words : Words
    mirrors : bool
        Whether every second draw sees the picture mirrored.
    """

    predictor: Predictor
    config: SegmentConfig
    words: Words
    mirrors: bool
    counts: tuple[int, ...] = ()
    """Numbers of draws after which the means are kept."""
    drawn: list[int] = field(default_factory=list)
    """Samples of each input of the network that is done."""

    def sample(
        self, pixels: Tensor, place: Place, statistics: RunningStatistics
    ) -> Iterator[int]:
        """Add the draws of one input of the network to the statistics.

        Yields how many are done, those included that need not be drawn.
        """
        config, predictor = self.config, self.predictor
        if predictor.network.evidential:
            believed = predictor.believe(predictor.pyramid(pixels), self.words[False])
            statistics.believe(*believed)
            self.drawn.append(statistics.count)
            yield config.num_samples
            return
        views: dict[bool, ImageFeatures] = {}  # looking one up hashes the picture
        for group in draw_batches(
            config.num_samples,
            config.batch_size,
            views=2 if self.mirrors else 1,
            stops=self.counts,
        ):
            for draws in group:
                mirrored = self.mirrors and is_mirrored(draws[0])
                if mirrored not in views:
                    seen = predictor.pyramid(pixels.flip(-1) if mirrored else pixels)
                    views[mirrored] = predictor.settle(seen, self.words[mirrored])
                noise = DrawNoise(config.seed, draws, place)
                logits = predictor.draw(
                    views[mirrored], self.words[mirrored], len(draws), noise
                )
                statistics.add(logits.flip(-1) if mirrored else logits)
            if statistics.count in self.counts:
                statistics.keep()
            done = sum(len(draws) for draws in group)
            left = config.num_samples - statistics.count
            if left and not self._is_enough(statistics):
                yield done
                continue
            self.drawn.append(statistics.count)
            yield done + left
            return

    def _is_enough(self, statistics: RunningStatistics) -> bool:
        """Whether further draws would change too little."""
        tolerance = self.config.tolerance
        return (
            statistics.count >= LEAST_SAMPLES
            and statistics.standard_error() < tolerance
        )


class Part(ABC):
    """One prompt on one picture."""

    size: int
    """Draws to make."""

    def __init__(self, question: Question, index: int) -> None:
        self.question, self.index = question, index

    @abstractmethod
    def advance(self) -> Iterator[int]:
        """Draw, batch by batch; yield how many."""

    @abstractmethod
    def means(self) -> Tensor:
        """Return mean probability and entropy so far, (2, h, w)."""

    @abstractmethod
    def means_at(self, count: int) -> Tensor:
        """Return what the first draws gave, one of the question's counts of them.

        If fewer were needed, what these gave.
        """


class WholePart(Part):
    """The picture resized to the network's input."""

    def __init__(self, question: Question, pixels: Tensor, index: int) -> None:
        super().__init__(question, index)
        self.pixels = pixels
        self.size = question.config.num_samples
        self.statistics = RunningStatistics()

    def advance(self) -> Iterator[int]:
        """Draw, batch by batch."""
        place = Place(self.index)
        yield from self.question.sample(self.pixels, place, self.statistics)

    def means(self) -> Tensor:
        """Return the means of the draws so far."""
        return self.statistics.means()

    def means_at(self, count: int) -> Tensor:
        """Return the means of the first draws."""
        return self.statistics.means_at(count)


class TiledPart(Part):
    """The picture at full resolution, window after window."""

    def __init__(self, question: Question, tiling: Tiling, index: int) -> None:
        super().__init__(question, index)
        self.tiling = tiling
        self.size = question.config.num_samples * len(tiling.windows)
        self.earlier = {count: tiling.emptied() for count in question.counts}

    def advance(self) -> Iterator[int]:
        """Finish a window, then the next."""
        for tile in range(len(self.tiling.windows)):
            statistics, place = RunningStatistics(), Place(self.index, tile)
            counts = self.question.sample(self.tiling.cut(tile), place, statistics)
            before = 0
            for count in counts:
                if before:
                    yield before
                before = count
            self.tiling.add(tile, statistics.means())
            for count, tiling in self.earlier.items():
                tiling.add(tile, statistics.means_at(count))
            yield before

    def means(self) -> Tensor:
        """Return the windows done so far, blended."""
        return self.tiling.merged()

    def means_at(self, count: int) -> Tensor:
        """Return the windows as the first draws gave them, blended."""
        return self.earlier[count].merged()
