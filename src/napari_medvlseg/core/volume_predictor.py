"""A loaded 3D model, and what it remembers between runs.

Symbols: S draws, C channels of the logits, i x j x k voxels of a window.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.class_sentences import choose_asked
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.predictor import choose_device, choose_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource
    from napari_medvlseg.core.models.volumetric import VolumeNetwork
    from napari_medvlseg.core.volume_spec import VolumeSpec

CPU_BYTES = 2**29
"""Of memory that the draws of a batch may take, where no GPU tells how much it has:
larger tensors come fresh from the system each time, which costs more than is won."""
MEMORY = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells of the memory, and of a container's limit."""
ALIVE = 8
"""Tensors as large as a window times the network's width that a draw holds at once."""


class VolumePredictor:
    """A 3D model on a device.

    Parameters
    ----------
    network : VolumeNetwork
    card : ModelCard
        Of a bundle with a `VolumeSpec`.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    precision : str
        ``auto``, ``float32`` or ``bfloat16``: of the draws, and of what is computed
        once a window where the network's answers do not suffer. Texts are read in
        float32.

    Raises
    ------
    CheckpointError
        If the card is of a model of pictures.
    """

    def __init__(
        self,
        network: VolumeNetwork,
        card: ModelCard,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if card.volume is None:
            msg = f"{card.path}: expected a model of volumes, got one of pictures"
            raise CheckpointError(msg)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.card = card
        self.spec: VolumeSpec = card.volume
        self.network: VolumeNetwork = network.to(self.device)
        self._words: tuple[tuple[str, ...], Any] | None = None

    @classmethod
    def load(
        cls, model: str, *, device: str = "auto", precision: str = "auto"
    ) -> VolumePredictor:
        """Load a model by its id or its bundle's folder.

        Raises
        ------
        CheckpointError
            If there is no such model, or it is damaged.
        DeviceError
            If the device is not there.
        """
        # Brings MONAI's networks, which take a second: not for models of pictures.
        from napari_medvlseg.core.models.build_volumes import build_volume_network

        card = model_card(model)
        network = build_volume_network(card)
        return cls(network, card, device=device, precision=precision)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that name what the model does not know.

        Raises
        ------
        PromptError
            If one does, or none names anything.
        """
        choose_asked(self.spec, self.spec.names, prompts)

    def words(self, texts: Sequence[str]) -> Any:
        """Return what no window touches of the classes' texts; remembers the last."""
        key = tuple(texts)
        if self._words is None or self._words[0] != key:
            with torch.inference_mode():
                self._words = key, self.network.read(key)
        return self._words[1]

    def look(self, window: Tensor, words: Any) -> Any:
        """Return what no noise touches of a window (1, channels, i, j, k)."""
        with torch.inference_mode(), self._autocast():
            return self.network.look(window.to(self.device), words)

    def draw(self, seen: Any, draws: int, noise: NoiseSource) -> Tensor:
        """Return the logits of several draws, (S, C, i, j, k) float32."""
        with torch.inference_mode(), self._autocast():
            return self.network.draw(seen, draws, noise).float()

    def fitting_batch(self, wanted: int) -> int:
        """Return how many draws of a window fit into memory, at most those wanted."""
        one, two, three = self.spec.patch
        each = 4 * ALIVE * self.network.width * one * two * three
        most = min(CPU_BYTES, free_bytes() // 2)
        if self.device.type == "cuda":
            most = torch.cuda.mem_get_info(self.device)[0] // 2
        return max(1, min(wanted, most // each))

    def forget(self) -> None:
        """Drop the remembered words."""
        self._words = None

    def _autocast(self) -> torch.autocast:
        """Return the context of the chosen precision."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def free_bytes() -> int:
    """Return how much memory this process may still take, as far as that is told."""
    available = _told(MEMORY, "MemAvailable:")
    free = 2 * CPU_BYTES if available is None else 1024 * available
    limit, used = (_told(GROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        cached = _told(GROUP / "memory.stat", "inactive_file") or 0  # is given up
        free = min(free, limit - used + cached)
    return max(free, 0)


def _told(path: Path, name: str = "") -> int | None:
    """Return the number after a name in a file of the system, if there is one."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}\s*(\d+)", text, re.MULTILINE)
    return None if found is None else int(found[1])
