"""The shell command that does what the widget does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medvlseg.plugin.layers import LayerCut
    from napari_medvlseg.plugin.worker import Job

NO_FILE = "IMAGE"
"""Stands for an image that did not come from a file."""


def shell_command(
    job: Job, path: str | None, entry: Mapping[str, Any] | None = None
) -> str:
    """Return the `medvlseg segment` command of a job.

    Parameters
    ----------
    job : Job
    path : str, optional
        The image's file or folder.
    entry : mapping, optional
        What this plugin's reader told of the layer: the file's axes are others.

    Raises
    ------
    ImageError
        If a command cannot say it: of a region, or of one volume of a series.
    """
    config, entry = job.config, entry or {}
    words = ["medvlseg", "segment", path or NO_FILE]
    if "series" in entry:
        words += ["--series", str(entry["series"])]
    for prompt in job.prompts:
        words += ["--prompt", prompt]
    words += ["--model", job.model]
    words += ["--samples", str(config.num_samples)]
    if config.tolerance:
        words += ["--tolerance", f"{config.tolerance:g}"]
    words += ["--seed", str(config.seed)]
    words += ["--threshold", f"{config.threshold:g}"]
    words += ["--device", config.device]
    words += {"tile": ["--tile"], "whole": ["--no-tile"]}.get(config.tiling, [])
    if config.intensity != "auto":
        words += ["--intensity", config.intensity]
    if config.class_texts:
        words += ["--class-texts", config.class_texts]
    if config.smooth_slices:
        words += ["--smooth-slices", f"{config.smooth_slices:g}"]
    return shlex.join([*words, *_slice_words(job.cut, entry)])


def _slice_words(cut: LayerCut, entry: Mapping[str, Any]) -> list[str]:
    """Return what tells the slice, or the axis to walk along, in the file's axes."""
    if cut.is_boxed:
        msg = "expected the whole image, got a region, which no command can tell; "
        raise ImageError(msg + "choose the whole image")
    outside = [
        axis
        for axis in range(len(cut.shape))
        if axis not in (*cut.kept, cut.colour) and cut.shape[axis] > 1
    ]
    spatial = [axis for axis in range(len(cut.shape)) if axis != cut.colour][-3:]
    if any(axis not in spatial for axis in outside):
        msg = (
            "expected a picture or one volume, got a series, of which a command takes "
        )
        raise ImageError(msg + "none; save the volume that is meant as a file")
    if len(cut.kept) == 3:
        return ["--axis", str(_in_file(cut, entry, cut.kept[cut.walked])[0])]
    if not outside:
        return []
    axis, is_flipped = _in_file(cut, entry, outside[0])
    index = cut.index[outside[0]]
    index = cut.shape[outside[0]] - 1 - index if is_flipped else index
    return ["--axis", str(axis), "--slice", str(index)]


def _in_file(cut: LayerCut, entry: Mapping[str, Any], axis: int) -> tuple[int, bool]:
    """Return which axis of the file one of the layer is, and whether it is flipped."""
    told = entry.get("read_axes")
    if told is None:
        return axis, False
    number, is_flipped = told[axis - (len(cut.shape) - len(told))]
    return int(number), bool(is_flipped)
