"""The dock with the real model, and the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medvlseg.plugin.engine import without_triton
from napari_medvlseg.plugin.result_layers import KEY
from napari_medvlseg.plugin.sample_data import retina
from napari_medvlseg.plugin.segment_widget import SegmentWidget
from tests.plugin.conftest import run_and_wait

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.settings import Settings

PROMPT = "retinal vessels in the fundus photograph"
SAME = 1e-5
"""On as many threads as the dock: otherwise sums in bfloat16 come in another order."""

needs_display = pytest.mark.skipif(
    sys.platform == "linux" and not os.environ.get("DISPLAY"),
    reason="needs a display for OpenGL; run it with xvfb-run",
)


@needs_display
def test_the_layers_hold_what_the_core_finds(
    qtbot: QtBot, viewer: Any, settings: Settings
) -> None:
    with without_triton():  # OpenGL is up already
        import torch

        from napari_medvlseg.core.pipeline import segment

    threads = torch.get_num_threads()
    ((photograph, _, _),) = retina()
    crop = photograph[600:760, 200:400]
    viewer.add_image(crop, name="disc", rgb=True)
    dock = SegmentWidget(viewer, settings=settings)
    viewer.window.add_dock_widget(dock, name="Segment")
    dock.options.samples.setValue(3)
    assert run_and_wait(qtbot, dock, PROMPT)
    torch.set_num_threads(max(1, threads - 1))
    wanted = segment(crop, PROMPT, num_samples=3)
    made = {
        layer.metadata[KEY]["kind"]: layer
        for layer in viewer.layers
        if KEY in layer.metadata
    }
    for kind in ("probability", "mutual_information", "expected_entropy"):
        np.testing.assert_allclose(
            made[kind].data, getattr(wanted, kind)[0], atol=SAME, err_msg=kind
        )
    above = made["probability"].data > 0.5
    np.testing.assert_array_equal(made["mask"].data, above)
    provenance = made["mask"].metadata[KEY]["provenance"]
    assert provenance["weights_sha256"] == wanted.provenance["weights_sha256"]
    dock.options.samples.setValue(40)
    dock.options.stopping.set_value(0.5)  # so that the fewest are enough
    assert run_and_wait(qtbot, dock, PROMPT)
    assert dock.session.current is not None
    adaptive = dock.session.current.segmentation
    assert adaptive is not None
    (count,) = adaptive.provenance["samples_drawn"]
    assert 5 <= count < 10
    assert f"Done: {count:g} of 40 samples" in dock.progress.status.text()
    dock.session.stop()
    assert torch.get_num_threads() == threads  # as before the first run


@pytest.mark.slow
@needs_display
def test_the_demo_writes_what_it_found(tmp_path: Path) -> None:
    folder = tmp_path / "demo-output"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "napari_medvlseg.plugin.demo"),
            *("--headless", str(folder), "--samples", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "screenshot.png",
        "retina.json",
        "retina_labels.png",
        "retina_probability.tif",
        "retina_predictive_entropy.tif",
        "retina_mutual_information.tif",
        "retina_expected_entropy.tif",
    }
    assert all(str(folder / name) in done.stdout for name in names)
    told = json.loads((folder / "retina.json").read_text())
    assert told["prompts"][0]["present"]


def test_without_a_display_the_demo_says_what_to_do() -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    if sys.platform != "linux":
        pytest.skip("other systems always have a window server")
    done = subprocess.run(
        [sys.executable, "-m", "napari_medvlseg.plugin.demo"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert "make demo" in done.stderr
