"""How a result came about: what makes it again, and what each slice depends on."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medvlseg.core.class_texts import texts_digest
from napari_medvlseg.core.io.class_sheet import find_class_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image
    from napari_medvlseg.core.volume_predictor import VolumePredictor


def provenance(card: ModelCard, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return everything needed to make a result again."""
    return {
        "model": card.model_id,
        "weights_sha256": card.sha256,
        "network_sha256": card.network_sha256,
        **run,
        "versions": {
            "napari-medvlseg": version("napari-medvlseg"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
    }


def run_settings(
    image: Image,
    prompts: Sequence[str],
    predictor: Predictor | VolumePredictor,
    config: SegmentConfig,
) -> dict[str, Any]:
    """Return everything that the finished slices of a run depend on, ready for JSON.

    Threshold and smoothing are not among it: they come after. The size of a batch is,
    although it changes less than 1e-5, so that going on from slices of an interrupted
    run gives what the uninterrupted run would have given.
    """
    return {
        "image": image_digest(image),
        "prompts": list(prompts),
        "model": predictor.card.model_id,
        "weights_sha256": predictor.card.sha256,
        "network_sha256": predictor.card.network_sha256,
        "input": asdict(predictor.card.volume or predictor.card.input),
        "class_texts": texts_of(config, predictor.card),
        "flips": config.flips,
        "samples": config.num_samples,
        "tolerance": config.tolerance,
        "seed": config.seed,
        "tiling": config.tiling,
        "intensity": config.intensity,
        "axis": config.axis,
        "slice": config.slice_index,
        "batch_size": config.batch_size,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "napari-medvlseg": version("napari-medvlseg"),
        "torch": torch.__version__,
    }


def texts_of(config: SegmentConfig, card: ModelCard) -> str:
    """Return a hash of the classes' texts, which are another's in a file that changed.

    Raises
    ------
    UnsupportedFormatError
        If they cannot be read.
    """
    told = config.class_texts.strip()
    if not told or card.volume is None:
        return ""
    return texts_digest(find_class_texts(told), card.volume.text_format)


def image_digest(image: Image) -> str:
    """Return a hash of an image's voxels and of where they lie."""
    digest = hashlib.blake2b(digest_size=16)
    voxels = image.voxels
    frame = (voxels.shape, voxels.dtype.str, image.rgb, image.units, image.slice_axis)
    digest.update(repr((frame, image.affine.tolist())).encode())
    for channel in (voxels, *image.channels):
        for part in channel:  # by parts: a volume in another order would be copied
            digest.update(part.tobytes())
    return digest.hexdigest()
