"""Every choice of a training of MedCLIPSeg on volumes, and the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from napari_medvlseg.core.backbones.tower_shapes import (
    VOLUME_VARIANT,
    TextShape,
    VisionShape,
)
from napari_medvlseg.core.class_texts import ClassSheet, ClassText
from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig
from napari_medvlseg.core.training.volumes.config import (
    VolumeTrainConfig,
    check_choice,
    check_length,
)

MINILM = "minilm"
TEXTS_3D = (MINILM, "bert")
WORDINGS = ("{0}", "the {0}", "{0} in the {1}", "segment the {0}", "the {0} in a {1}")
"""How a structure {0} in a kind of picture {1} is asked for."""


class Structure(NamedTuple):
    """What a prompt names, and the labels that mark it."""

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MedCLIPVolumeConfig(VolumeTrainConfig):
    """How MedCLIPSeg is trained on volumes; the defaults are the small network's."""

    structures: str = "hippocampus=1+2,anterior hippocampus=1,posterior hippocampus=2"
    """What prompts name, and the labels of each."""
    picture: str = "brain MRI"
    """What the volumes are, for prompts."""
    towers: str = ""
    """File of M3D-CLIP's published weights, for preset medclipseg-3d-m3dclip."""
    train_encoders: bool = True
    """Whether the image tower and the texts' projection learn, as they must from a
    random start; BERT itself never does."""
    text: str = MINILM
    """Text tower, one of `TEXTS_3D`: MiniLM, or a BERT as large as the image tower."""
    width: int = 192
    """Channels of the image tower."""
    blocks: int = 6
    """Of each tower; MiniLM has 6."""
    vision_heads: int = 6
    """Of the image tower's attention."""
    cell: tuple[int, ...] = (4, 4, 4)
    """Voxels that are one token."""
    shared_dim: int = 64
    """Channels of the space that voxels and texts share."""
    adapted: tuple[int, ...] = (1, 2, 3, 4)
    """Blocks, from 0, before which an adapter stands."""
    adapter_dim: int = 64
    """Channels of an adapter."""
    upscale_blocks: int = 2
    """Each doubles the grid of tokens; the rest is trilinear."""
    beta: float = 2.35
    """How strongly attention shuns uncertain keys."""
    contrastive_weight: float = 0.1
    """Of the soft contrastive loss."""
    temperature: float = 0.2
    """Of the soft contrastive loss (tau)."""

    def __post_init__(self) -> None:
        VolumeTrainConfig.__post_init__(self)
        check_choice("text", self.text, TEXTS_3D)
        check_length("cell", self.cell, 3)
        self.asked  # noqa: B018 - refuses what it cannot read
        self.network()  # likewise

    @property
    def asked(self) -> tuple[Structure, ...]:
        """Return what `structures` tells.

        Raises
        ------
        ValueError
            If it is not NAME=LABEL+LABEL, with commas between.
        """
        try:
            pairs = (part.split("=") for part in self.structures.split(","))
            found = tuple(
                Structure(name.strip(), tuple(int(x) for x in labels.split("+")))
                for name, labels in pairs
            )
        except ValueError as error:
            msg = (
                "structures must be NAME=LABEL+LABEL with commas between, got "
                f"{self.structures!r}"
            )
            raise ValueError(msg) from error
        if not all(name and min(labels) > 0 for name, labels in found):
            msg = f"structures must have names and labels above 0, got {found}"
            raise ValueError(msg)
        ClassSheet(tuple(ClassText(title=each.name) for each in found))  # names differ
        return found

    def network(self) -> MedCLIPSegConfig:
        """Return the network."""
        vision = VisionShape(
            width=self.width,
            layers=self.blocks,
            heads=self.vision_heads,
            patch_size=self.cell,
            image_size=self.patch,
            embed_dim=self.shared_dim,
        )
        width, layers, heads = self.width, self.blocks, self.vision_heads
        if self.text == MINILM:
            width, layers, heads = 384, 6, 12
        text = TextShape(
            width=width,
            layers=layers,
            heads=heads,
            max_tokens=128,
            embed_dim=self.shared_dim,
        )
        return MedCLIPSegConfig(
            variant=VOLUME_VARIANT,
            compatible=False,
            layers=self.adapted,
            adapter_dim=self.adapter_dim,
            beta=self.beta,
            upscale_blocks=self.upscale_blocks,
            temperature=self.temperature,
            vision=vision,
            text=text,
        )


PRESETS_MEDCLIP_3D = {
    "medclipseg-3d": MedCLIPVolumeConfig(
        patch=(40, 56, 44),
        upscale_blocks=1,  # a second one would take most of a step
        spacing_mm=(0.0,),
        window=(0.0,),
        flip_axes=(0,),  # the classes lie before and behind one another
        flipped_draws="R",
        rotation_degrees=(12.0, 12.0, 12.0),
        zoom=0.15,
        epochs=36,
        validate_every=6,
        batch_size=2,
        learning_rate=6e-4,
        final_learning_rate=1e-6,
        weight_decay=0.01,
        average_decay=0.995,
    ),
    "medclipseg-3d-m3dclip": MedCLIPVolumeConfig(
        structures="liver=1",
        picture="abdominal CT",
        train_encoders=False,
        text="bert",
        width=768,
        blocks=12,
        vision_heads=12,
        cell=(4, 16, 16),
        shared_dim=768,
        adapted=tuple(range(1, 11)),
        adapter_dim=256,
        patch=(32, 256, 256),
        resized=True,
        orientation="SPL",
        min_max=True,
        spacing_mm=(0.0,),
        window=(0.0,),
        flip_axes=(),
        epochs=100,
        batch_size=4,
        learning_rate=3e-4,
        final_learning_rate=1e-4,
        weight_decay=0.0,
    ),
}
"""A small network from a random start, and appendix F's on M3D-CLIP."""
