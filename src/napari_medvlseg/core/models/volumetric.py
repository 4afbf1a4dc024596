"""What a volume predictor asks of a network.

Symbols: S draws, C channels of the logits, I x J x K voxels of a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class VolumeNetwork(Protocol):
    """A network that segments windows of a volume, asked in words."""

    @property
    def exclusive(self) -> bool:
        """Whether classes exclude one another: a softmax, with the background first.

        Else each text is a question of its own, with one channel and a sigmoid.
        """
        ...

    @property
    def samples(self) -> bool:
        """Whether two draws differ."""
        ...

    @property
    def width(self) -> int:
        """Channels at full resolution, which tell how much memory a draw takes."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move to a device."""
        ...

    def read(self, texts: Sequence[str], /) -> Any:
        """Return what no window touches of the texts, one a class."""
        ...

    def look(self, window: Tensor, words: Any, /) -> Any:
        """Return what no noise touches of a window (1, channels, I, J, K).

        Asked in the draws' precision, which a network may not want here.
        """
        ...

    def draw(self, seen: Any, draws: int, noise: NoiseSource, /) -> Tensor:
        """Return the logits of several draws, (S, C, I, J, K)."""
        ...
