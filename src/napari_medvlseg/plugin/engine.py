"""The core's models as the widget runs them: imported late, loaded once, one at a time.

Nothing here imports torch before the first run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, cast

from napari_medvlseg.core.io.kept import KeptSlices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.pipeline import AnyPredictor
    from napari_medvlseg.core.types import Image, Segmentation


class StepLike(Protocol):
    """One advance of a run: how far it is, and the result so far."""

    @property
    def done(self) -> int:
        """Parts of the work that are done."""
        ...

    @property
    def total(self) -> int:
        """Parts of the work altogether."""
        ...

    @property
    def snapshot(self) -> Callable[[], Segmentation]:
        """Returns the result so far; valid until the next step is asked for."""
        ...


class StepsFunction(Protocol):
    """What runs a model: image, prompts, model id, choices -> steps."""

    def __call__(
        self,
        image: Image,
        prompts: Sequence[str],
        model: str,
        config: SegmentConfig,
        /,
    ) -> Iterator[StepLike]:
        """Run the model, lazily."""
        ...


class Engine:
    """Runs the core's models, and keeps the last one that was loaded.

    A run that was cancelled may still be inside its last step when the next begins;
    a lock keeps the two from using the model at once. A cancelled volume's finished
    slices are kept, in a temporary folder, until a run of anything else begins: the
    same run goes on from them.
    """

    def __init__(self) -> None:
        self._kept: KeptSlices | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[str, str, str], AnyPredictor] | None = None
        self._threads = TorchThreads()

    def __call__(
        self, image: Image, prompts: Sequence[str], model: str, config: SegmentConfig
    ) -> Iterator[StepLike]:
        """Load the model if it is another one, and return the steps of a run."""
        with self._lock, without_triton():
            load_torch_libraries()
            from napari_medvlseg.core.pipeline import segment_steps  # brings torch
            from napari_medvlseg.core.provenance import run_settings

            self._threads.spare_one()
            predictor = self._predictor(model, config)
            settings = None
            if image.ndim == 3 and config.slice_index is None:
                settings = run_settings(image, prompts, predictor, config)
            kept = self._kept_slices(settings)
        return self._in_turn(segment_steps(image, prompts, predictor, config, kept))

    @property
    def can_go_on(self) -> bool:
        """Whether finished slices of a cancelled run are there."""
        return self._kept is not None and self._kept.count > 0

    def close(self) -> None:
        """Give torch its threads back, and forget what is kept."""
        self._threads.restore()
        self._kept = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _in_turn(self, steps: Iterator[StepLike]) -> Iterator[StepLike]:
        """Advance a run only while no other one uses the model."""
        while True:
            with self._lock:
                step = next(steps, None)
                if step is None:  # complete: there is nothing to go on from
                    self._kept_slices(None)
                    return
            yield step

    def _kept_slices(self, settings: Mapping[str, Any] | None) -> KeptSlices | None:
        """Return where a run's slices are kept, and forget those of any other."""
        if self._kept is not None and self._kept.settings != settings:
            self._kept.remove()
            self._kept = None
        if self._kept is None and settings is not None:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="napari-medvlseg-")
            self._kept = KeptSlices(Path(self._folder.name), "run", settings)
        return self._kept

    def _predictor(self, model: str, config: SegmentConfig) -> AnyPredictor:
        """Return the loaded model."""
        from napari_medvlseg.core.pipeline import load_predictor  # brings torch

        key = (model, config.device, config.precision)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees the other model before this one comes
            predictor = load_predictor(
                model, device=config.device, precision=config.precision
            )
            self._loaded = key, predictor
        return self._loaded[1]


def load_torch_libraries() -> None:
    """Load torch's shared libraries without holding Python's lock.

    ``import torch`` loads a gigabyte while it holds the lock, which freezes the window
    for a second or two. A foreign function is called without it; the import then finds
    the libraries there.
    """
    spec = importlib.util.find_spec("torch")
    if "torch" in sys.modules or sys.platform == "win32" or not spec or not spec.origin:
        return
    loader = ctypes.CDLL(None).dlopen
    loader.restype = ctypes.c_void_p
    loader.argtypes = [ctypes.c_char_p, ctypes.c_int]
    folder = Path(spec.origin).parent / "lib"
    for path in sorted(folder.glob("libtorch_python.*")):
        loader(os.fsencode(path), os.RTLD_LAZY)  # where it fails, the import tells why


@contextmanager
def without_triton() -> Iterator[None]:
    """Let nothing import triton, torch's GPU compiler, which is not needed here.

    Triton and Mesa's software OpenGL each bring an LLVM of their own. Where a viewer
    has started OpenGL, importing triton (timm does, through torchvision) ends the
    process with a segmentation fault.
    """
    is_ours = sys.modules.setdefault("triton", _ABSENT) is _ABSENT
    try:
        yield
    finally:
        if is_ours:
            del sys.modules["triton"]


_ABSENT = cast("ModuleType", None)
"""What Python's import takes as "there is no such module"."""


@dataclass(slots=True)
class _Spared:
    """Torch's threads belong to the process, so open viewers are counted here."""

    viewers: int = 0
    threads_before: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_SPARED = _Spared()


class TorchThreads:
    """One CPU thread less for torch while a viewer is open, so that it stays fluid."""

    def __init__(self) -> None:
        self._spares = False

    def spare_one(self) -> None:
        """Take a thread from torch; call it on the thread that computes."""
        import torch

        with _SPARED.lock:
            if _SPARED.viewers == 0:
                _SPARED.threads_before = torch.get_num_threads()
            if not self._spares:
                _SPARED.viewers += 1
                self._spares = True
            torch.set_num_threads(max(1, _SPARED.threads_before - 1))

    def restore(self) -> None:
        """Give it back, unless another viewer still spares it."""
        with _SPARED.lock:
            if not self._spares:
                return
            self._spares = False
            _SPARED.viewers -= 1
            if _SPARED.viewers == 0:
                sys.modules["torch"].set_num_threads(_SPARED.threads_before)
