"""The loop of trainings on volumes: resumable, seeded, logged, in one process or more.

What is trained, on what loss, and how it is validated say `VolumeRun`'s children.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.training.bipvlseg.data import Volume, prepare
from napari_medvlseg.core.training.bipvlseg.start import WEIGHTS
from napari_medvlseg.core.training.loop import TrainingLoop
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.plans import step_seed
from napari_medvlseg.core.training.volumes.patches import StepPatches
from napari_medvlseg.core.volume_sets import volume_cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_medvlseg.core.training.loop import Part, Record, Recorded
    from napari_medvlseg.core.training.processes import Processes
    from napari_medvlseg.core.training.volumes.config import VolumeTrainConfig

CLIP_NORM = 5.0


class VolumeRun(TrainingLoop):
    """Everything that changes while training.

    Parameters
    ----------
    data : Path
        A folder of labelled volumes, as `volume_cases` describes it.
    output : Path
    config : VolumeTrainConfig
    processes : Processes

    Raises
    ------
    DatasetError
        If there is nothing to train on, or labels have no class.
    """

    def __init__(
        self, data: Path, output: Path, config: VolumeTrainConfig, processes: Processes
    ) -> None:
        self.config = config
        self.rows = processes.rows(config.batch_size)
        self.train, self.validation = _load(data, config)
        volumes = (*self.train, *self.validation)
        self.check_labels(data, max(int(volume.label.max()) for volume in volumes))
        self.data = {
            "folder": data.resolve().name,
            "volumes": len(self.train),
            "validation_volumes": len(self.validation),
        }
        super().__init__(output, self.all_settings(), processes)
        self.objective: Any = self.build().to(self.device)
        self.parallel = processes.wrapped(
            self.objective, all_used=self.objective.uses_all
        )
        network = self.objective.network
        self.average: Any = copy.deepcopy(network) if config.average_decay else network
        self.patches = StepPatches(self.train, config, self.rows)
        self.steps_per_epoch = self.patches.steps_per_epoch
        self.total_steps = self.steps_per_epoch * config.epochs
        self.optimizer = torch.optim.AdamW(
            [p for p in self.objective.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    def all_settings(self) -> Recorded:
        """Return all that the result of a run depends on."""
        return self.config

    @abstractmethod
    def check_labels(self, data: Path, highest: int) -> None:
        """Raise a DatasetError unless all labels, up to the highest, are known."""

    @abstractmethod
    def build(self) -> Any:
        """Return the module that turns a batch into a loss.

        It holds the ``network``, and says whether a loss ``uses_all`` parameters.
        """

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Return the mean DSC of each class over the validation volumes."""

    @abstractmethod
    def write_weights(self) -> None:
        """Write the averaged network, and what it takes to use it, into the output."""

    def validate(self, epoch: int) -> dict[str, float] | None:
        """Return the mean DSC of each class without noise, where one is due."""
        due = epoch % self.config.validate_every == 0 or epoch == self.config.epochs
        return self.scores() if self.validation and due else None

    def steps(self) -> Iterator[Record]:
        """Train to the end, saving on the way."""
        self.prepared = self.patches.prepared(range(self.step, self.total_steps))
        return super().steps()

    def one_step(self, epoch: int) -> float:  # noqa: ARG002 - the patches know it
        """Take one step of the optimiser and return the loss over all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.config, self.step, self.total_steps)
        image, label = (part.to(self.device) for part in next(self.prepared))
        self.parallel.train()
        loss = self.parallel(image, label, self._noise(), self._precision())
        self.optimizer.zero_grad()
        loss.backward()
        learning = [p for g in self.optimizer.param_groups for p in g["params"]]
        norm = nn.utils.clip_grad_norm_(learning, CLIP_NORM)
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self._update_average()
        return self.processes.mean(loss.detach())

    def _noise(self) -> SampleNoise:
        """Return a generator for each of this process's patches of a step."""
        generators = []
        for row in self.rows:
            key = self.step * self.config.batch_size + row
            seed = step_seed(self.config.seed, key, "noise")
            generators.append(torch.Generator(self.device).manual_seed(seed))
        return SampleNoise(tuple(generators))

    def _precision(self) -> torch.dtype:
        """Return the precision of forward passes."""
        light = self.config.precision == "bfloat16"
        return torch.bfloat16 if light else torch.float32

    def _update_average(self) -> None:
        """Move the averaged weights towards the current ones, soon at first."""
        if self.average is self.objective.network:
            return
        done = self.step + 1
        decay = min(self.config.average_decay, done / (done + 10))
        current = self.objective.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(current[name], 1 - decay)

    def parts(self) -> Mapping[str, Part]:
        """Return what a checkpoint holds, by name."""
        return {
            "objective": self.objective,
            "average": self.average,
            "optimizer": self.optimizer,
        }

    def finish(self) -> None:
        """Write the weights and what they are for."""
        self.write_weights()


def cosine_rate(config: VolumeTrainConfig, step: int, total: int) -> float:
    """Return the learning rate of a step: a cosine from the first to the last one."""
    low, high = config.final_learning_rate, config.learning_rate
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * step / max(1, total - 1)))


def save_weights(state: Mapping[str, Tensor], output: Path) -> None:
    """Write tensors beside the old ones, then put them in their place."""
    partial = output / f"{WEIGHTS}.partial"
    save_file({key: value.contiguous().cpu() for key, value in state.items()}, partial)
    partial.replace(output / WEIGHTS)


def _load(data: Path, config: VolumeTrainConfig) -> tuple[list[Volume], list[Volume]]:
    """Read and prepare the training and the validation volumes, once."""
    train, validation = (
        [prepare(case, config) for case in volume_cases(data, split)]
        for split in ("train", "val")
    )
    if not train:
        msg = f"{data}: expected at least one labelled volume, found none"
        raise DatasetError(msg)
    return train, validation
