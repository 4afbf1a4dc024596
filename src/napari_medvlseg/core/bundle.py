"""Model bundles: folders that hold weights, configuration, card and figures.

Nothing in a bundle is unpickled or executed. This module does not import torch: it
answers what a menu asks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.config import cache_folder
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.released import released
from napari_medvlseg.core.staging import staged_folder
from napari_medvlseg.core.volume_spec import VolumeSpec
from napari_medvlseg.core.windows import parse_intensity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS = "model.safetensors"
FIRST = "compact"  # of all lists, and where no model is named
CONFIG = "config.json"
CARD = "card.md"
FIGURES = "figures.json"
SUMS = "SHA256SUMS"
FORMAT = 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that a model was taught to find."""

    name: str
    synonyms: tuple[str, ...]
    modality: str
    """The kind of picture, as it follows "in the"."""
    example: str
    """A full prompt that works well."""
    tiling: str
    """``"whole"`` or ``"tile"``: how a large picture is best segmented."""
    min_foreground: float | None = None
    """Share of a picture below which it is not found; None is the card's."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a 2D network takes."""

    size: int
    """Pixels a side to which a whole picture is resized."""
    tile: int
    """Pixels a side of a window of a large picture, at full resolution."""
    overlap: float
    """Share of a tile that its neighbour repeats."""
    mirror: bool = False
    """Whether every second draw sees the picture mirrored, and left and right
    exchanged in the prompt."""
    intensity: str = "auto"
    """Which grey values become black and white, as in `SegmentConfig`."""
    spacing_mm: tuple[float, ...] | None = None
    """Pixels of an upright picture (rows, columns), or voxels along R, A and S, that
    an image in mm is resampled to; None takes images as they are."""

    def __post_init__(self) -> None:
        parse_intensity(self.intensity)
        if self.spacing_mm is None:
            return
        edges = tuple(float(edge) for edge in self.spacing_mm)
        if len(edges) not in (2, 3) or not all(0 < edge < math.inf for edge in edges):
            msg = f"spacing_mm must be 2 or 3 lengths above 0, got {self.spacing_mm}"
            raise ValueError(msg)
        object.__setattr__(self, "spacing_mm", edges)  # JSON has lists only


