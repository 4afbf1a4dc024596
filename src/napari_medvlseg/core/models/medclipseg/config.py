"""Which MedCLIPSeg: its backbone, its ablations, and whom it follows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.backbones.tower_shapes import (
    BERT_VARIANTS,
    EVERY_VARIANT,
    SHAPES,
    VOLUME_VARIANT,
    TextShape,
    VisionShape,
)
from napari_medvlseg.core.models.medclipseg_choices import (
    ATTENTIONS,
    HEADS,
    ORDERS,
    POOLINGS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class MedCLIPSegConfig:
    """The shape and the settings of the network, saved in its bundle.

    The defaults are the paper's, and those of the released checkpoints.
    """

    variant: str = "unimedclip"
    """The CLIP that it adapts, one of `EVERY_VARIANT`."""
    compatible: bool = True
    """Whether to follow the authors' code where their paper reads otherwise: padding
    is attended to and always filled up, means are normalised and projections have
    biases, channels are BGR and resized without smoothing, patches of OpenAI's
    towers are the values of the last block, and the contrastive loss is theirs."""
    adapters: bool = True
    """Whether the towers are adapted at all."""
    layers: tuple[int, ...] = ()
    """Blocks, counted from 0, before which an adapter stands; empty is all but the
    first and the last, 1 to 10 of 12."""
    adapter_dim: int = 256
    """Channels of an adapter."""
    cross_attention: bool = True
    """Whether an adapter attends; without, it is two projections a stream."""
    deterministic: bool = False
    """Whether attention is ordinary: no variance of keys, none of values."""
    attention: str = "difference"
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
    """Which stream is updated first, for the other to see, one of `ORDERS`; ``none``
    lets both see the other as it came, ``unimodal`` lets each see itself."""
    upscale_blocks: int = 2
    """Each doubles the grid of patches."""
    pooling: str = "average"
    """What stands for the image in the contrastive loss, one of `POOLINGS`."""
    temperature: float = 0.2
    """Of the contrastive loss, and of pooling by attention; the paper's tau."""
    head: str = "mask"
    """``evidential`` gives a Beta distribution a pixel instead of draws."""
    vision: VisionShape | None = None
    """None is the variant's own."""
    text: TextShape | None = None
    """None is the variant's own."""

    def __post_init__(self) -> None:
        _check("variant", self.variant, EVERY_VARIANT)
        _check("attention", self.attention, ATTENTIONS)
        _check("order", self.order, ORDERS)
        _check("pooling", self.pooling, POOLINGS)
        _check("head", self.head, HEADS)
        vision, text = self.vision_shape, self.text_shape
        if self.has_volumes != (len(vision.image) == 3):
            msg = (
                f"expected an image_size of {3 if self.has_volumes else 2} sides for "
                f"{self.variant}, got {vision.image_size}"
            )
            raise ValueError(msg)
        depth = min(vision.layers, text.layers)
        layers = tuple(sorted(self.layers)) or tuple(range(1, depth - 1))
        object.__setattr__(self, "layers", layers)  # JSON: a list
        if vision.layers != text.layers:
            msg = (
                "expected two towers of one depth, got "
                f"{vision.layers} and {text.layers} layers"
            )
            raise ValueError(msg)
        if not all(0 <= layer < depth for layer in self.layers):
            msg = f"layers must be from 0 to {depth - 1}, got {self.layers}"
            raise ValueError(msg)
        if vision.embed_dim != text.embed_dim:
            msg = (
                "expected one space for image and text, got "
                f"{vision.embed_dim} and {text.embed_dim} channels"
            )
            raise ValueError(msg)
        if min(self.adapter_dim, self.upscale_blocks + 1) < 1 or self.beta < 0:
            msg = (
                "adapter_dim must be at least 1, upscale_blocks and beta at least 0, "
                f"got {self.adapter_dim}, {self.upscale_blocks} and {self.beta}"
            )
            raise ValueError(msg)

    @property
    def has_volumes(self) -> bool:
        """Whether it segments volumes, not pictures."""
        return self.variant == VOLUME_VARIANT

    @property
    def has_bert(self) -> bool:
        """Whether BERT reads the prompt; else OpenAI's text transformer does."""
        return self.variant in BERT_VARIANTS or self.has_volumes

    @property
    def vision_shape(self) -> VisionShape:
        """The sizes of the image tower."""
        return self.vision or SHAPES[self.variant][0]

    @property
    def text_shape(self) -> TextShape:
        """The sizes of the text tower."""
        return self.text or SHAPES[self.variant][1]

    @property
    def adapted_layers(self) -> tuple[int, ...]:
        """Blocks, counted from 0, before which an adapter stands; none without any."""
        return self.layers if self.adapters else ()

    @property
    def samples_values(self) -> bool:
        """Whether two draws differ."""
        attends = self.cross_attention and bool(self.adapted_layers)
        return attends and not self.deterministic

    @property
    def patches_are_values(self) -> bool:
        """Whether patches are the values of the last block."""
        return self.compatible and not self.has_bert

    def as_paper(self, **changes: Any) -> MedCLIPSegConfig:
        """Return these settings as the paper reads, for a model trained here."""
        return replace(self, compatible=False, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self) | {"layers": list(self.layers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MedCLIPSegConfig:
        """Return the configuration of a JSON file.

        Raises
        ------
        ValueError
            If a field is unknown or cannot be.
        """
        given = dict(values)
        if "num_upscale" in given:  # as the authors' configuration calls it
            given["upscale_blocks"] = given.pop("num_upscale")
        if "num_adapters" in given:
            given["layers"] = range(1, given.pop("num_adapters") + 1)
        unknown = sorted(set(given) - {field.name for field in fields(cls)})
        if unknown:
            msg = f"expected fields of MedCLIPSeg, got {', '.join(unknown)} too"
            raise ValueError(msg)
        for name, shape in (("vision", VisionShape), ("text", TextShape)):
            if given.get(name) is not None:
                given[name] = shape(**given[name])
        return cls(**given)


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
        raise ValueError(msg)
