"""A predictor with random weights, and a writer of DICOM files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from safetensors.torch import save

from napari_medvlseg.core.bundle import read_card, write_bundle
from napari_medvlseg.core.models.compact import Compact
from napari_medvlseg.core.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

CONFIG = {
    "model_id": "random",
    "title": "Random",
    "summary": "Random weights.",
    "licence": "BSD-3-Clause",
    "intended_use": "Tests.",
    "concepts": [
        {
            "name": "polyp",
            "synonyms": ["colon polyp"],
            "modality": "colonoscopy image",
            "example": "polyp in the colonoscopy image",
            "tiling": "whole",
        },
        {
            "name": "retinal vessels",
            "synonyms": ["vessels"],
            "modality": "fundus photograph",
            "example": "retinal vessels in the fundus photograph",
            "tiling": "tile",
        },
    ],
    "input": {"size": 64, "tile": 64, "overlap": 0.25},
    "min_foreground": 0.0,
    "parameters": 1,
    "network": {"architecture": "compact", "config": {}},
}


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the compact network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = Compact()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("bundles") / "random"
    write_bundle(
        folder, weights=save(state), config=CONFIG, card="# random\n", figures={}
    )
    return folder


@pytest.fixture(scope="session")
def predictor(random_bundle: Path) -> Predictor:
    """Return a model with random weights, in float32 on the CPU."""
    assert read_card(random_bundle).model_id == "random"
    return Predictor.load(str(random_bundle), device="cpu", precision="float32")


def _write_dicom(
    path: Path, pixels: npt.NDArray[Any], **elements: Any
) -> pydicom.Dataset:
    """Write (H, W), (K, H, W) or (H, W, 3) pixels as CT that `elements` change.

    Elements that are None are left out.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    is_colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    rows, columns = pixels.shape[:2] if is_colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    described: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": "1.2.3.4",
        "SeriesNumber": 3,
        "Modality": "CT",
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "SamplesPerPixel": 3 if is_colour else 1,
        "PlanarConfiguration": 0 if is_colour else None,
        "NumberOfFrames": len(pixels) if pixels.ndim == 3 and not is_colour else None,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": None,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **elements,
    }
    described["HighBit"] = described["BitsStored"] - 1
    for keyword, value in described.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if "PixelData" not in described:
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., pydicom.Dataset]:
    """Return a function that writes a DICOM file."""
    return _write_dicom
