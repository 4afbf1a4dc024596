"""Every choice of a BiPVL-Seg training run, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from napari_medvlseg.core.class_texts import TEXT_FORMATS, has_concepts
from napari_medvlseg.core.models.bipvlseg.config import (
    FUSION_FORMS,  # noqa: F401 - the help of the command line names its values
    NO_TEXT,
    SELF_ATTENTIONS,  # noqa: F401 - likewise
    STAGES,
    VISION_MODELS,
    WIDTHS,
    BiPVLConfig,
)
from napari_medvlseg.core.training.volumes.config import (
    LEAST,
    VolumeTrainConfig,
    check_choice,
    check_length,
    check_ranges,
)

TEXT_TRAININGS = ("all", "norms", "none")
ATTENTIONS = ("plain", "probabilistic")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentSettings:
    """How texts and images are aligned."""

    temperature: float = 0.2
    """tau"""
    noise: float = 0.01
    """Standard deviation of what is added to embeddings; the authors' code has it."""
    negatives: int = 3
    """Wrong classes that a concept is told from, the most similar ones; the authors'
    code has three."""
    global_weight: float = 1.0
    """alpha_1; 0 leaves the global alignment out."""
    local_weight: float = 1.0
    """alpha_2; 0 leaves the local alignment out."""
    positive_in_sum: bool = True
    """Whether the sum of equation 7 holds the right class too. As printed it does
    not; the loss can then be negative, and equation 15 has no minimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BiPVLTrainConfig(VolumeTrainConfig):
    """How BiPVL-Seg is trained; the defaults are the paper's, on AMOS22."""

    start: str = ""
    """With whose weights to begin: the folder of a finished run or of a bundle, or a
    model's id; empty begins anew."""
    sheet: str = "amos22-ct"
    """Classes in words: a sheet of the package, or a .csv or .json file."""
    text_format: str = "concepts"
    """One of `TEXT_FORMATS` (table 2)."""
    regions: str = ""
    """For classes that overlap, the labels of each: 2+3,1+2+3,2 for MSD-Brain."""
    labels: tuple[int, ...] = ()
    """Of the classes in their order, where they are not 1, 2 and so on: as MM-WHS has
    them for the presets -whs-ct and -whs-mr."""
    vision: str = "swin-unetr-v2"
    """One of `VISION_MODELS`."""
    widths: tuple[int, ...] = ()
    """Channels of the vision model: one number for Swin UNETR, two for UNETR, five for
    a U-Net, six for UNet++; without any its usual ones."""
    strides: tuple[int, ...] = (2,) * 12
    """Of the U-Net's four stages, three numbers each."""
    text: str = "clinicalbert"
    """Text encoder: clinicalbert, biobert, pubmedbert, minilm; none is the twin
    without text."""
    text_training: str = "all"
    """What of the text encoder learns, one of `TEXT_TRAININGS`."""
    fused_stages: tuple[int, ...] = (1, 2, 3, 4)
    """Stages with a BiFusion; 4 alone is late fusion (table 3)."""
    fusion_form: str = "prenorm"
    """One of `FUSION_FORMS`: equation 2 with what comes in added, or to the letter."""
    self_attention: str = "pooled"
    """Of the voxels, one of `SELF_ATTENTIONS`."""
    key_side: int = 6
    """Keys a side of the voxels' self-attention."""
    heads: int = 4
    """Attention heads of a fusion."""
    attention: str = "plain"
    """Across the modalities, one of `ATTENTIONS`; probabilistic is MedCLIPSeg's."""
    noise_form: str = "shared"
    """How draws differ if attention is probabilistic."""
    dropout: float = 0.1
    """Of the values, if that is how draws differ."""
    global_weight: float = 1.0
    """Of the global alignment (alpha 1); 0 leaves it out (table 3)."""
    local_weight: float = 1.0
    """Of the local alignment (alpha 2); 0 leaves it out (table 3)."""
    temperature: float = 0.2
    """Of the alignment (tau)."""
    negatives: int = 3
    """Most similar wrong classes of the local alignment (K)."""

    def __post_init__(self) -> None:
        VolumeTrainConfig.__post_init__(self)
        check_choice("vision", self.vision, VISION_MODELS)
        check_choice("text_format", self.text_format, TEXT_FORMATS)
        check_choice("text_training", self.text_training, TEXT_TRAININGS)
        check_choice("attention", self.attention, ATTENTIONS)
        check_length("strides", self.strides, 3 * STAGES)
        check_ranges(self, _RANGES)
        self._check_labels()
        self.network(1, 1)  # refuses what it cannot build

    def _check_labels(self) -> None:
        """Refuse what are no labels of classes."""
        values = self.labels
        if self.regions and values:
            msg = (
                "labels must be left out with regions, which name the labels of each "
                f"class, got {values}"
            )
            raise ValueError(msg)
        if min(values, default=1) < 1 or len(set(values)) < len(values):
            msg = f"labels must be whole numbers above 0 that differ, got {values}"
            raise ValueError(msg)
        parts = [part.split("+") for part in self.regions.split(",") if self.regions]
        numbers = [text.strip() for part in parts for text in part]
        if not all(text.isdecimal() and int(text) > 0 for text in numbers):
            msg = (
                "regions must be the labels of each class, with + within and commas "
                f"between, as in 2+3,1+2+3,2; got {self.regions!r}"
            )
            raise ValueError(msg)

    @property
    def label_regions(self) -> tuple[tuple[int, ...], ...]:
        """Return the labels of each overlapping class; none if they exclude."""
        return regions_of(self.regions)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Return what files call the labels 1, 2 and so on; none if the same."""
        return self.labels

    def network(self, classes: int, channels: int) -> BiPVLConfig:
        """Return the network for so many classes and channels of the image."""
        one, two, three = self.patch
        steps = self.strides
        return BiPVLConfig(
            classes=classes,
            channels=channels,
            overlapping=bool(self.regions),
            vision=self.vision,
            patch=(one, two, three),
            widths=self.widths or WIDTHS[self.vision],
            strides=tuple((steps[n], steps[n + 1], steps[n + 2]) for n in (0, 3, 6, 9)),
            text=self.text,
            fused_stages=() if self.text == NO_TEXT else self.fused_stages,
            fusion_form=self.fusion_form,
            self_attention=self.self_attention,
            key_side=self.key_side,
            heads=self.heads,
            probabilistic=self.attention == "probabilistic",
            noise_form=self.noise_form,
            dropout=self.dropout,
        )

    def alignment(self) -> AlignmentSettings:
        """Return how texts and images are aligned."""
        return AlignmentSettings(
            temperature=self.temperature,
            negatives=self.negatives,
            global_weight=self.global_weight,
            local_weight=self.local_weight * has_concepts(self.text_format),
        )


def regions_of(told: str) -> tuple[tuple[int, ...], ...]:
    """Return the labels of each class.

    >>> regions_of("2+3,1+2+3,2")
    ((2, 3), (1, 2, 3), (2,))
    """
    parts = told.split(",") if told else []
    return tuple(tuple(int(label) for label in part.split("+")) for part in parts)


MM_WHS_LABELS = (500, 600, 420, 550, 205, 820, 850)
"""Of left and right ventricle, left and right atrium, myocardium, ascending aorta and
pulmonary artery: the order of our sheets."""
_RANGES = {
    "strides": (1, math.inf),
    "key_side": (1, math.inf),
    "heads": (1, math.inf),
    "dropout": (0, 0.99),
    "global_weight": (0, math.inf),
    "local_weight": (0, math.inf),
    "temperature": (LEAST, math.inf),
    "negatives": (1, math.inf),
}
_PAPER = BiPVLTrainConfig()
_MR = replace(_PAPER, window=(0.0,))
_SMALL = replace(
    _PAPER,
    vision="unet",
    widths=(16, 32, 64, 96, 128),
    text="minilm",
    text_training="none",
    attention="probabilistic",
    spacing_mm=(0.0,),
    window=(0.0,),
    learning_rate=1e-3,
    final_learning_rate=1e-6,
    average_decay=0.995,
    rotation_degrees=(12.0, 12.0, 12.0),
    zoom=0.15,
)
PRESETS_3D = {
    "bipvlseg": _PAPER,
    "bipvlseg-whs-ct": replace(
        _PAPER, sheet="mm-whs-ct", labels=MM_WHS_LABELS, window=(0.0, 400.0)
    ),
    "bipvlseg-whs-mr": replace(_MR, sheet="mm-whs-mr", labels=MM_WHS_LABELS),
    "bipvlseg-brain": replace(
        _MR, sheet="msd-brain-mr", regions="2+3,1+2+3,2", spacing_mm=(1.0, 1.0, 1.0)
    ),
    "hippocampus-3d": replace(
        _SMALL,
        sheet="hippocampus-3d",
        patch=(48, 64, 48),
        flip_axes=(0,),  # the classes lie before and behind one another
        flipped_draws="R",
        epochs=30,
        final_learning_rate=4e-4,  # down to 1e-6, or longer, it learns by heart
        average_decay=0.998,
        batch_size=2,
    ),
    "cardiac-3d": replace(
        _SMALL,
        sheet="cardiac-3d",
        patch=(160, 160, 16),
        strides=(2, 2, 1, 2, 2, 1, 2, 2, 2, 2, 2, 2),
        flip_axes=(0, 1),
        flipped_draws="RA",
        rotation_degrees=(0.0, 0.0, 30.0),
        epochs=120,
        batch_size=2,
    ),
}
"""The rows of table 4, and our two small models."""
