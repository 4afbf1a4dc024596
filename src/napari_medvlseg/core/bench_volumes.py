"""Measure the speed of a 3D model on one volume, and its agreement, in one run."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medvlseg.core.baseline import naive_volume_loop
from napari_medvlseg.core.bench import Stage
from napari_medvlseg.core.config import NO_FLIPS
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.types import Image
from napari_medvlseg.core.volume_predictor import VolumePredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.types import Segmentation
    from napari_medvlseg.core.volume_spec import VolumeSpec

    Map = npt.NDArray[np.float32]

COMPARED_DRAWS = 2
"""At most, for the agreement: in the plain loop each takes as long as the first."""


@dataclass(frozen=True, slots=True)
class Times:
    """Medians of the repeats, in seconds."""

    wall_s: float
    cpu_s: float
    """Of the processor, all threads together: other programs do not matter to it."""

    def __iter__(self) -> Iterator[float]:
        """Return both."""
        return iter((self.wall_s, self.cpu_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeBenchResult:
    """What `medvlseg bench` tells of a 3D model."""

    model: str
    device: str
    precision: str
    threads: int
    shape: tuple[int, ...]
    windows: int
    num_samples: int
    repeats: int
    load_s: float
    """From the bundle's files to a loaded model, the libraries being imported."""
    one: Times
    """One sample, nothing remembered."""
    samples: Times
    """All samples, nothing remembered."""
    naive_one: Times
    """One draw of a plain loop of complete passes in float32, window by window."""
    speedup_one: Times
    """How many times faster one sample is than the plain loop's."""
    speedup: Times
    """Likewise of all samples; the plain loop takes as long for each."""
    difference_float32: float
    """Largest difference of a mean probability from the plain loop's, in float32."""
    difference: float
    """Likewise, in the precision above."""


def bench_volume_steps(
    model: str, image: Image | None, config: SegmentConfig, repeats: int = 3
) -> Iterator[Stage[VolumeBenchResult]]:
    """Measure a 3D model on a volume, stage by stage.

    Parameters
    ----------
    model : str
    image : Image, optional
        A volume; by default one window of random numbers.
    config : SegmentConfig
    repeats : int
        Of each time; the median counts.

    Raises
    ------
    ImageError
        If the model cannot segment the image.
    """
    bench = _Bench(model, image, config, repeats)
    stages = {
        "loading": bench.load,
        "one sample": bench.one,
        f"{config.num_samples} samples": bench.samples,
        "plain loop in float32": bench.naive,
        "agreement": bench.agreement,
    }
    found: dict[str, Any] = {}
    for done, (what, measure) in enumerate(stages.items()):
        yield Stage(done, len(stages), what)
        found |= measure()
    yield Stage(len(stages), len(stages), "done", VolumeBenchResult(**found))


def bench_volume(spec: VolumeSpec) -> Image:
    """Return a volume of random numbers as large as a model's window."""
    grey = np.random.default_rng(0).normal(100, 20, (*spec.patch, spec.channels))
    first, *others = np.moveaxis(grey.astype(np.float32), -1, 0)
    return Image(first, name="noise", channels=tuple(others))


class _Bench:
    """The models and times that later stages need."""

    def __init__(
        self, model: str, image: Image | None, config: SegmentConfig, repeats: int
    ) -> None:
        self.model, self.config, self.repeats = model, config, repeats
        self.image = image
        self.predictor: VolumePredictor
        self.plain: VolumePredictor
        self.times: list[Times] = []

    def load(self) -> dict[str, Any]:
        """Load the model, and run it once to warm up."""
        config, started = self.config, time.perf_counter()
        self.predictor = VolumePredictor.load(
            self.model, device=config.device, precision=config.precision
        )
        load_s = time.perf_counter() - started
        if self.image is None:
            self.image = bench_volume(self.predictor.spec)
        found = self._segment(self.predictor, 1)
        return {
            "model": self.predictor.card.model_id,
            "device": str(self.predictor.device),
            "precision": self.predictor.precision,
            "threads": torch.get_num_threads(),
            "shape": self.image.spatial_shape,
            "windows": found.provenance["windows"],
            "num_samples": config.num_samples,
            "repeats": self.repeats,
            "load_s": load_s,
        }

    def one(self) -> dict[str, Any]:
        """Time one sample."""
        self.times.append(self._timed(lambda: self._segment(self.predictor, 1)))
        return {"one": self.times[-1]}

    def samples(self) -> dict[str, Any]:
        """Time all samples."""
        count = self.config.num_samples
        self.times.append(self._timed(lambda: self._segment(self.predictor, count)))
        return {"samples": self.times[-1]}

    def naive(self) -> dict[str, Any]:
        """Time the plain loop, one draw."""
        from napari_medvlseg.core.models.build_volumes import build_volume_network

        card, device = self.predictor.card, self.config.device
        network = build_volume_network(card, plain=True)
        self.plain = VolumePredictor(network, card, device=device, precision="float32")
        self._loop(1)
        naive, (one, samples) = self._timed(lambda: self._loop(1)), self.times
        every = Times(*(self.config.num_samples * each for each in naive))
        return {
            "naive_one": naive,
            "speedup_one": Times(*(a / b for a, b in zip(naive, one, strict=True))),
            "speedup": Times(*(a / b for a, b in zip(every, samples, strict=True))),
        }

    def agreement(self) -> dict[str, Any]:
        """Compare mean probabilities of the same draws on the image's grid."""
        draws = min(COMPARED_DRAWS, self.config.num_samples)
        expected = self._loop(draws)

        def difference(predictor: VolumePredictor) -> float:
            found = self._segment(predictor, draws, NO_FLIPS).probability
            return float(np.abs(found - expected).max())

        card, device = self.predictor.card, self.config.device
        exact = VolumePredictor(
            self.predictor.network, card, device=device, precision="float32"
        )
        return {
            "difference_float32": difference(exact),
            "difference": difference(self.predictor),
        }

    def _segment(
        self, predictor: VolumePredictor, draws: int, flips: str = ""
    ) -> Segmentation:
        """Return the result of so many draws, nothing remembered."""
        predictor.forget()
        choices = {**asdict(self.config), "num_samples": draws, "flips": flips}
        return segment(self._volume(), "all", predictor, **choices)

    def _loop(self, draws: int) -> Map:
        """Return the mean probability of the plain loop."""
        config = replace(self.config, num_samples=draws)
        return naive_volume_loop(self.plain, self._volume(), config)

    def _volume(self) -> Image:
        """Return what is measured on, which is there once the model is loaded."""
        if self.image is None:
            msg = "a volume is measured before the model is loaded"
            raise RuntimeError(msg)
        return self.image

    def _timed(self, measure: Callable[[], object]) -> Times:
        """Return the median times."""
        walls, cpus = [], []
        for _ in range(self.repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            measure()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        return Times(statistics.median(walls), statistics.median(cpus))
