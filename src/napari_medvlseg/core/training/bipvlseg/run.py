"""BiPVL-Seg's training loop: resumable, seeded, logged, in one or more processes."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.class_sheet import find_sheet, write_class_sheet
from napari_medvlseg.core.models.bipvlseg.config import NO_TEXT
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.predictor import choose_device
from napari_medvlseg.core.training.bipvlseg.data import (
    Volume,
    augmentation,
    patch_of,
    prepare,
)
from napari_medvlseg.core.training.bipvlseg.export import (
    CLASSES,
    bundle_folder,
    export_volume_bundle,
)
from napari_medvlseg.core.training.bipvlseg.losses import SampleNoise
from napari_medvlseg.core.training.bipvlseg.objective import (
    Objective,
    load_text_encoder,
    tokenize,
)
from napari_medvlseg.core.training.bipvlseg.processes import Processes
from napari_medvlseg.core.training.bipvlseg.start import NETWORK, WEIGHTS, start_from
from napari_medvlseg.core.training.bipvlseg.validate import class_dsc
from napari_medvlseg.core.training.checkpoint import read_checkpoint, write_checkpoint
from napari_medvlseg.core.training.log import TrainingLog
from napari_medvlseg.core.training.plans import step_seed
from napari_medvlseg.core.training.run import Record
from napari_medvlseg.core.volume_sets import label_names, volume_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.training.bipvlseg.config import BiPVLTrainConfig

CLIP_NORM = 5.0


def train_volume_steps(
    data: Path, output: Path, config: BiPVLTrainConfig
) -> Iterator[Record]:
    """Train BiPVL-Seg, from the last checkpoint in `output` if there is one.

    Under ``torchrun`` each process takes its part of every batch.

    Parameters
    ----------
    data : Path
        A folder of labelled volumes, as `volume_cases` describes it.
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv``, ``curves.png`` and at
        the end ``model.safetensors``, ``network.json``, ``classes.json`` and a bundle.
    config : BiPVLTrainConfig

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DatasetError
        If there is nothing to train on, or labels have no class.
    CheckpointError
        If the checkpoint in `output` is of another configuration, or the text encoder
        is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with Processes.joined() as processes:
        run = _Run(data, output, config, processes)
        run.resume()
        yield from run.steps()
        run.finish()


