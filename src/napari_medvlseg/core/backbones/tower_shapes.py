"""The sizes of CLIP's towers; light to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The sizes of an image tower."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    patch_size: int = 16
    image_size: int = 224
    """Pixels a side."""
    embed_dim: int = 512
    """Channels of the space that image and text share."""

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """The sizes of a text tower."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    vocabulary: int = 30522
    max_tokens: int = 256
    embed_dim: int = 512
    """Channels of the space that image and text share."""
