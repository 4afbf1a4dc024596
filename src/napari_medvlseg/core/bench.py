"""Measure speed, memory and agreement on one picture, all in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import tifffile
import torch

from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.preprocess.pixels import resize
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig

    Map = npt.NDArray[np.float32]

Result = TypeVar("Result")

ANY_PROMPT = "one round lesion in the upper left of the image"
"""Where a model's card names nothing to find."""
_CHILD = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
if done.returncode:
    sys.exit(done.stderr.decode())
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak * (1 if sys.platform == "darwin" else 1024))  # bytes or kilobytes
"""
"""A small process in between: a child inherits the peak of what it is forked from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What `medvlseg bench` tells; times in seconds, medians of the repeats."""

    model: str
    device: str
    precision: str
    threads: int
    shape: tuple[int, ...]
    num_samples: int
    repeats: int
    load_s: float
    """From the bundle's files to a loaded model, the libraries being imported."""
    preview_s: float
    """One sample, nothing remembered of the picture."""
    samples_s: float
    """All samples, nothing remembered of the picture."""
    second_prompt_s: float
    """All samples for another prompt on the same picture."""
    naive_s: float
    """Both encoders and one draw at a time, as often, in float32."""
    speedup: float
    """`naive_s` over `samples_s`."""
    difference_float32: float
    """Largest difference of a mean probability from the naive loop's, in float32."""
    difference: float
    """Likewise, in the precision above."""
    peak_bytes: int | None
    """Of a process that segments the picture once; None where it is not told."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[Result]):
    """What is being measured; the last one holds the result."""

    done: int
    total: int
    what: str
    result: Result | None = None


def bench_steps(
    model: str, image: Image, config: SegmentConfig, repeats: int = 3
) -> Iterator[Stage[BenchResult]]:
    """Measure a model on a picture, stage by stage.

    Parameters
    ----------
    model : str
    image : Image
        One picture; it is segmented whole, whatever the card says.
    config : SegmentConfig
    repeats : int
        Of each time; the median counts.

    Raises
    ------
    ImageError
        If the image is not one picture.
    """
    if image.ndim != 2:
        msg = f"expected one picture to measure on, got shape {image.spatial_shape}"
        raise ImageError(msg)
    config = replace(config, tiling="whole", axis=None, slice_index=None)
    found: dict[str, Any] = {}
    stages = _stages(model, image, config, repeats)
    for done, (what, measure) in enumerate(stages.items()):
        yield Stage(done, len(stages), what)
        found |= measure()
    yield Stage(len(stages), len(stages), "done", BenchResult(**found))


def bench_image() -> Image:
    """Return the 512 x 512 RGB picture of stained tissue that scikit-image ships."""
    from skimage.data import immunohistochemistry

    return Image(immunohistochemistry(), rgb=True, name="immunohistochemistry")


def _stages(
    model: str, image: Image, config: SegmentConfig, repeats: int
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what is measured, in order; each stage returns fields of the result."""
    bench = _Bench(model, image, config, repeats)
    return {
        "peak memory": bench.peak,
        "loading": bench.load,
        "preview": bench.preview,
        f"{config.num_samples} samples": bench.samples,
        "second prompt": bench.second_prompt,
        "naive loop in float32": bench.naive,
        "agreement": bench.agreement,
    }


