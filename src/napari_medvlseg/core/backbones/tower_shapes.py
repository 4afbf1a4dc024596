"""The sizes of CLIP's towers; light to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The sizes of an image tower, in 2D or, given three sides, in 3D."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    patch_size: int | tuple[int, ...] = 16
    """Pixels a side, or voxels along each axis."""
    image_size: int | tuple[int, ...] = 224
    """Pixels a side, or voxels along each axis."""
    embed_dim: int = 512
    """Channels of the space that image and text share."""

    def __post_init__(self) -> None:
        for name in ("patch_size", "image_size"):
            value = getattr(self, name)
            if not isinstance(value, int):  # JSON: a list
                object.__setattr__(self, name, tuple(value))
        if len(self.patch) != len(self.image) or any(
            side % step for side, step in zip(self.image, self.patch, strict=True)
        ):
            msg = (
                "expected an image of whole patches, got image_size "
                f"{self.image_size} and patch_size {self.patch_size}"
            )
            raise ValueError(msg)

    @property
    def image(self) -> tuple[int, ...]:
        """Pixels or voxels along each axis."""
        return _sides(self.image_size)

    @property
    def patch(self) -> tuple[int, ...]:
        """Pixels or voxels of a patch along each axis."""
        return _sides(self.patch_size)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(
            side // step for side, step in zip(self.image, self.patch, strict=True)
        )


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


def _sides(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a square that is given by one number."""
    return (size, size) if isinstance(size, int) else size
