"""The sizes of CLIP's towers; light to import."""

from __future__ import annotations

from dataclasses import dataclass

BERT_VARIANTS = ("unimedclip", "biomedclip", "small")
"""Their text tower is BERT; the others have OpenAI's."""
VARIANTS = (*BERT_VARIANTS, "clip", "pubmedclip")
"""The CLIPs that MedCLIPSeg adapts: four published ones, and a small pair whose image
tower is trained here from random weights."""
VOLUME_VARIANT = "m3dclip"
"""M3D-CLIP, for volumes (appendix F); BERT is its text tower."""
EVERY_VARIANT = (*VARIANTS, VOLUME_VARIANT)


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
    stem: tuple[int, ...] = ()
    """Channels of convolutions that halve the picture before the last one gives the
    patches; without any, patches are cut out, as the published towers do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stem", tuple(self.stem))  # JSON: a list
        if self.stem and 2 ** (len(self.stem) + 1) != self.patch_size:
            msg = (
                f"expected a stem that shrinks {self.patch_size} times, got one of "
                f"{len(self.stem) + 1} halvings"
            )
            raise ValueError(msg)
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


SMALL_VISION = VisionShape(
    width=192,
    layers=6,
    heads=3,
    patch_size=8,
    image_size=128,
    embed_dim=128,
    stem=(32, 64),
)
"""Some three million parameters. Convolutions before the blocks let a tower learn from
a thousand pictures (Xiao et al., Early Convolutions Help Transformers See Better)."""
SMALL_TEXT = TextShape(width=384, layers=6, heads=12, embed_dim=128)
"""That of MiniLM-L6, which comes with the package."""
SHAPES: dict[str, tuple[VisionShape, TextShape]] = {
    "unimedclip": (VisionShape(), TextShape()),
    "biomedclip": (VisionShape(), TextShape()),
    "clip": (
        VisionShape(),
        TextShape(width=512, heads=8, vocabulary=49408, max_tokens=77),
    ),
    "pubmedclip": (
        VisionShape(patch_size=32),
        TextShape(width=512, heads=8, vocabulary=49408, max_tokens=77),
    ),
    "small": (SMALL_VISION, SMALL_TEXT),
    VOLUME_VARIANT: (
        VisionShape(patch_size=(4, 16, 16), image_size=(32, 256, 256), embed_dim=768),
        TextShape(max_tokens=128, embed_dim=768),
    ),
}
"""The towers of each variant."""