class _Bench:
    """The models and times that later stages need."""

    def __init__(
        self, model: str, image: Image, config: SegmentConfig, repeats: int
    ) -> None:
        self.model, self.image = model, image
        self.config, self.repeats = config, repeats
        concepts = model_card(model).concepts
        self.prompts = [concept.example for concept in concepts] or [ANY_PROMPT]
        self.predictor: Predictor
        self.plain: Predictor
        self.samples_s = 0.0

    def peak(self) -> dict[str, Any]:
        """Measure memory first: this process is still small."""
        return {"peak_bytes": _peak_bytes(self.model, self.image, self.prompts[0])}

    def load(self) -> dict[str, Any]:
        """Load the model, and run it once to warm up."""
        config, started = self.config, time.perf_counter()
        self.predictor = Predictor.load(
            self.model, device=config.device, precision=config.precision
        )
        load_s = time.perf_counter() - started
        self._segment(self.predictor, self.prompts[0], num_samples=config.batch_size)
        return {
            "model": self.predictor.card.model_id,
            "device": str(self.predictor.device),
            "precision": self.predictor.precision,
            "threads": torch.get_num_threads(),
            "shape": self.image.voxels.shape,
            "num_samples": config.num_samples,
            "repeats": self.repeats,
            "load_s": load_s,
        }

    def preview(self) -> dict[str, Any]:
        """Time one sample from nothing."""
        seconds = self._median(
            lambda: self._segment(self.predictor, self.prompts[0], num_samples=1),
            before=self.predictor.forget,
        )
        return {"preview_s": seconds}

    def samples(self) -> dict[str, Any]:
        """Time all samples from nothing."""
        self.samples_s = self._median(
            lambda: self._segment(self.predictor, self.prompts[0]),
            before=self.predictor.forget,
        )
        return {"samples_s": self.samples_s}

    def second_prompt(self) -> dict[str, Any]:
        """Time all samples of a new prompt on a picture that is known."""

        def know_picture() -> None:
            self.predictor.forget()
            self._segment(self.predictor, self.prompts[0], num_samples=1)

        seconds = self._median(
            lambda: self._segment(self.predictor, self.prompts[-1]), know_picture
        )
        return {"second_prompt_s": seconds}

    def naive(self) -> dict[str, Any]:
        """Time the plain loop."""
        self.plain = Predictor.load(
            self.model, device=self.config.device, precision="float32"
        )
        self.plain.network.plain = True
        self._naive_loop(num_samples=1)
        naive_s = self._median(self._naive_loop, lambda: None)
        self.plain.network.plain = False
        return {"naive_s": naive_s, "speedup": naive_s / self.samples_s}

    def agreement(self) -> dict[str, Any]:
        """Compare mean probabilities of the same draws on the image's grid."""
        grid = torch.from_numpy(self._naive_loop())[None]
        reference = resize(grid, *self.image.spatial_shape)[0].numpy()

        def difference(predictor: Predictor) -> float:
            found = self._segment(predictor, self.prompts[0])
            return float(np.abs(found - reference).max())

        return {
            "difference_float32": difference(self.plain),
            "difference": difference(self.predictor),
        }

    def _segment(self, predictor: Predictor, prompt: str, **changes: Any) -> Map:
        """Return the mean probability (H, W)."""
        choices = {**asdict(self.config), **changes}
        probability: Map = segment(
            self.image, prompt, predictor, **choices
        ).probability[0]
        return probability

    def _naive_loop(self, **changes: Any) -> Map:
        """Return the mean probability of the plain loop on the network's grid."""
        config = replace(self.config, **changes)
        return naive_loop(self.plain, self.image, self.prompts[0], config)[0]

    def _median(
        self, measure: Callable[[], object], before: Callable[[], None]
    ) -> float:
        """Return the median time, each repeat prepared outside of it."""
        seconds = []
        for _ in range(self.repeats):
            before()
            started = time.perf_counter()
            measure()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)


def _peak_bytes(model: str, image: Image, prompt: str) -> int | None:
    """Return the peak memory of ``medvlseg segment``, where the system tells it."""
    if sys.platform == "win32":
        return None
    with tempfile.TemporaryDirectory(prefix="medvlseg-bench-") as folder:
        path = Path(folder, "picture.tif")
        colours = "rgb" if image.rgb else "minisblack"
        tifffile.imwrite(path, image.voxels, photometric=colours)
        command = [sys.executable, "-c", _CHILD, sys.executable, "-m"]
        command += ["napari_medvlseg", "segment", str(path), "--model", model]
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, "--prompt", prompt, "--no-tile"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        msg = f"the process whose memory is measured failed: {done.stderr.strip()}"
        raise RuntimeError(msg)
    return int(done.stdout)
