"""The shell command that does what the widget does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medvlseg.plugin.worker import Job

NO_FILE = "IMAGE"
"""Stands for an image that did not come from a file."""


def shell_command(job: Job, path: str | None) -> str:
    """Return the `medvlseg segment` command of a job."""
    config = job.config
    words = ["medvlseg", "segment", path or NO_FILE]
    for prompt in job.prompts:
        words += ["--prompt", prompt]
    words += ["--model", job.model]
    words += ["--samples", str(config.num_samples)]
    words += ["--seed", str(config.seed)]
    words += ["--threshold", f"{config.threshold:g}"]
    words += ["--device", config.device]
    words += {"tile": ["--tile"], "whole": ["--no-tile"]}.get(config.tiling, [])
    if config.intensity != "auto":
        words += ["--intensity", config.intensity]
    if config.smooth_slices:
        words += ["--smooth-slices", f"{config.smooth_slices:g}"]
    held = {*job.cut.kept, job.cut.colour}
    cut = [axis for axis in range(len(job.cut.shape)) if axis not in held]
    if cut:
        words += ["--axis", str(cut[0]), "--slice", str(job.cut.index[cut[0]])]
    return shlex.join(words)
