"""Every choice of a MedCLIPSeg training run, and the defaults of each backbone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_medvlseg.core.backbones.tower_shapes import SHAPES, VARIANTS
from napari_medvlseg.core.config import DEVICES, PRECISIONS
from napari_medvlseg.core.models.medclipseg_choices import (
    ATTENTIONS,
    HEADS,
    ORDERS,
    POOLINGS,
)

AUGMENTATIONS = ("rotation", "full", "none")
AUTHORS_FLOOR = 1e-4
"""Where the authors' cosine ends; the paper names no such rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MedCLIPSegTrainConfig:
    """How MedCLIPSeg is trained; the defaults are the paper's."""

    backbone: str = "unimedclip"
    """One of `VARIANTS`; small is a ViT from random weights beside MiniLM."""
    pretrained: str = ""
    """Weights of the two towers: CLIP's own file (.pt, .pth, .bin or .safetensors), an
    authors' checkpoint, a model id or the folder of a bundle. Without any, towers start
    from random weights."""
    start: str = ""
    """A model id or bundle whose whole network to go on from."""
    tokenizer: str = ""
    """Folder with BiomedBERT's vocab.txt; without one, the bundle that training starts
    from, or the Hugging Face cache."""
    fraction: int = 100
    """Percent of each set's training pictures: those of the sheet Train_text_10.xlsx
    (25, 50) if the set has it, else drawn by the seed."""
    train_encoders: bool | None = None
    """Whether the towers learn; None is each tensor that starts from random weights."""
    compatible: bool = False
    """Whether to follow the authors' code where their paper reads otherwise: Dice by
    rows, swapped targets, text that is not normalised, a learning rate that falls by
    epochs to 1e-4, BERT's dropout though it is frozen, and the network's own part."""
    augmentation: str = "rotation"
    """One of `AUGMENTATIONS`: up to 20 degrees for half the pictures, as the authors;
    or flips with words that follow, zoom, shift and appearance as well."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int = 24
    """Pictures a step."""
    accumulate: int = 1
    """Parts that a step's pictures are computed in, for small memory; the contrastive
    loss then compares the pictures of a part."""
    learning_rate: float = 3e-4
    """Where the cosine begins (Adam)."""
    warmup: float = 0.0
    """Share of the steps in which the rate rises to it."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient; 0 is any."""
    segmentation_weight: float = 0.5
    """Of Dice and of BCE each; 0 trains without masks (appendix R)."""
    contrastive_weight: float = 0.1
    """Of the soft contrastive loss."""
    temperature: float = 0.2
    """tau of the soft contrastive loss."""
    hard_targets: bool = False
    """Whether a picture's own prompt is the only one that fits it."""
    pooling: str = "average"
    """What stands for the picture in the contrastive loss, one of `POOLINGS`."""
    adapters: bool = True
    """Whether the towers are adapted at all."""
    layers: tuple[int, ...] = ()
    """Blocks, from 0, before which an adapter stands; none given: all but the first
    and the last."""
    adapter_dim: int = 256
    """Channels of an adapter."""
    cross_attention: bool = True
    """Whether an adapter attends; without, it is two projections a stream."""
    deterministic: bool = False
    """Whether attention is ordinary, without variances."""
    weighting: str = "difference"
    """How the variance of keys lowers attention, one of `ATTENTIONS`."""
    beta: float = 2.35
    """How strongly it does."""
    gate: bool = True
    """Whether a learnt gate mixes what was attended with what was there."""
    gate_start: float = 0.0
    """What the gate starts from, before its sigmoid."""
    adapt_vision: bool = True
    """Whether the image's stream is adapted."""
    adapt_text: bool = True
    """Whether the text's stream is adapted."""
    order: str = "vision_first"
    """Which stream is updated first, one of `ORDERS`; none: both see the other as it
    came, unimodal: each sees itself."""
    upscale_blocks: int = 2
    """Each doubles the grid of patches."""
    head: str = "mask"
    """One of `HEADS`; evidential tells its doubt in one pass, with deterministic
    attention (appendix S)."""
    validate_every: int = 1
    """Epochs between looks at the validation cases."""
    precision: str = "auto"
    """Of forward passes, one of `PRECISIONS`."""
    seed: int = 0
    """Of initial weights, shares, order, augmentation and noise."""
    threads: int = 0
    """CPU threads; 0 is torch's own choice."""
    device: str = "cpu"
    """Where to train: auto, cpu, cuda or mps."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name, choices in (
            ("backbone", VARIANTS),
            ("augmentation", AUGMENTATIONS),
            ("pooling", POOLINGS),
            ("weighting", ATTENTIONS),
            ("order", ORDERS),
            ("head", HEADS),
            ("precision", PRECISIONS),
            ("device", DEVICES),
        ):
            value = getattr(self, name)
            if value not in choices:
                msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
                raise ValueError(msg)
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Refuse numbers that cannot be."""
        last = SHAPES[self.backbone][0].layers - 1
        for name, low, high in (
            ("fraction", 1, 100),
            ("epochs", 1, 10**6),
            ("batch_size", 1, 10**6),
            ("accumulate", 1, self.batch_size),
            ("validate_every", 1, 10**6),
            ("adapter_dim", 1, 10**6),
            ("upscale_blocks", 0, 5),
            ("temperature", 1e-6, 10**6),
            ("warmup", 0, 1),
            ("beta", 0, 10**6),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"{name} must be from {low} to {high}, got {value}"
                raise ValueError(msg)
        if not all(0 <= layer <= last for layer in self.layers):
            msg = f"layers must be from 0 to {last}, got {self.layers}"
            raise ValueError(msg)
        if self.pretrained and self.start:
            msg = "pretrained gives the towers, start the whole network; give one"
            raise ValueError(msg)

    def network(self) -> dict[str, Any]:
        """Return the fields of the network's own configuration."""
        return {
            "variant": self.backbone,
            "compatible": self.compatible,
            "adapters": self.adapters,
            "layers": list(self.layers),
            "adapter_dim": self.adapter_dim,
            "cross_attention": self.cross_attention,
            "deterministic": self.deterministic or self.head == "evidential",
            "attention": self.weighting,
            "beta": self.beta,
            "gate": self.gate,
            "gate_start": self.gate_start,
            "adapt_vision": self.adapt_vision,
            "adapt_text": self.adapt_text,
            "order": self.order,
            "upscale_blocks": self.upscale_blocks,
            "pooling": self.pooling,
            "temperature": self.temperature,
            "head": self.head,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self) | {"layers": list(self.layers)}


BACKBONES = {
    **{name: MedCLIPSegTrainConfig(backbone=name) for name in VARIANTS},
    "small": MedCLIPSegTrainConfig(
        backbone="small",
        augmentation="full",
        epochs=36,
        learning_rate=6e-4,
        warmup=0.05,
        clip_norm=1.0,
        adapter_dim=96,
    ),
}
"""The defaults by backbone: the paper's for towers that are pretrained, ours for the
small pair, which has to learn from a thousand pictures what a picture is."""