NO_PICTURES = InputSpec(size=0, tile=0, overlap=0.0)
"""Of a model that takes volumes only."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a bundle says about its model."""

    model_id: str
    title: str
    summary: str
    licence: str
    intended_use: str
    concepts: tuple[Concept, ...]
    input: InputSpec
    min_foreground: float
    """Smallest share of a picture's pixels that counts as found."""
    doubtful_from: float | None
    """A segmentation's doubt from which it is called doubtful, in nats."""
    parameters: int
    """Trained ones."""
    network: Mapping[str, Any]
    """Architecture's name and configuration."""
    figures: Mapping[str, Any]
    sha256: str
    """Of the weights."""
    path: Path
    missing: tuple[str, ...] = ()
    """Files that the model needs and its folder lacks."""
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """How a prompt becomes numbers, where the network does not know it itself."""
    trained_on: tuple[str, ...] = ()
    """Data sets that it was trained on, by name; none if that is not told."""
    volume: VolumeSpec | None = None
    """Of a 3D model, which takes whole volumes; None takes pictures."""

    @property
    def network_sha256(self) -> str:
        """Of the network's configuration, which decides what the weights answer."""
        text = json.dumps(self.network, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def lack(self) -> str:
        """What has to be copied where to complete the model; empty if nothing."""
        if not self.missing:
            return ""
        names = ", ".join(self.missing)
        source = self.tokenizer.get("hub_id", "the model's source")
        return f"copy {names} of {source} (Hugging Face) to {self.path}"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of picture it knows."""
        return tuple(dict.fromkeys(concept.modality for concept in self.concepts))

    def concept_of(self, prompt: str) -> Concept | None:
        """Return the concept whose name or synonym is the longest in the prompt."""
        text = f" {prompt.lower()} "
        named = [
            (len(word), concept)
            for concept in self.concepts
            for word in (concept.name, *concept.synonyms)
            if word.lower() in text
        ]
        return max(named, key=lambda pair: pair[0])[1] if named else None

    def min_foreground_of(self, prompts: Sequence[str]) -> float:
        """Return the share of a picture below which these prompts find nothing.

        Of several prompts the smallest counts: a run has one.
        """
        shares = []
        for prompt in prompts:
            concept = self.concept_of(prompt)
            own = None if concept is None else concept.min_foreground
            shares.append(self.min_foreground if own is None else own)
        return min(shares, default=self.min_foreground)


def list_models() -> list[ModelCard]:
    """Return the cards of the models that are bundled or installed.

    One that is damaged is left out and logged: it must not hide the others.
    """
    found: dict[str, ModelCard] = {}
    for root in (root for root in _roots() if root.is_dir()):
        for folder in sorted(root.iterdir(), key=lambda f: (f.name != FIRST, f.name)):
            if (folder / CONFIG).is_file() and not folder.name.startswith("."):
                try:
                    found.setdefault(folder.name, read_card(folder))
                except CheckpointError as error:
                    _logger.warning("%s", error)
    return list(found.values())


def model_card(model: str) -> ModelCard:
    """Return the card of a model id, or of a bundle's folder.

    Raises
    ------
    CheckpointError
        If there is no such model, or its card is damaged.
    """
    for root in _roots():
        if model and Path(model).name == model and _is_file(root / model / CONFIG):
            return read_card(root / model)
    if _is_file(Path(model) / CONFIG):
        return read_card(Path(model))
    known = ", ".join(card.model_id for card in list_models()) or "none"
    msg = f"expected a model id ({known}) or the folder of a bundle, got {model!r}"
    if released(model) is not None:
        msg += f"; install it with: medvlseg models fetch {model}"
    elif _is_file(Path(model)):
        msg += f"; install it with: medvlseg models import {model}"
    raise CheckpointError(msg)


def _is_file(path: Path) -> bool:
    """Whether there is a file; there is none where nothing can have that name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def card_text(model: str) -> str:
    """Return the model card, in Markdown."""
    path = model_card(model).path / CARD
    return path.read_text(encoding="utf-8")


def read_card(folder: Path) -> ModelCard:
    """Read a bundle's configuration and figures.

    Raises
    ------
    CheckpointError
        If a file is absent or not as expected.
    """
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        msg = (
            f"{folder}: expected a bundle of format {FORMAT}, got "
            f"{config.get('format')!r}; update napari-medvlseg or export it again"
        )
        raise CheckpointError(msg)
    try:
        tokenizer = dict(config.get("tokenizer", {}))
        wanted = [str(tokenizer["file"])] if "file" in tokenizer else []
        volume = config.get("volume")
        return ModelCard(
            model_id=config["model_id"],
            title=config["title"],
            summary=config["summary"],
            licence=config["licence"],
            intended_use=config["intended_use"],
            concepts=tuple(
                Concept(**{**entry, "synonyms": tuple(entry["synonyms"])})
                for entry in config["concepts"]
            ),
            input=NO_PICTURES if volume else InputSpec(**config["input"]),
            min_foreground=float(config["min_foreground"]),
            doubtful_from=config.get("doubtful_from"),
            parameters=int(config["parameters"]),
            network=config["network"],
            figures=_read_json(folder / FIGURES),
            sha256=read_sums(folder)[WEIGHTS],
            path=folder,
            missing=tuple(name for name in wanted if not (folder / name).is_file()),
            tokenizer=tokenizer,
            trained_on=tuple(str(name) for name in config.get("trained_on", ())),
            volume=VolumeSpec.from_bundle(config) if volume else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{folder / CONFIG}: expected the fields of a bundle, {error} is wrong"
        raise CheckpointError(msg) from error


def verify(card: ModelCard) -> None:
    """Compare every file of a bundle with its SHA-256.

    Raises
    ------
    CheckpointError
        If a file is absent, cut off or changed.
    """
    if card.missing:
        msg = f"{card.model_id}: expected a complete model; {card.lack}"
        raise CheckpointError(msg)
    for name, expected in read_sums(card.path).items():
        path = card.path / name
        found = sha256_of(path) if path.is_file() else "nothing"
        if found != expected:
            msg = (
                f"{path}: expected SHA-256 {expected[:12]}, got {found[:12]}; "
                "the bundle is damaged, install it again"
            )
            raise CheckpointError(msg)


def write_bundle(
    folder: Path,
    *,
    weights: bytes,
    config: Mapping[str, Any],
    card: str,
    figures: Mapping[str, Any],
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle beside its place, then move it there.

    Parameters
    ----------
    folder : Path
        Is replaced if it holds a bundle.
    weights : bytes
        In the safetensors format.
    config, figures : mapping
    card : str
        Markdown.
    more : mapping, optional
        Contents of further files by their names.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    contents = {
        WEIGHTS: weights,
        CONFIG: to_json({"format": FORMAT, **config}),
        CARD: card.encode(),
        FIGURES: to_json(figures),
        **(more or {}),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    with staged_folder(folder) as staging:
        for name, data in contents.items():
            (staging / name).write_bytes(data)
        write_sums(staging, sums)


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write the SHA-256 of each file of a bundle."""
    (folder / SUMS).write_text(sums_text(sums), encoding="utf-8", newline="\n")


def sums_text(sums: Mapping[str, str]) -> str:
    """Return what ``SHA256SUMS`` holds."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def models_folder() -> Path:
    """Return where the user's own models are installed."""
    return cache_folder() / "models"


def packaged_folder() -> Path:
    """Return where the models lie that come with the package."""
    return Path(str(files("napari_medvlseg") / "bundles"))


def _roots() -> tuple[Path, ...]:
    """Where bundles lie: in the package, then in the user's cache."""
    return packaged_folder(), models_folder()


def to_json(value: Mapping[str, Any]) -> bytes:
    """Return readable JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a bundle."""
    return read_object(path, "a bundle's JSON file", CheckpointError)


def read_sums(folder: Path) -> dict[str, str]:
    """Return the expected SHA-256 by file name.

    Raises
    ------
    CheckpointError
        If there is no such list, or it does not name the weights.
    """
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        msg = f"{folder / SUMS}: expected the hashes of a bundle ({error})"
        raise CheckpointError(msg) from error
    return parse_sums(text, folder)


def parse_sums(text: str, source: Path) -> dict[str, str]:
    """Return the expected SHA-256 by file name, from the text of such a list.

    Raises
    ------
    CheckpointError
        If it does not name the weights.
    """
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    sums = {pair[1].strip(): pair[0] for pair in pairs if len(pair) == 2}
    if WEIGHTS not in sums:
        msg = f"{source / SUMS}: expected a line for {WEIGHTS}, found none"
        raise CheckpointError(msg)
    return sums
