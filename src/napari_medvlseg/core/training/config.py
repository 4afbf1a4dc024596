"""Every choice of a training run, saved beside its checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_medvlseg.core.config import check_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the compact model is trained."""

    start: str = ""
    """A bundle whose weights to start from; without one, ImageNet's for the encoder."""
    epochs: int = 50
    """Passes over the (weighted) data."""
    batch_size: int = 16
    """Images a step, over all processes."""
    learning_rate: float = 1.2e-3
    """Peak of the one-cycle schedule for the new layers (AdamW)."""
    encoder_rate: float = 0.4
    """The pretrained encoder's share of the learning rate."""
    where_rate: float = 20.0
    """Share of the learning rate for the words' places, which start at nothing."""
    weight_decay: float = 0.02
    """AdamW's."""
    contrastive_weight: float = 0.1
    """Of MedCLIPSeg's soft contrastive loss (its lambda)."""
    temperature: float = 0.2
    """Of the soft contrastive loss (its tau)."""
    likelihood_weight: float = 1.0
    """Of the cross-entropy, beside 1 for the overlap."""
    further_questions: float = 0.5
    """Share of the pictures that are asked about twice: for something else, in other
    words, with a wrong place or in words that mean nothing."""
    normal_weight: float = 2.0
    """How much more often pictures come up that show nothing to find."""
    healthy_pieces: float = 0.1
    """Share of the ultrasound pictures with a lesion of which a piece without it is
    cut."""
    borrowed_styles: float = 0.3
    """Share of the ultrasound pictures that get the shading or the histogram of
    another one."""
    fold: bool = False
    """Whether batch normalisation keeps its statistics: quicker, and good for small
    batches, but for a model that has learnt them."""
    strangers: tuple[str, ...] = ("CardiacCine", "Hippocampus")
    """Folders of volumes whose slices show nothing that is asked for."""
    strangers_per_volume: int = 2
    """Slices of each."""
    side_weight: float = 4.0
    """Loss weight of questions that only the word left or right decides."""
    sizes: tuple[int, ...] = (224, 256, 288, 256) * 25
    """Input sizes in pixels, each for an equal part of the run."""
    average_decay: float = 0.998
    """Of the running average of the weights that is saved, a step."""
    noise_form: str = "shared"
    """How draws differ: all tokens move together, each by itself (as in MedCLIPSeg), by
    dropout, or not at all."""
    noise_deviation: float = 0.0
    """Standard deviation of the values' noise at first, where the values' own is 1; 0
    is what the form has: 0.2 if shared, else the paper's 0.83. With --start the
    weights tell."""
    pixels_noise: tuple[float, ...] = ()
    """Factors of the noise of the pixels' values at the strides 32, 16 and 8; without,
    those of --start if its draws differ in the same way, else 1,1,1."""
    words_noise: tuple[float, ...] = ()
    """The same of the words' values."""
    dropout: float = 0.1
    """Of the values, if that is how draws differ."""
    draws: tuple[int, ...] = (0, 0, 0, 0, 2)
    """Draws of each picture a step, each for an equal part of the run; where there are
    several, the loss judges their mean probability, so that doubt may pay. 0 is one
    pass without noise."""
    precision: str = "bfloat16"
    """Of forward passes: bfloat16 or float32."""
    seed: int = 0
    """Of initial weights, order, augmentation, prompts and noise."""
    threads: int = 0
    """CPU threads; 0 is torch's own choice."""
    device: str = "cpu"
    """Where to train: auto, cpu, cuda or mps."""
    workers: int = 0
    """Processes that prepare the steps to come; 0 is this one."""
    encoder_drop: float = 0.1
    """Chance that a block of the encoder is left out of a step (stochastic depth)."""
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "BUSI": 1.8,
            "Kvasir": 1.5,
            "ISIC": 0.9,
            "BrainTumorT1C": 2.0,
            "ChestXrayLungs": 0.2,
            "Nuclei": 0.6,
            "WhiteBloodCells": 0.5,
            "RetinaVessels": 10.0,
            "CardiacCine": 0.5,
            "Hippocampus": 0.2,
        }
    )
    """Samples an epoch from each set, as a share of its cases; sets absent here: 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise_deviation < math.inf:
            msg = f"noise_deviation must be 0 or more, got {self.noise_deviation}"
            raise ValueError(msg)
        for name in ("pixels_noise", "words_noise"):
            if factors := getattr(self, name):
                check_noise(name, factors)
        if self.precision not in ("bfloat16", "float32"):
            msg = f"precision must be bfloat16 or float32, got {self.precision!r}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)
