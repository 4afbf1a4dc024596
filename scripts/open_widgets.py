"""Open every widget that the installed plugin contributes, and check where it is from.

Run by the Python of the environment under test, outside of the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari
import npe2

import napari_medvlseg

PLUGIN = "napari-medvlseg"


def main() -> None:
    """Refuse a copy of us from elsewhere; dock each widget in a real window."""
    home = Path(napari_medvlseg.__file__)
    if not home.is_relative_to(sys.prefix):
        sys.exit(f"expected the installed wheel under {sys.prefix}, got {home}")
    viewer = napari.Viewer(show=True)
    manifest = npe2.PluginManager.instance().get_manifest(PLUGIN)
    titles = [widget.display_name for widget in manifest.contributions.widgets or []]
    if not titles:
        sys.exit(f"expected {PLUGIN} to contribute widgets, found none")
    for title in titles:
        dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, title)
        napari.qt.get_qapp().processEvents()
        if not dock.isVisible():
            sys.exit(f"{title}: the dock did not open")
        print(f"{title}: {type(widget).__name__} opened from {home.parent}")
    viewer.close()


if __name__ == "__main__":
    main()
