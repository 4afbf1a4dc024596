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
from napari_medvlseg.core.config import ADAPTIVE_TOLERANCE
from napari_medvlseg.core.errors import CheckpointError, ImageError
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.preprocess.pixels import resize
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.types import Segmentation

    Map = npt.NDArray[np.float32]

Result = TypeVar("Result")

ANY_PROMPT = "one round lesion in the upper left of the image"
"""Where a model's card names nothing to find."""
OTHER_PROMPT = "the largest lesion near the center of the image"
"""The second prompt, where the card has no second one."""
DISCARDED = 1
"""Passes of the plain loop that the authors' code makes and throws away."""
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
    float32_s: float
    """All samples in float32."""
    adaptive_s: float
    """As many samples as the tolerance asks for, in the precision above."""
    naive_s: float
    """The authors' way: both encoders and one draw at a time, and one pass more than
    samples, in float32."""
    speedup: float
    """`naive_s` over `samples_s`."""
    speedup_float32: float
    """`naive_s` over `float32_s`."""
    speedup_adaptive: float
    """`naive_s` over `adaptive_s`."""
    difference_float32: float
    """Largest difference of a mean probability from the naive loop's, in float32."""
    difference: float
    """Likewise, in the precision above."""
    tolerance: float
    """Of adaptive sampling."""
    adaptive_drawn: float
    """Samples that it drew."""
    adaptive_dsc: float
    """Of its mask to that of all samples."""
    foreground: float
    """Share of the picture in the mask of all samples: of none, DSC says nothing."""
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
    model: str,
    image: Image,
    config: SegmentConfig,
    repeats: int = 3,
    prompt: str = "",
) -> Iterator[Stage[BenchResult]]:
    """Measure a model on a picture, stage by stage.

    Parameters
    ----------
    model : str
    image : Image
        One picture; it is segmented whole, whatever the card says.
    config : SegmentConfig
        Its tolerance is that of the adaptive stage, `ADAPTIVE_TOLERANCE` where it is
        0; the other stages draw every sample.
    repeats : int
        Of each time; the median counts.
    prompt : str
        What is asked for; by default what the model's card gives as an example.

    Raises
    ------
    ImageError
        If the image is not one picture.
    CheckpointError
        If the model is of volumes.
    """
    if image.ndim != 2:
        msg = f"expected one picture to measure on, got shape {image.spatial_shape}"
        raise ImageError(msg)
    config = replace(config, tiling="whole", axis=None, slice_index=None)
    found: dict[str, Any] = {}
    prompts = _prompts(model, prompt)
    stages = _stages(_Bench(model, image, config, repeats, prompts))
    for done, (what, measure) in enumerate(stages.items()):
        yield Stage(done, len(stages), what)
        found |= measure()
    yield Stage(len(stages), len(stages), "done", BenchResult(**found))


def bench_image() -> Image:
    """Return the 512 x 512 RGB picture of stained tissue that scikit-image ships."""
    from skimage.data import immunohistochemistry

    return Image(immunohistochemistry(), rgb=True, name="immunohistochemistry")


def _prompts(model: str, prompt: str) -> list[str]:
    """Return two prompts that differ: the given one or the card's, and another.

    Raises
    ------
    CheckpointError
        If the model is of volumes.
    """
    card = model_card(model)
    if card.volume is not None:
        msg = (
            f"expected a model of pictures to measure, got {card.model_id}, which "
            "segments volumes; choose another, for instance compact"
        )
        raise CheckpointError(msg)
    examples = [concept.example for concept in card.concepts]
    first = prompt or (examples or [ANY_PROMPT])[0]
    return [first, next(x for x in [*reversed(examples), OTHER_PROMPT] if x != first)]


def _stages(bench: _Bench) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what is measured, in order; each stage returns fields of the result."""
    return {
        "peak memory": bench.peak,
        "loading": bench.load,
        "preview": bench.preview,
        f"{bench.config.num_samples} samples": bench.samples,
        "second prompt": bench.second_prompt,
        "adaptive sampling": bench.adaptive,
        "naive loop in float32": bench.naive,
        "float32": bench.float32,
        "agreement": bench.agreement,
    }


class _Bench:
    """The models and times that later stages need."""

    def __init__(
        self,
        model: str,
        image: Image,
        config: SegmentConfig,
        repeats: int,
        prompts: list[str],
    ) -> None:
        self.model, self.image = model, image
        self.tolerance = config.tolerance or ADAPTIVE_TOLERANCE
        self.config, self.repeats = replace(config, tolerance=0.0), repeats
        self.prompts = prompts
        self.predictor: Predictor
        self.plain: Predictor
        self.every: Segmentation
        self.reference: Map
        self.samples_s = 0.0
        self.adaptive_s = 0.0
        self.naive_s = 0.0

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

        def draw() -> None:
            self.every = self._segment(self.predictor, self.prompts[0])

        self.samples_s = self._median(draw, before=self.predictor.forget)
        return {"samples_s": self.samples_s}

    def adaptive(self) -> dict[str, Any]:
        """Time as many samples as are needed, and compare their mask."""
        found: list[Segmentation] = []
        self.adaptive_s = self._median(
            lambda: found.append(
                self._segment(self.predictor, self.prompts[0], tolerance=self.tolerance)
            ),
            before=self.predictor.forget,
        )
        mask, every = found[0].labels > 0, self.every.labels > 0
        return {
            "adaptive_s": self.adaptive_s,
            "tolerance": self.tolerance,
            "adaptive_drawn": found[0].provenance["samples_drawn"][0],
            "adaptive_dsc": dice_similarity_coefficient(mask, every),
            "foreground": float(every.mean()),
        }

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
        naive_loop(
            self.plain,
            self.image,
            self.prompts[0],
            replace(self.config, num_samples=1),
        )

        def loop() -> None:
            self.reference, _ = naive_loop(
                self.plain,
                self.image,
                self.prompts[0],
                self.config,
                discarded=DISCARDED,
            )

        self.naive_s = self._median(loop, lambda: None)
        self.plain.network.plain = False
        return {
            "naive_s": self.naive_s,
            "speedup": self.naive_s / self.samples_s,
            "speedup_adaptive": self.naive_s / self.adaptive_s,
        }

    def float32(self) -> dict[str, Any]:
        """Time all samples in float32."""
        self._segment(self.plain, self.prompts[0], num_samples=self.config.batch_size)
        seconds = self._median(
            lambda: self._segment(self.plain, self.prompts[0]),
            before=self.plain.forget,
        )
        return {"float32_s": seconds, "speedup_float32": self.naive_s / seconds}

    def agreement(self) -> dict[str, Any]:
        """Compare mean probabilities of the same draws on the image's grid."""
        grid = torch.from_numpy(self.reference)[None]
        reference = resize(grid, *self.image.spatial_shape)[0].numpy()

        def difference(found: Segmentation) -> float:
            return float(np.abs(found.probability[0] - reference).max())

        return {
            "difference_float32": difference(
                self._segment(self.plain, self.prompts[0])
            ),
            "difference": difference(self.every),
        }

    def _segment(
        self, predictor: Predictor, prompt: str, **changes: Any
    ) -> Segmentation:
        """Segment the picture."""
        choices = {**asdict(self.config), **changes}
        return segment(self.image, prompt, predictor, **choices)

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
