"""Results of `blob_steps` in a viewer's model without a window, for the writers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.reader import read_layers
from napari_medvlseg.plugin.result_layers import KINDS, Result
from napari_medvlseg.plugin.worker import Job
from tests.plugin.conftest import blob_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

LPS = np.diag([-1.0, -1, 1, 1])
TURN = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
"""Directions of an oblique DICOM picture."""


def opened(path: Path) -> tuple[ViewerModel, Any]:
    """Open a file through our reader, in a viewer without a window."""
    viewer = ViewerModel()
    (told,) = read_layers(path)
    return viewer, viewer.add_layer(Layer.create(*told))


def segmented(
    viewer: ViewerModel,
    layer: Any,
    *prompts: str,
    whole: bool = True,
    samples: int = 2,
    **choices: Any,
) -> Result:
    """Segment what the viewer shows and add the layers, as a session does."""
    cut = cut_layer(layer, viewer.dims, whole=whole, **choices)
    config = SegmentConfig(num_samples=samples)
    job = Job(cut, prompts or ("bright blob", "dark hole"), "blobs", config)
    result = Result(viewer.layers, job, LayerFrame.of(layer))
    deque(result.prepare({"mask"}), maxlen=0)
    *_, step = blob_steps(cut.read(), job.prompts, job.model, config)
    shown = result.show(cut.paste(step.snapshot()), KINDS, complete=True)
    deque(shown, maxlen=0)
    return result


def maps(result: Result, kind: str) -> list[Any]:
    """Return the layers of a kind, a prompt each."""
    found = [one for one in result.layers if one.metadata["medvlseg"]["kind"] == kind]
    prompts = list(result.job.prompts)
    return sorted(
        found, key=lambda one: prompts.index(one.metadata["medvlseg"]["prompts"][0])
    )


def moved(layer: Any, values: Array, stored: Array) -> Array:
    """Return values of a layer's shape in the order of the file that it is from.

    The image's voxels are 0, 1, 2 ...: each tells its own place in the file.
    """
    by_number = np.zeros(stored.size, values.dtype)
    by_number[np.asarray(layer.data, int).ravel()] = values.ravel()
    return np.asarray(by_number[stored.astype(int)])


def save_oblique_series(write_dicom: Callable[..., Any], folder: Path) -> Path:
    """Write four oblique slices of 5 rows and 7 columns, the last one first."""
    normal = np.cross(TURN[:3], TURN[3:])
    for name, k in zip(("IM9", "a.dcm", "z", "IM10"), (3, 0, 2, 1), strict=True):
        place = np.array([-12.5, 30, 7]) - 2.5 * k * normal  # descending
        write_dicom(
            folder / name,
            np.arange(35, dtype=np.int16).reshape(5, 7) + 35 * k,
            StudyInstanceUID="1.9.8.7.6",
            FrameOfReferenceUID="1.9.8.7.5",
            PatientName="Doe^Jane",
            ImageOrientationPatient=list(TURN),
            ImagePositionPatient=[round(float(x), 8) for x in place],
            PixelSpacing=[0.7, 0.5],
            InstanceNumber=4 - k,
        )
    return folder
