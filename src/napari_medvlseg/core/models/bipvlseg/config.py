"""The shape of a BiPVL-Seg network, saved beside its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_medvlseg.core.config import NOISE_FORMS

STAGES = 4
"""Of the vision encoder and of the text encoder alike."""
VISION_MODELS = ("swin-unetr", "swin-unetr-v2", "unetr", "unet", "unet++")
FUSION_FORMS = ("prenorm", "paper")
SELF_ATTENTIONS = ("pooled", "windowed")
NO_TEXT = "none"
"""As `BiPVLConfig.text`: the vision model alone, the text-free twin."""
Sides = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BiPVLConfig:
    """How a BiPVL-Seg network is built."""

    classes: int
    """Structures, without the background."""
    channels: int = 1
    """Of the image: 1, or for instance 4 MR sequences."""
    overlapping: bool = False
    """Whether the structures may overlap (a sigmoid each); else a softmax over them
    and the background."""
    vision: str = "swin-unetr"
    """One of `VISION_MODELS`."""
    patch: Sides = (96, 96, 96)
    """Voxels that the network is shown at once (UNETR takes no other size)."""
    widths: tuple[int, ...] = (48,)
    """Channels: the first of Swin UNETR (a multiple of 12), UNETR's two (decoder and
    transformer), or a U-Net's five, UNet++ with a sixth for its last layer."""
    strides: tuple[Sides, ...] = ((2, 2, 2),) * STAGES
    """Of the U-Net's four stages along each axis; the others halve all axes."""
    text: str = "clinicalbert"
    """A name of `TEXT_ENCODERS`, or none: the text-free twin."""
    fused_stages: tuple[int, ...] = (1, 2, 3, 4)
    """Stages that have a BiFusion, 1 to 4; (4,) is the ablation's late fusion."""
    fusion_form: str = "prenorm"
    """``paper``: equation 2 to the letter, which keeps nothing of what comes into the
    self-attentions; ``prenorm``: with it added to them, and a norm before each
    attention."""
    self_attention: str = "pooled"
    """Of the voxels: each attends to at most `key_side`^3 averages of the whole
    volume (pooled) or to the voxels of its window of that size (windowed)."""
    key_side: int = 6
    """Keys a side of the voxels' self-attention."""
    heads: int = 4
    """Of each attention."""
    probabilistic: bool = False
    """Whether the cross-attentions take MedCLIPSeg's form, so that draws differ."""
    uncertainty_penalty: float = 2.35
    """MedCLIPSeg's beta."""
    noise_form: str = "shared"
    """How draws differ, one of `NOISE_FORMS`."""
    dropout: float = 0.1
    """Of the values, if that is how draws differ."""
    class_grid: Sides = (3, 3, 3)
    """To which a class's map is averaged before its projection; that of a 96^3 patch
    is as large."""
    embedding_dim: int = 128
    """Of the space in which texts and images are aligned."""

    def __post_init__(self) -> None:
        _check_choice("vision", self.vision, VISION_MODELS)
        _check_choice("fusion_form", self.fusion_form, FUSION_FORMS)
        _check_choice("self_attention", self.self_attention, SELF_ATTENTIONS)
        _check_choice("noise_form", self.noise_form, NOISE_FORMS)
        if self.classes < 1:
            msg = f"classes must be at least 1, got {self.classes}"
            raise ValueError(msg)
        if not set(self.fused_stages) <= set(range(1, STAGES + 1)):
            msg = f"fused_stages must be among 1 to {STAGES}, got {self.fused_stages}"
            raise ValueError(msg)

    @property
    def output_channels(self) -> int:
        """Return the channels of the logits: the background has one in a softmax."""
        return self.classes if self.overlapping else self.classes + 1

    @property
    def has_text(self) -> bool:
        """Return whether words are read at all."""
        return self.text != NO_TEXT

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> BiPVLConfig:
        """Return the configuration in a JSON file, whose lists were tuples."""
        known = {field.name for field in fields(cls)}
        if not set(told) <= known:
            unknown = ", ".join(sorted(set(told) - known))
            msg = f"expected the fields of BiPVLConfig, got {unknown}"
            raise ValueError(msg)
        return cls(**{name: _as_tuple(value) for name, value in told.items()})


def _as_tuple(value: object) -> Any:
    """Return lists, and lists in them, as tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuple(item) for item in value)
    return value


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
        raise ValueError(msg)
