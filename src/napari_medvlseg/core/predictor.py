"""A loaded promptable model, and what it remembers between runs.

Symbols: S draws, L words, h x w pixels of the network's input.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch.nn import functional

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.errors import CheckpointError, DeviceError
from napari_medvlseg.core.models.build import build_network, build_reader
from napari_medvlseg.core.name_book import load_names
from napari_medvlseg.core.reading import NameReader
from napari_medvlseg.core.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource
    from napari_medvlseg.core.models.promptable import (
        ImageFeatures,
        PromptableNetwork,
        PromptReader,
    )
    from napari_medvlseg.core.reading import Reading

REMEMBERED_PROMPTS = 256
REMEMBERED_PICTURES = 32
"""Some 2 to 4 MB each."""

T = TypeVar("T")


class Predictor:
    """A model on a device.

    Keeps the word vectors of prompts and the noise-free features of pictures, so that
    a second prompt on the same picture costs only the draws.

    Parameters
    ----------
    network : PromptableNetwork
    text : PromptReader
    card : ModelCard
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    precision : str
        ``auto``, ``float32`` or ``bfloat16``: of the draws. What is computed once is
        computed in float32, since bfloat16 there changes probabilities by up to 0.2.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        text: PromptReader,
        card: ModelCard,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.card = card
        self.network: PromptableNetwork = network.to(self.device)
        if self.precision == "bfloat16":
            self.network.lighten()
        self._text = text
        self._reader = NameReader(card, load_names(card.path), text.encode)
        self._words: _Recent[tuple[Tensor, Tensor]] = _Recent(REMEMBERED_PROMPTS)
        self._pyramids: _Recent[ImageFeatures] = _Recent(REMEMBERED_PICTURES)

    @classmethod
    def load(
        cls, model: str = "compact", *, device: str = "auto", precision: str = "auto"
    ) -> Predictor:
        """Load a model by its id or its bundle's folder.

        Raises
        ------
        CheckpointError
            If there is no such model, or it is damaged.
        DeviceError
            If the device is not there.
        """
        card = model_card(model)
        if card.volume is not None:
            msg = (
                f"expected a model of pictures, got {card.model_id}, which segments "
                "whole volumes; choose another, for instance compact"
            )
            raise CheckpointError(msg)
        network: Any = build_network(card)
        text = build_reader(card, network)
        return cls(network, text, card, device=device, precision=precision)

    def words(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return a prompt's projected words (1, L, D) and their mask (1, L).

        Raises
        ------
        PromptError
            If the prompt is empty, too long or in another script.
        """
        text = Prompt(prompt).text
        known = self._words.get(text)
        if known is None:
            pieces = self._text.encode(text)[None].to(self.device)
            with torch.inference_mode():
                words = self.network.encode_words(pieces)
                mask = self.network.word_mask(pieces)
            known = self._words.put(text, (words, mask))
        return known

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse a prompt that cannot be used, before anything is computed.

        Raises
        ------
        PromptError
            If one is empty, too long or in another script.
        """
        for prompt in prompts:
            self.words(prompt)

    def read(self, prompt: str) -> Reading:
        """Return what to ask the model for a prompt with a name that it may not know.

        Raises
        ------
        PromptError
            If the prompt is empty, too long or in another script.
        """
        return self._reader.read(Prompt(prompt).text)

    def pyramid(self, pixels: Tensor) -> ImageFeatures:
        """Return the noise-free features of a picture (3, h, w) in [-1, 1]."""
        key = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).hexdigest()
        known = self._pyramids.get(f"{key} {tuple(pixels.shape)}")
        if known is None:
            batch = pixels[None].to(self.device, memory_format=torch.channels_last)
            with torch.inference_mode():
                features = self.network.encode_image(batch)
            if self.precision == "bfloat16":
                features = features.light()
            known = self._pyramids.put(f"{key} {tuple(pixels.shape)}", features)
        return known

    def settle(
        self, pyramid: ImageFeatures, words: tuple[Tensor, Tensor]
    ) -> ImageFeatures:
        """Return a picture's features with all of a prompt that no draw changes.

        Computed in float32, as all that is computed once.
        """
        with torch.inference_mode():
            return self.network.settle(pyramid, *words)

    def draw(
        self,
        pyramid: ImageFeatures,
        words: tuple[Tensor, Tensor],
        count: int,
        noise: NoiseSource,
    ) -> Tensor:
        """Return the logits of several draws on the grid of the input, (S, h, w).

        Parameters
        ----------
        pyramid : ImageFeatures
            Of `pyramid`, or of `settle` with the same words, which is quicker.
        words : (1, L, D), (1, L)
        count : int
            Draws, S.
        noise : NoiseSource
        """
        vectors, mask = words
        with torch.inference_mode():
            with self._autocast():
                output = self.network.draw(
                    pyramid.expand(count),
                    vectors.expand(count, -1, -1),
                    mask.expand(count, -1),
                    noise,
                )
            logits = functional.interpolate(
                output.logits.float(),
                pyramid.input_size,
                mode="bilinear",
                align_corners=False,
            )
        return logits[:, 0].cpu()

    def believe(
        self, pyramid: ImageFeatures, words: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return mean probability and expected entropy of an evidential network.

        One pass, each (h, w) on the grid of the input.
        """
        vectors, mask = words
        with torch.inference_mode(), self._autocast():
            belief = self.network.believe(pyramid, vectors, mask)
            found = belief.probability[0, 0], belief.expected_entropy[0, 0]
        return found[0].float().cpu(), found[1].float().cpu()

    def forget(self) -> None:
        """Drop the remembered words and features."""
        self._words.clear()
        self.forget_pictures()

    def forget_pictures(self) -> None:
        """Drop the remembered features."""
        self._pyramids.clear()

    def _autocast(self) -> torch.autocast:
        """Return the context of the chosen precision."""
        enabled = self.precision == "bfloat16" and self.network.autocasts
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def choose_device(device: str) -> torch.device:
    """Return the device asked for; ``auto`` is the quickest that is there.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name, ok in there.items() if ok))
    if not there.get(device, False):
        usable = ", ".join(name for name, ok in there.items() if ok)
        msg = f"expected a device of this machine ({usable}), got {device!r}"
        raise DeviceError(msg)
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision asked for; ``auto`` is bfloat16 where it is quick."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        quick = torch.cuda.is_bf16_supported()
    else:
        quick = device.type == "cpu" and _cpu_is_quick_at_bfloat16()
    return "bfloat16" if quick else "float32"


def _cpu_is_quick_at_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices itself."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", dict)  # since 2.10
    capabilities: dict[str, object] = get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class _Recent(Generic[T]):
    """The values that were used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        """Return a value, if it is remembered."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: str, value: T) -> T:
        """Remember a value, and forget the one used longest ago."""
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
