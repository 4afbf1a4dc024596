"""Opening napari's menus costs no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MODULES = ("segment_widget", "sample_data", "session", "worker", "demo", "reader")
HEAVY = ("torch", "monai", "transformers", "timm", "pandas", "pydicom")


@pytest.mark.parametrize("module", MODULES)
def test_importing_the_plugin_imports_neither_torch_nor_monai(module: str) -> None:
    code = (
        f"import sys, json, napari_medvlseg.plugin.{module};"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