class _Run:
    """Everything that changes while training."""

    def __init__(
        self, data: Path, output: Path, config: BiPVLTrainConfig, processes: Processes
    ) -> None:
        self.config = config
        self.output = output
        self.processes = processes
        self.device = processes.device(choose_device(config.device))
        self.rows = processes.rows(config.batch_size)
        self.sheet = find_sheet(
            config.sheet, ambiguous=config.text_format == "ambiguous"
        )
        self.train, self.validation = _load(data, config, len(self.sheet.classes))
        output.mkdir(parents=True, exist_ok=True)
        self.objective = self._objective().to(self.device)
        self.parallel = processes.wrapped(
            self.objective, all_used=self.objective.aligns
        )
        network = self.objective.network
        self.average = copy.deepcopy(network) if config.average_decay else network
        self.transform = augmentation(config)
        self.steps_per_epoch = max(1, len(self.train) // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.optimizer = torch.optim.AdamW(
            [p for p in self.objective.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.log = TrainingLog(output)

    def _objective(self) -> Objective:
        """Build the network, seeded."""
        config = self.config
        shape = config.network(len(self.sheet.classes), len(self.train[0].image))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            network = BiPVLSeg(shape)
        load_text_encoder(network, config)
        if config.start:
            start_from(network, Path(config.start))
        texts = None
        if config.text != NO_TEXT:
            texts = tokenize(self.sheet, config.text_format, config.text)
        return Objective(network, config, texts)

    def steps(self) -> Iterator[Record]:
        """Train to the end, saving after every epoch."""
        while self.step < self.total_steps:
            epoch = self.step // self.steps_per_epoch
            loss = self._one_step(epoch)
            done = self.step % self.steps_per_epoch == 0
            dsc = None
            if done and self._validates(epoch + 1):
                dsc = self._validate()
            self.log.add(self.step, epoch, loss, dsc)
            if done:
                self.save()
            yield Record(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                loss=loss,
                validation=dsc,
            )

    def _validates(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 1, is followed by a validation."""
        every = self.config.validate_every
        return bool(self.validation) and (
            epoch % every == 0 or epoch == self.config.epochs
        )

    def _one_step(self, epoch: int) -> float:
        """Take one step of the optimiser and return the loss over all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.config, self.step, self.total_steps)
        image, label, noise = self._batch(epoch)
        self.parallel.train()
        loss = self.parallel(image, label, noise, self._precision())
        self.optimizer.zero_grad()
        loss.backward()
        learning = [p for g in self.optimizer.param_groups for p in g["params"]]
        norm = nn.utils.clip_grad_norm_(learning, CLIP_NORM)
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self.step += 1
        self._update_average()
        return self.processes.mean(loss.detach())

    def _batch(self, epoch: int) -> tuple[Tensor, Tensor, SampleNoise]:
        """Return this process's patches of a step, and a generator for each."""
        order = torch.randperm(
            len(self.train),
            generator=torch.Generator().manual_seed(
                step_seed(self.config.seed, epoch, "order")
            ),
        )
        first = self.step % self.steps_per_epoch * self.config.batch_size
        patches, generators = [], []
        for row in self.rows:
            key = self.step * self.config.batch_size + row
            seed = step_seed(self.config.seed, key, "patch")
            volume = self.train[int(order[(first + row) % len(order)])]
            patches.append(
                patch_of(volume, self.transform, seed, self.config.label_regions)
            )
            noise_seed = step_seed(self.config.seed, key, "noise")
            generators.append(torch.Generator(self.device).manual_seed(noise_seed))
        images, labels = (torch.stack(parts) for parts in zip(*patches, strict=True))
        noise = SampleNoise(tuple(generators))
        return images.to(self.device), labels.to(self.device), noise

    def _precision(self) -> torch.dtype:
        """Return the precision of forward passes."""
        light = self.config.precision == "bfloat16"
        return torch.bfloat16 if light else torch.float32

    def _update_average(self) -> None:
        """Move the averaged weights towards the current ones, soon at first."""
        if self.average is self.objective.network:
            return
        decay = min(self.config.average_decay, self.step / (self.step + 10))
        current = self.objective.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(current[name], 1 - decay)

    def _validate(self) -> dict[str, float]:
        """Return the mean DSC of each class, without noise."""
        described = Objective(self.average, self.config, self.objective.texts)
        with torch.inference_mode():
            texts = described.describe(self.device)
        return class_dsc(
            self.average,
            texts[0] if texts else None,
            self.validation,
            self.sheet.names,
            self.config,
        )

    def save(self) -> None:
        """Write the whole state beside the old one, then put it in its place."""
        if self.processes.first:
            self._write_checkpoint()
        self.processes.wait()

    def _write_checkpoint(self) -> None:
        """Write what `resume` needs, and the curves."""
        state = {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log": self.log.rows,
        }
        write_checkpoint(self.output, self.config.to_dict(), state)
        self.log.write()

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        state = read_checkpoint(self.output, self.config.to_dict(), self.device)
        if state is None:
            return
        self.objective.load_state_dict(state["objective"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.log.rows = state["log"]

    def finish(self) -> None:
        """Write the weights, but for a frozen text encoder, and what they are for."""
        if self.processes.first:
            self._write_weights()
        self.processes.wait()

    def _write_weights(self) -> None:
        """Write `WEIGHTS`, `NETWORK` and `CLASSES`, and a bundle of them."""
        frozen = self.config.text_training == "none"
        state = {
            name: value.contiguous().cpu()
            for name, value in self.average.state_dict().items()
            if not (frozen and name.startswith("text."))
        }
        partial = self.output / f"{WEIGHTS}.partial"
        save_file(state, partial)
        partial.replace(self.output / WEIGHTS)
        told = {
            "architecture": "bipvlseg",
            "config": self.average.config.to_dict(),
            "classes": [
                {"name": each.name, "description": text}
                for each, text in zip(
                    self.sheet.classes,
                    self.sheet.descriptions(self.config.text_format),
                    strict=True,
                )
            ],
            "spacing_mm": self.config.spacing_mm,
            "window": self.config.window,
        }
        write_class_sheet(self.output / CLASSES, self.sheet, overwrite=True)
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (self.output / NETWORK).write_text(text, encoding="utf-8")
        export_volume_bundle(self.output, bundle_folder(self.output, self.config.sheet))


def cosine_rate(config: BiPVLTrainConfig, step: int, total: int) -> float:
    """Return the learning rate of a step: a cosine from the first to the last one."""
    low, high = config.final_learning_rate, config.learning_rate
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * step / max(1, total - 1)))


def _load(
    data: Path, config: BiPVLTrainConfig, classes: int
) -> tuple[list[Volume], list[Volume]]:
    """Read and prepare the training and the validation volumes, once."""
    train, validation = (
        [prepare(case, config) for case in volume_cases(data, split)]
        for split in ("train", "val")
    )
    if not train:
        msg = f"{data}: expected at least one labelled volume, found none"
        raise DatasetError(msg)
    highest = max(int(volume.label.max()) for volume in train)
    known = max((max(region) for region in config.label_regions), default=classes)
    if highest > known or len(config.label_regions or range(classes)) != classes:
        told = ", ".join(f"{n} {name}" for n, name in label_names(data).items())
        msg = (
            f"{data}: expected the sheet {config.sheet} to tell of each label, got "
            f"labels up to {highest} and {classes} classes; choose another --sheet"
            + (f" (dataset.json tells of {told})" if told else "")
        )
        raise DatasetError(msg)
    return train, validation
