"""``python -m napari_medvlseg.plugin.demo``: a real image, a prompt and its result.

With a screen the window stays open. With ``--headless DIR`` it does the same, waits for
the result, writes it with a screenshot of the window, says where, and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import QEventLoop, QSettings, QTimer

from napari_medvlseg.core.errors import MedVLSegError
from napari_medvlseg.core.io.write import write
from napari_medvlseg.plugin.sample_data import retina
from napari_medvlseg.plugin.segment_widget import SegmentWidget
from napari_medvlseg.plugin.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import SignalInstance

PROMPT = "retinal vessels in the fundus photograph"
SAMPLES = 8
WINDOW = (1500, 950)
WAIT_S = 1200.0
SETTLE_S = 0.5
"""Time for the window to draw what it was told."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_medvlseg.plugin.demo",
        description="Open napari on a photograph of a retina and find its vessels.",
    )
    parser.add_argument(
        "--headless",
        metavar="DIR",
        type=Path,
        help="write screenshot and result to this folder and end",
    )
    parser.add_argument(
        "--prompt", default=PROMPT, help="what to look for [%(default)s]"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        help="Monte Carlo draws [%(default)s]",
    )
    options = parser.parse_args(arguments)
    if not _has_screen():
        print("There is no screen: use `make demo`, which makes one.", file=sys.stderr)
        return 2
    if options.headless is not None:
        with TemporaryDirectory() as folder:
            viewer, widget = _opened(options, _own_settings(folder))
            return _run_and_write(viewer, widget, options.headless)
    _, widget = _opened(options, None)
    QTimer.singleShot(0, widget.run)
    napari.run()
    return 0


def _opened(
    options: argparse.Namespace, settings: Settings | None
) -> tuple[napari.Viewer, SegmentWidget]:
    """Open the window with everything set for the run."""
    viewer = napari.Viewer()
    widget = open_dock(viewer, settings)
    widget.prompt.set_text(options.prompt)
    widget.options.samples.setValue(options.samples)
    return viewer, widget


def open_dock(viewer: napari.Viewer, settings: Settings | None) -> SegmentWidget:
    """Open the retina and dock the widget beside it."""
    viewer.window.resize(*WINDOW)
    for data, choices, _ in retina():
        viewer.add_image(data, **choices)
    widget = SegmentWidget(viewer, settings=settings)
    viewer.window.add_dock_widget(widget, name="Segment", area="right")
    return widget


def _own_settings(folder: str) -> Settings:
    """Return settings that are gone with a folder, not the user's."""
    path = str(Path(folder) / "settings.ini")
    return Settings(QSettings(path, QSettings.Format.IniFormat))


def _run_and_write(viewer: napari.Viewer, widget: SegmentWidget, folder: Path) -> int:
    """Wait for the result, then write it with a picture of the window."""
    QTimer.singleShot(0, widget.run)
    ended = _wait(WAIT_S, widget.run_ended)
    _wait(SETTLE_S)
    viewer.cursor.position = _most_certain(widget)
    _wait(SETTLE_S)
    folder.mkdir(parents=True, exist_ok=True)
    screenshot = folder / "screenshot.png"
    viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    result = widget.session.current
    status = widget.progress.status.text()
    paths = [screenshot]
    if result is not None and result.segmentation is not None:
        name = Path(f"{result.job.cut.name}.png")
        try:
            paths += write(result.segmentation, name, folder, overwrite=True)
        except MedVLSegError as error:
            status, ended = str(error), False
    viewer.close()
    print(status)
    for path in paths:
        print(path)
    return 0 if ended else 1


def _most_certain(widget: SegmentWidget) -> tuple[float, ...]:
    """Return the place with the highest probability, to read its values there."""
    result = widget.session.current
    if result is None or result.segmentation is None:
        return (0.0, 0.0)
    probability = result.segmentation.probability[0]
    row, column = divmod(int(probability.argmax()), probability.shape[1])
    return tuple(float(place) for place in result.mask.data_to_world((row, column)))


def _wait(seconds: float, signal: SignalInstance | None = None) -> bool:
    """Let the window live until a signal or a time; return what the signal says."""
    loop = QEventLoop()
    heard: list[bool] = []
    if signal is not None:
        signal.connect(heard.append)
        signal.connect(loop.quit)
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()
    return bool(heard and heard[0])


def _has_screen() -> bool:
    """Whether a window can be opened: Linux needs a display server."""
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform != "linux" or any(os.environ.get(name) for name in names)


if __name__ == "__main__":
    sys.exit(main())
