"""Text-prompted medical image segmentation that says how sure it is.

The names below are the promise; everything else may change. They are imported at
first use, so that importing this package loads neither torch nor napari.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medvlseg.core.bundle import ModelCard, list_models, model_card
    from napari_medvlseg.core.captions import caption_case, describe
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.errors import MedVLSegError
    from napari_medvlseg.core.io.read import read
    from napari_medvlseg.core.io.write import write
    from napari_medvlseg.core.metrics import (
        dice_similarity_coefficient,
        normalized_surface_distance,
    )
    from napari_medvlseg.core.pipeline import segment, segment_steps
    from napari_medvlseg.core.postprocess import to_labels
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image, Prompt, Segmentation

    __version__: str

_HOMES = {
    "Image": "types",
    "MedVLSegError": "errors",
    "ModelCard": "bundle",
    "Predictor": "predictor",
    "Prompt": "types",
    "SegmentConfig": "config",
    "Segmentation": "types",
    "caption_case": "captions",
    "describe": "captions",
    "dice_similarity_coefficient": "metrics",
    "list_models": "bundle",
    "model_card": "bundle",
    "normalized_surface_distance": "metrics",
    "read": "io.read",
    "segment": "pipeline",
    "segment_steps": "pipeline",
    "to_labels": "postprocess",
    "write": "io.write",
}

__all__ = [
    "Image",
    "MedVLSegError",
    "ModelCard",
    "Predictor",
    "Prompt",
    "SegmentConfig",
    "Segmentation",
    "__version__",
    "caption_case",
    "describe",
    "dice_similarity_coefficient",
    "list_models",
    "model_card",
    "normalized_surface_distance",
    "read",
    "segment",
    "segment_steps",
    "to_labels",
    "write",
]


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-medvlseg")
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"napari_medvlseg.core.{_HOMES[name]}"), name)
