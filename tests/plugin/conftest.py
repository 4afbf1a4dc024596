"""A viewer with the dock, and a small real run that needs no model.

`blob_steps` is a generator like the core's: it computes, with numpy, draws of "how
bright is this pixel", so that every part behind it can be tested without torch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npe2
import numpy as np
import pytest
from qtpy.QtCore import QSettings

from napari_medvlseg.core.bundle import Concept, InputSpec, ModelCard
from napari_medvlseg.core.postprocess import to_labels
from napari_medvlseg.core.types import Image, Segmentation
from napari_medvlseg.plugin.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from pytestqt.qtbot import QtBot

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.plugin.segment_widget import SegmentWidget

PACKAGE = "napari_medvlseg"
WAIT_MS = 40_000
"""Long, so that a busy machine passes; nothing waits for it to end."""


@dataclass(frozen=True)
class BlobStep:
    """One advance of `blob_steps`."""

    done: int
    total: int
    snapshot: Callable[[], Segmentation]


def binary_entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy of a yes/no question in nats."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return -(q * np.log(q) + (1 - q) * np.log(1 - q))


def blob_steps(
    image: Image, prompts: Sequence[str], model: str, config: SegmentConfig
) -> Iterator[BlobStep]:
    """Yield draws of a probability that grows with brightness.

    The prompt "nothing" finds nothing; "dark ..." finds what is dark.
    """
    grey = image.voxels.astype(float)
    grey = grey.mean(axis=-1) if image.rgb else grey
    spread = float(np.ptp(grey)) or 1.0
    bright = (grey - grey.min()) / spread
    random = np.random.default_rng(config.seed)
    mean = np.zeros((len(prompts), *bright.shape))
    doubt = np.zeros_like(mean)

    def result(done: int) -> Segmentation:
        probability = mean / done
        expected = doubt / done
        total = binary_entropy(probability)
        return Segmentation(
            prompts=tuple(prompts),
            labels=to_labels(probability.astype(np.float32), config.threshold),
            probability=probability.astype(np.float32),
            predictive_entropy=total.astype(np.float32),
            mutual_information=np.clip(total - expected, 0, None).astype(np.float32),
            expected_entropy=expected.astype(np.float32),
            affine=image.affine,
            threshold=config.threshold,
            min_foreground=0.0,
            slice_axis=image.slice_axis if image.ndim == 3 else None,
            provenance={"model": model, "num_samples": done, "seed": config.seed},
            units=image.units,
            doubtful_from=0.5,
        )

    for draw in range(config.num_samples):
        for number, prompt in enumerate(prompts):
            wanted = 1 - bright if prompt.startswith("dark") else bright
            wanted = np.zeros_like(bright) if prompt == "nothing" else wanted
            noisy = np.clip(wanted + random.normal(0, 0.02, bright.shape), 0, 1)
            noisy = noisy * (wanted > 0)
            mean[number] += noisy
            doubt[number] += binary_entropy(noisy)
        done = draw + 1
        yield BlobStep(done, config.num_samples, lambda done=done: result(done))  # type: ignore[misc]


def slow_steps(
    image: Image, prompts: Sequence[str], model: str, config: SegmentConfig
) -> Iterator[BlobStep]:
    """Yield like `blob_steps`, after 0.2 s of work that keeps a core busy each."""
    for step in blob_steps(image, prompts, model, config):
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            np.sort(np.random.default_rng(0).random(20_000))
        yield step


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings in a file of this test's own."""
    store = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    return Settings(store)


@pytest.fixture(autouse=True)
def _own_settings_folder(tmp_path: Path) -> None:
    """Keep every test away from the user's own settings."""
    for scope in (QSettings.Scope.UserScope, QSettings.Scope.SystemScope):
        QSettings.setPath(QSettings.Format.IniFormat, scope, str(tmp_path))


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    """Return the card of a model that knows bright and dark blobs."""
    concepts = (
        Concept("bright blob", ("lamp",), "microscopy", "one bright blob", "whole"),
        Concept("dark hole", ("pit",), "microscopy", "dark hole in the left", "whole"),
    )
    return ModelCard(
        model_id="blobs",
        title="Blobs",
        summary="Finds what is bright.",
        licence="BSD-3-Clause",
        intended_use="Tests.",
        concepts=concepts,
        input=InputSpec(size=64, tile=64, overlap=0.25),
        min_foreground=0.0,
        doubtful_from=0.5,
        parameters=0,
        network={},
        figures={},
        sha256="0" * 64,
        path=tmp_path,
    )


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    """Return a viewer as napari hands it to plugins; threads may not touch it."""
    return make_napari_viewer_proxy(strict_qt="raise")


@pytest.fixture
def make_dock(
    viewer: Any, card: ModelCard, settings: Settings
) -> Callable[..., SegmentWidget]:
    """Return a function that docks the widget with the steps it is given."""
    from napari_medvlseg.plugin.segment_widget import SegmentWidget

    def make(steps: Any = blob_steps) -> SegmentWidget:
        widget = SegmentWidget(viewer, steps=steps, models=[card], settings=settings)
        viewer.window.add_dock_widget(widget, name="Segment")
        return widget

    return make


@pytest.fixture
def dock(make_dock: Callable[..., SegmentWidget]) -> SegmentWidget:
    """Return the docked widget, which runs `blob_steps`."""
    return make_dock()


def run_and_wait(qtbot: QtBot, widget: SegmentWidget, prompt: str) -> bool:
    """Type a prompt, run it and wait for its end; return whether it is complete."""
    widget.prompt.set_text(prompt)
    with qtbot.waitSignal(widget.run_ended, timeout=WAIT_MS) as ended:
        widget.run()
    return bool(ended.args and ended.args[0])


def disc(height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    """Return a bright disc in the dark."""
    rows, columns = np.indices((height, width))
    inside = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < 36
    return np.where(inside, 230, 10).astype(np.uint8)


@pytest.fixture
def writers(npe2pm: Any) -> Any:
    """Return a plugin manager that knows napari's own writers, then ours."""
    for package, name in (("napari_builtins", "builtins"), (PACKAGE, "napari")):
        manifest = Path(str(files(package) / f"{name}.yaml"))
        npe2pm.register(npe2.PluginManifest.from_file(manifest))
    return npe2pm


@pytest.fixture
def viewer_with_disc(viewer: Any) -> Any:
    viewer.add_image(disc(), name="cells", scale=(0.5, 0.25))
    return viewer
