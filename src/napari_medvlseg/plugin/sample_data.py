"""Sample data for napari's menu: real images, most of them without a download.

The images that a dependency ships are read from its own files. The others are fetched
only when the user opens them, and are refused if their SHA-256 is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.config import cache_folder
from napari_medvlseg.core.errors import DownloadError, UnsupportedFormatError
from napari_medvlseg.plugin.layer_space import KEY

if TYPE_CHECKING:
    import numpy.typing as npt

    LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

SCIKIT_IMAGE = "https://gitlab.com/scikit-image/data/-/raw/"
SCIKIT_IMAGE += "2cdc5ce89b334d28f06a58c9f0ca21aa6992a5ba/"


@dataclass(frozen=True, slots=True)
class Download:
    """A public file and what it must be."""

    file_name: str
    url: str
    sha256: str


MITOSIS = Download(
    "human-mitosis.tif",
    SCIKIT_IMAGE + "AS_09125_050116030001_D03f00d0.tif",
    "2751ba667c4067c5d30817cff004aa06f6f6287f1cdbb5b8c9c6a500308cb456",
)
SKIN = Download(
    "skin-histology.jpg",
    SCIKIT_IMAGE + "Normal_Epidermis_and_Dermis_with_Intradermal_Nevus_10x.JPG",
    "8759fe080509712163453f4b17106582b8513e73b0788d80160abf840e272075",
)
HEAD = Download(
    "head-volume.tif",
    SCIKIT_IMAGE + "brain.tiff",
    "bcdbaf424fbad7b1fb0f855f608c68e5a838f35affc323ff04ea17f678eef5c6",
)


def retina() -> list[LayerData]:
    """Return scikit-image's fundus photograph (1411, 1411, 3)."""
    return [_colour(_shipped("retina.jpg"), "retina")]


def immunohistochemistry() -> list[LayerData]:
    """Return scikit-image's stained colon tissue (512, 512, 3)."""
    return [_colour(_shipped("ihc.png"), "colon tissue")]


def spine_ct() -> list[LayerData]:
    """Return pydicom's slice of a spine CT (128, 128), in Hounsfield units."""
    dataset = _dicom("CT_small.dcm")
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope)
    hounsfield = hounsfield + float(dataset.RescaleIntercept)
    return [_grey(hounsfield.astype(np.float32), "spine CT", dataset)]


def abdomen_mr() -> list[LayerData]:
    """Return pydicom's slice of an abdominal MRI (484, 300)."""
    dataset = _dicom("examples_overlay.dcm")
    return [_grey(dataset.pixel_array, "abdomen MRI", dataset)]


def lymph_node_ultrasound() -> list[LayerData]:
    """Return pydicom's Doppler ultrasound of a lymph node (240, 320, 3)."""
    dataset = _dicom("examples_rgb_color.dcm")
    return [_colour(dataset.pixel_array, "lymph node ultrasound")]


def heart_ultrasound() -> list[LayerData]:
    """Return pydicom's ultrasound film of a heart (30, 240, 320, 3)."""
    film = _dicom("examples_ybr_color.dcm").pixel_array  # pydicom makes it RGB
    layer = _colour(film, "heart ultrasound")
    layer[1]["axis_labels"] = ("time", "y", "x")
    return [layer]


def cell_nuclei() -> list[LayerData]:
    """Download scikit-image's human cells in mitosis (512, 512)."""
    return [_grey(_image(fetch(MITOSIS)), "cell nuclei")]


def skin_histology() -> list[LayerData]:
    """Download scikit-image's section of skin with a nevus (960, 1280, 3)."""
    return [_colour(_image(fetch(SKIN)), "skin histology")]


def head_volume() -> list[LayerData]:
    """Download scikit-image's slices of a head (10, 256, 256)."""
    return [_grey(_image(fetch(HEAD)), "head")]


def fetch(download: Download) -> Path:
    """Return a downloaded file, from the user's cache where it is there.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is not what was asked for.
    """
    import pooch
    import requests

    folder = cache_folder() / "samples"
    try:
        return Path(
            pooch.retrieve(
                download.url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.file_name,
                path=folder,
            )
        )
    except requests.RequestException as error:
        kind = type(error).__name__
        msg = (
            f"expected to download {download.file_name} from {download.url}, got no "
            f"connection ({kind}); go online, or open a sample that needs no download"
        )
        raise DownloadError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"expected to download {download.file_name}, got: {error}"
        raise DownloadError(msg) from error


def _shipped(name: str) -> npt.NDArray[Any]:
    """Read an image that scikit-image carries in its wheel."""
    path = Path(str(files("skimage") / "data" / name))
    if not path.is_file():
        msg = f"expected {name} in scikit-image, which has left it out; "
        raise UnsupportedFormatError(msg + "update scikit-image")
    return _image(path)


def _image(path: Path) -> npt.NDArray[Any]:
    """Read an image file."""
    from skimage.io import imread

    return np.asarray(imread(path))


def _dicom(name: str) -> Any:
    """Read a file that pydicom carries in its wheel; never downloads."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        msg = f"expected {name} in pydicom, which has left it out; update pydicom"
        raise UnsupportedFormatError(msg)
    return pydicom.dcmread(str(path))


def _colour(pixels: npt.NDArray[Any], name: str) -> LayerData:
    """Return an RGB layer."""
    return pixels, {"name": name, "rgb": True}, "image"


def _grey(pixels: npt.NDArray[Any], name: str, dataset: Any = None) -> LayerData:
    """Return a grey layer, with its spacing in mm where a DICOM header tells it."""
    low, high = np.percentile(pixels, [0.5, 99.5])
    choices: dict[str, Any] = {
        "name": name,
        "contrast_limits": (float(low), max(float(high), float(low) + 1)),
    }
    spacing = getattr(dataset, "PixelSpacing", None)
    if spacing is not None:
        choices["scale"] = tuple(float(edge) for edge in spacing)
        choices["units"] = ("mm", "mm")
        choices["metadata"] = _place(dataset)
    return pixels, choices, "image"


def _place(dataset: Any) -> dict[str, Any]:
    """Return where a DICOM picture lies in the patient, as layers' metadata tell it."""
    from napari_medvlseg.core.io.dicom_geometry import plane_affine, plane_name

    orientation = getattr(dataset, "ImageOrientationPatient", None)
    position = getattr(dataset, "ImagePositionPatient", None)
    if orientation is None or position is None:
        return {}
    spacing = [float(edge) for edge in dataset.PixelSpacing]
    thickness = float(getattr(dataset, "SliceThickness", None) or 1)
    affine = plane_affine([*map(float, position)], orientation, spacing, thickness)
    place = {
        "affine": affine.tolist(),
        "spacing_mm": spacing,
        "units": "mm",
        "facts": {"orientation": plane_name(orientation)},
    }
    return {KEY: place}
