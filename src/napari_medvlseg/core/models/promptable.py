"""What a predictor asks of a promptable network and of what reads its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class ImageFeatures(Protocol):
    """What no noise touches of an image."""

    @property
    def input_size(self) -> tuple[int, ...]:
        """Pixels or voxels of the network's input along each axis."""
        ...

    def expand(self, batch: int, /) -> Self:
        """Repeat one image for a batch of draws without copying it."""
        ...

    def light(self) -> Self:
        """Return what draws in bfloat16 start from."""
        ...


class Drawn(Protocol):
    """What a draw gives; the losses of training want more."""

    @property
    def logits(self) -> Tensor:
        """Return (B, 1, h, w)."""
        ...


class Belief(Protocol):
    """A distribution of the probability of every pixel, from one pass."""

    @property
    def probability(self) -> Tensor:
        """Return its mean, (B, 1, h, w)."""
        ...

    @property
    def expected_entropy(self) -> Tensor:
        """Return the mean entropy in nats, (B, 1, h, w)."""
        ...


class PromptReader(Protocol):
    """Turns a prompt into what the network encodes."""

    def encode(self, prompt: str, /) -> Tensor:
        """Return word pieces as ids (L,) or vectors (L, D)."""
        ...


class PromptableNetwork(Protocol):
    """A network that segments what a prompt names."""

    autocasts: bool
    """Whether draws in bfloat16 are left to autocast."""
    plain: bool
    """Whether draws compute all that the published code does, needed or not."""

    @property
    def smooths(self) -> bool:
        """Whether pictures are smoothed before they shrink."""
        ...

    @property
    def samples(self) -> bool:
        """Whether two draws differ."""
        ...

    @property
    def evidential(self) -> bool:
        """Whether one pass tells how unsure it is; such a network has `believe`."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move to a device."""
        ...

    def lighten(self) -> None:
        """Hold in bfloat16 what draws need, unless they are left to autocast."""
        ...

    def encode_image(self, pixels: Tensor, /) -> ImageFeatures:
        """Return the noise-free features of RGB (B, 3, H, W) in [-1, 1]."""
        ...

    def encode_words(self, words: Tensor, /) -> Tensor:
        """Return the noise-free features of word pieces."""
        ...

    def word_mask(self, words: Tensor, /) -> Tensor:
        """Return where the word pieces are no padding, (B, L)."""
        ...

    def settle(self, image: Any, words: Tensor, mask: Tensor, /) -> ImageFeatures:
        """Return an image's features with all of a prompt that no draw changes.

        `draw` takes them instead of the image's own, with the same words.
        """
        ...

    def draw(
        self, image: Any, words: Tensor, mask: Tensor, noise: NoiseSource, /
    ) -> Drawn:
        """Return one opinion for each entry of the batch."""
        ...

    def believe(self, image: Any, words: Tensor, mask: Tensor, /) -> Belief:
        """Return what the evidence says, on the grid of the input."""
        ...
