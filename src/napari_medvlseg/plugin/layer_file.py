"""Which file a layer is: napari names the first file of a stack as if it were all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from napari_medvlseg.core.errors import MedVLSegError
from napari_medvlseg.core.io.open import is_stackable, open_image
from napari_medvlseg.plugin.layer_space import KEY
from napari_medvlseg.plugin.reader import PLUGIN

_STACK_FROM = 1.9
"""Times a file's own number of values; readers differ by an opaque fourth colour."""


def is_stack_of_unknown_files(layer: Any) -> bool:
    """Whether a layer is a stack that another reader made of several pictures."""
    source = layer.source
    if not source.path or source.reader_plugin == PLUGIN:
        return False
    path = Path(source.path)
    if not path.is_file() or not is_stackable(path):
        return False
    try:
        in_file = math.prod(open_image(path).voxels.shape)
    except MedVLSegError:  # this reader knows the file better than we do
        return False
    finest = layer.data[0] if layer.multiscale else layer.data
    return bool(math.prod(finest.shape) > _STACK_FROM * in_file)


def command_path(layer: Any) -> str | None:
    """Return the file or folder for a command; None of a stack of several files."""
    entry = layer.metadata.get(KEY) or {}
    if "files" in entry or is_stack_of_unknown_files(layer):
        return None
    path: str | None = layer.source.path
    return path
