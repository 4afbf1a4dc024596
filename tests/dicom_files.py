"""A writer of DICOM files for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def write_dicom_file(
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
