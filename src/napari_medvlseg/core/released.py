"""The 24 checkpoints that the authors of MedCLIPSeg released.

Six data sets, each with 10, 25, 50 and 100 percent of its training images; all of them
on UniMedCLIP. Imports no torch: it answers what a menu asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HUB_REPO = "TahaKoleilat/MedCLIPSeg"
HUB = "https://huggingface.co"
PERCENTS = (10, 25, 50, 100)
DOWNLOAD_BYTES = 0.9e9
"""About, with the optimiser's state; the hub tells the very number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSet:
    """A data set that checkpoints were trained on."""

    name: str
    """Of the authors' folder."""
    title: str
    modality: str
    organ: str
    structure: str
    """What a prompt calls the target."""
    picture: str
    """What a prompt calls the image, as it follows "in the"."""
    data_licence: str
    """Of the images that it was trained on, as far as it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One checkpoint that can be downloaded."""

    data: ReleasedSet
    percent: int
    """Share of the training images that it saw."""
    repo: str = HUB_REPO
    size_bytes: float = DOWNLOAD_BYTES

    @property
    def model_id(self) -> str:
        """The id that it gets here."""
        share = "" if self.percent == 100 else f"-{self.percent}"
        return f"medclipseg-unimedclip-{self.data.name.lower()}{share}"

    @property
    def folder(self) -> str:
        """The authors' folder of it."""
        share = "" if self.percent == 100 else f"_{self.percent}"
        return f"{self.data.name}{share}"

    @property
    def file(self) -> str:
        """Its path in the hub's repository."""
        name = "MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"
        return f"{self.folder}/trained_models/seed666/{name}"

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"{HUB}/{self.repo}/resolve/main/{self.file}"

    @property
    def title(self) -> str:
        """What a menu calls it."""
        share = "" if self.percent == 100 else f" {self.percent} %"
        return f"MedCLIPSeg {self.data.title}{share}"

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        data = self.data
        return (
            f"{data.structure.capitalize()} in the {data.picture}. MedCLIPSeg on "
            f"UniMedCLIP, trained by its authors on {self.percent} % of {data.title}."
        )

    @property
    def licence(self) -> str:
        """What is known of its terms."""
        return (
            f"Research use only; the authors' terms are at {HUB}/{self.repo}, those of "
            f"the images: {self.data.data_licence}"
        )

    @property
    def size(self) -> str:
        """Of the download, as a person says it."""
        return f"{self.size_bytes / 1e9:.1f} GB"


SETS = (
    ReleasedSet(
        name="BUSI",
        title="BUSI",
        modality="Ultrasound",
        organ="Breast",
        structure="breast tumor",
        picture="breast ultrasound image",
        data_licence="mirrors disagree, research use",
    ),
    ReleasedSet(
        name="BTMRI",
        title="BTMRI",
        modality="MRI",
        organ="Brain",
        structure="brain tumor",
        picture="brain MRI",
        data_licence="CC BY 4.0",
    ),
    ReleasedSet(
        name="ISIC",
        title="ISIC",
        modality="Dermatoscopy",
        organ="Skin",
        structure="skin melanoma",
        picture="dermatoscopy image",
        data_licence="CC0",
    ),
    ReleasedSet(
        name="Kvasir",
        title="Kvasir-SEG",
        modality="Endoscopy",
        organ="Colon",
        structure="polyp",
        picture="colonoscopy image",
        data_licence="research and education",
    ),
    ReleasedSet(
        name="Covid19",
        title="QaTa-COV19",
        modality="X-ray",
        organ="Chest",
        structure="pulmonary infection",
        picture="chest X-ray image",
        data_licence="as their source says",
    ),
    ReleasedSet(
        name="EUS",
        title="EUS",
        modality="Ultrasound",
        organ="Pancreas",
        structure="heterogeneous mass",
        picture="endoscopic ultrasound image",
        data_licence="as their source says",
    ),
)
RELEASED = tuple(
    Released(data=data, percent=percent) for data in SETS for percent in PERCENTS
)


def released(model_id: str) -> Released | None:
    """Return the released checkpoint of an id."""
    return next((each for each in RELEASED if each.model_id == model_id), None)


def released_at(path: Path) -> Released | None:
    """Return the released checkpoint whose path on the hub a file's path ends with."""
    place = path.resolve().as_posix()
    return next((each for each in RELEASED if place.endswith(f"/{each.file}")), None)
