"""The shape of a BiPVL-Seg network, saved beside its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import prod
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.config import NOISE_FORMS

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGES = 4
"""Of the vision encoder and of the text encoder alike."""
WIDTHS = {
    "swin-unetr": (48,),
    "swin-unetr-v2": (48,),
    "unetr": (16, 768),
    "unet": (32, 64, 128, 256, 320),
    "unet++": (32, 32, 64, 128, 256, 32),
}
"""Channels of each vision model, if no others are wanted: MONAI's own defaults, and
Swin UNETR's as in its paper."""
VISION_MODELS = tuple(WIDTHS)
WIDTH_STEPS = {"swin-unetr": 12, "swin-unetr-v2": 12, "unetr": 12}
"""Of the last width of these a multiple, for the heads of their attentions."""
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
        self._check_widths()
        steps = self.patch_steps
        if any(side % step for side, step in zip(self.patch, steps, strict=True)):
            msg = (
                f"patch must be multiples of {_commas(steps)} for {self.vision}, got "
                f"{_commas(self.patch)}"
            )
            raise ValueError(msg)

    def _check_widths(self) -> None:
        """Refuse channels that the vision model or the fusions cannot have."""
        usual = WIDTHS[self.vision]
        step = WIDTH_STEPS.get(self.vision, 1)
        if len(self.widths) != len(usual) or self.widths[-1] % step:
            rule = f", the last a multiple of {step}" if step > 1 else ""
            msg = (
                f"widths must be {len(usual)} of {self.vision}{rule}, such as "
                f"{_commas(usual)}, got {_commas(self.widths)}"
            )
            raise ValueError(msg)
        fused = [self.stage_channels[stage - 1] for stage in self.fused_stages]
        odd = [channels for channels in fused if channels % self.heads]
        if self.has_text and odd:
            msg = (
                f"heads must divide the channels of each fused stage, got {self.heads} "
                f"for {odd[0]}"
            )
            raise ValueError(msg)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Return the channels after each of the four stages."""
        if self.vision == "unetr":
            return (self.widths[1],) * STAGES
        if self.vision.startswith("swin"):
            return tuple(self.widths[0] * 2 ** (n + 1) for n in range(STAGES))
        return self.widths[1 : STAGES + 1]

    @property
    def patch_steps(self) -> tuple[int, ...]:
        """Return of what the sides of a patch must be multiples."""
        if self.vision == "unet":
            return tuple(prod(along) for along in zip(*self.strides, strict=True))
        return (32 if self.vision.startswith("swin") else 16,) * 3

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


def _commas(numbers: Sequence[int]) -> str:
    """Return numbers as one types them."""
    return ",".join(map(str, numbers))


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
