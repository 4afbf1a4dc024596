"""The training loop: resumable, seeded, logged; it yields one record a step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from napari_medvlseg.core.backbones.efficientnet import load_imagenet_weights
from napari_medvlseg.core.backbones.minilm import MiniLM, find_minilm
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.datasets import find_sets, splits_of
from napari_medvlseg.core.errors import CheckpointError, DatasetError
from napari_medvlseg.core.models.build import build_network
from napari_medvlseg.core.models.compact import Compact, CompactConfig
from napari_medvlseg.core.models.probabilistic_attention import (
    ProbabilisticCrossAttention,
    zero_noise,
)
from napari_medvlseg.core.training.batch_norm import share_statistics
from napari_medvlseg.core.training.depth import leave_out_blocks
from napari_medvlseg.core.training.fold import depthwise_in_float32, fold_statistics
from napari_medvlseg.core.training.loop import TrainingLoop, run_steps
from napari_medvlseg.core.training.losses import (
    mixture_logits,
    segmentation_loss,
    soft_contrastive_loss,
)
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.plans import Plans, part_of_run, step_seed
from napari_medvlseg.core.training.samples import (
    Sample,
    load_samples,
    load_strangers,
    render,
)
from napari_medvlseg.core.training.validate import validation_dsc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from napari_medvlseg.core.training.config import TrainConfig
    from napari_medvlseg.core.training.loop import Part, Record
    from napari_medvlseg.core.training.processes import Processes
    from napari_medvlseg.core.training.samples import Plan

SAVE_EVERY = 50
"""Steps between checkpoints."""
VALIDATION_CASES = 40
"""Of each set, after an epoch; the figures of the card use them all."""
CLIP_NORM = 5.0
WORDS_STEP = 8
"""Prompts are padded to a multiple: matrix products are prepared for each size."""
TEXT_CACHE = 20_000
"""Prompts whose word vectors are kept (some 15 kB each)."""


def train_steps(data: Path, output: Path, config: TrainConfig) -> Iterator[Record]:
    """Train the compact model, from the last checkpoint in `output` if there is one.

    Under ``torchrun`` each process takes its part of every batch.

    Parameters
    ----------
    data : Path
        A data set, or a folder of them.
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv`` and ``curves.png``.
    config : TrainConfig

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DatasetError
        If there is nothing to train on.
    CheckpointError
        If the checkpoint in `output` was made with another configuration.
    DeviceError
        If this machine has no such device.
    """
    yield from run_steps(
        lambda processes: _Run(data, output, config, processes), config
    )


class _Run(TrainingLoop):
    """Everything that changes while training."""

    save_every = SAVE_EVERY

    def __init__(
        self, data: Path, output: Path, config: TrainConfig, processes: Processes
    ) -> None:
        self.config = config
        processes.check_batch(config.batch_size)
        self.rows = processes.share(config.batch_size)
        super().__init__(output, config, processes)
        train, self.validation = _load(data)
        train += load_strangers(data, config.strangers, config.strangers_per_volume)
        self.plans = Plans(train, config, self.rows)
        self.steps_per_epoch = self.plans.steps_per_epoch
        self.total_steps = self.plans.total_steps
        self.text = _TextCache(self.device)
        model = _first_model(config)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.left_out = leave_out_blocks(self.model.encoder, config.encoder_drop)
        if config.fold:
            fold_statistics(self.model)
        share_statistics(self.model, processes)
        if self.device.type == "cpu":
            depthwise_in_float32(self.model)
        self.optimizer = _optimizer(self.model, config)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [group["lr"] for group in self.optimizer.param_groups],
            total_steps=self.total_steps + 1,
            pct_start=0.15,
        )

    def steps(self) -> Iterator[Record]:
        """Train to the end, saving on the way."""
        self.prepared = iter(self._prepared())
        return super().steps()

    def _prepared(self) -> Iterable[Plan]:
        """Prepare the steps to come, in other processes if there are any."""
        return DataLoader(
            self.plans,
            batch_size=None,
            sampler=range(self.step, self.total_steps),
            num_workers=self.config.workers,
            pin_memory=self.device.type == "cuda",
        )

    def one_step(self, epoch: int) -> float:  # noqa: ARG002 - the plans know it
        """Take one step of the optimiser and return the loss over all processes."""
        plan = next(self.prepared)
        _train_mode(self.model)
        loss = self._loss(plan)
        self.optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return self.processes.mean(loss.detach())

    def _loss(self, plan: Plan) -> Tensor:
        """Return the training loss of a plan, or of this process's part of one."""
        pictures = SampleNoise.seeded(self._seeds("appearance"), self.device)
        batch = render(plan, pictures)
        for block in self.left_out:
            block.noise = pictures
        draws = part_of_run(self.config.draws, self.step, self.total_steps)
        noise = self._noise(plan, draws) if draws else zero_noise
        draws = max(draws, 1)
        hidden, mask = self.text.padded(plan.prompts, self.processes.most)
        images = batch.images.contiguous(memory_format=torch.channels_last)
        light = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=light):
            pyramid = self.model.encode_image(images)
            again = plan.again.to(self.device)
            pyramid = pyramid.and_again(again).repeat(draws)
            words = self.model.encode_words(hidden).repeat(draws, 1, 1)
            output = self.model.draw(pyramid, words, mask.repeat(draws, 1), noise)
        logits = mixture_logits(output.logits.float().unflatten(0, (draws, -1)))
        logits = functional.interpolate(logits, batch.masks.shape[-2:], mode="bilinear")
        weight = 1 + (self.config.side_weight - 1) * plan.sided.float()
        loss = segmentation_loss(
            logits,
            batch.masks,
            weight.to(self.device),
            self.config.likelihood_weight,
        )
        asked = self.config.batch_size + self.plans.further
        loss = self.processes.weight(len(plan.prompts), asked) * loss
        matched = plan.matched.nonzero()[:, 0].to(self.device)  # of the first draw
        sides = output.vision_embedding.float(), output.text_embedding.float()
        vision, text = (self.processes.gather(side[matched]) for side in sides)
        if len(vision) > 1:
            agreement = soft_contrastive_loss(vision, text, self.config.temperature)
            loss = loss + self.config.contrastive_weight * agreement
        return loss

    def _noise(self, plan: Plan, draws: int) -> SampleNoise:
        """Return the noise of each draw of each question."""
        size = self.config.batch_size
        keys = [*self.rows, *(size + self.rows[place] for place in plan.again)]
        return SampleNoise.seeded(
            (
                step_seed(self.config.seed, self.step, f"noise {key} {draw}")
                for draw in range(draws)
                for key in keys
            ),
            self.device,
        )

    def _seeds(self, what: str) -> list[int]:
        """Return the seeds of one purpose for this process's pictures of a step."""
        first = self.step * self.config.batch_size
        return [step_seed(self.config.seed, first + row, what) for row in self.rows]

    def _update_average(self) -> None:
        """Move the averaged weights towards the current ones, soon at first."""
        done = self.step + 1
        decay = min(self.config.average_decay, done / (done + 10))
        current = self.model.state_dict()
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                ours.append(value)
                theirs.append(current[name])
            else:
                value.copy_(current[name])
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def validate(self, epoch: int) -> dict[str, float]:  # noqa: ARG002 - after each
        """Return the mean DSC of each set with the averaged weights, without noise."""
        return {
            name: validation_dsc(self.average, self.text.padded, samples)
            for name, samples in self.validation.items()
        }

    def parts(self) -> Mapping[str, Part]:
        """Return what a checkpoint holds, by name."""
        return {
            "model": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def facts(self) -> Mapping[str, Any]:
        """Return the network's configuration."""
        return {"network": self.model.config.to_dict()}


class _TextCache:
    """Word vectors by prompt: the text encoder is frozen."""

    def __init__(self, device: torch.device) -> None:
        self.encoder = MiniLM(find_minilm(), device)
        self.known: dict[str, Tensor] = {}

    def padded(
        self, prompts: list[str], most: Callable[[int], int] = int
    ) -> tuple[Tensor, Tensor]:
        """Return word vectors (B, L, 384) and their mask (B, L).

        `most` takes how long the longest is, and returns how long they are to be.
        """
        new = [p for p in dict.fromkeys(prompts) if p not in self.known]
        if len(self.known) + len(new) > TEXT_CACHE:
            self.known.clear()
            new = list(dict.fromkeys(prompts))
        if new:
            vectors = [v.half() for v in self.encoder.encode_many(new)]
            self.known.update(zip(new, vectors, strict=True))
        words = [self.known[prompt].float() for prompt in prompts]
        longest = -(-most(max(len(w) for w in words)) // WORDS_STEP) * WORDS_STEP
        padded = nn.utils.rnn.pad_sequence(words, batch_first=True)
        hidden = functional.pad(padded, (0, 0, 0, longest - padded.shape[1]))
        lengths = torch.tensor([len(each) for each in words])
        mask = torch.arange(longest) < lengths[:, None]
        return hidden, mask.to(hidden.device)


def _load(data: Path) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """Read the training cases, and some validation cases of each set."""
    train: list[Sample] = []
    validation: dict[str, list[Sample]] = {}
    for root in find_sets(data):
        there = splits_of(root)
        if "train" in there:
            train += load_samples(root, "train")
            if "val" in there:
                cases = load_samples(root, "val")
                step = max(1, len(cases) // VALIDATION_CASES)
                validation[root.name] = cases[::step]
    if not train:
        msg = f"{data}: expected at least one set with a Train_Folder, found none"
        raise DatasetError(msg)
    return train, validation


def _first_model(config: TrainConfig) -> Compact:
    """Return the network as it is before the first step."""
    start = _started_from(config.start) if config.start else None
    known = CompactConfig() if start is None else start.config
    alike = known if known.noise_form == config.noise_form else CompactConfig()
    network = replace(
        known,
        noise_form=config.noise_form,
        dropout=config.dropout,
        pixels_noise=config.pixels_noise or alike.pixels_noise,
        words_noise=config.words_noise or alike.words_noise,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = Compact(network)
    if start is not None:
        model.load_state_dict(start.state_dict())
        return model
    if config.noise_deviation:
        _start_noise(model, config.noise_deviation)
    load_imagenet_weights(model.encoder)
    return model


def _start_noise(model: Compact, deviation: float) -> None:
    """Set the standard deviation of all values of an untrained network."""
    for module in model.modules():
        if isinstance(module, ProbabilisticCrossAttention):
            module.start_at(deviation)


def _optimizer(model: Compact, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW: no decay for gains and biases, other rates for two parts."""
    rates = {"encoder": config.encoder_rate, "where": config.where_rate}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (rates.get(name.split(".")[0], 1.0), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.learning_rate * rate,
                "weight_decay": config.weight_decay if decay else 0.0,
            }
            for (rate, decay), parameters in groups.items()
        ],
        fused=next(model.parameters()).is_cuda,
    )


def _frozen_parts(model: Compact) -> list[nn.Module]:
    """Return the stem and the first two stages of the encoder: edges and blobs."""
    encoder: Any = model.encoder
    return [encoder.conv_stem, encoder.bn1, encoder.blocks[0], encoder.blocks[1]]


def _train_mode(model: Compact) -> None:
    """Switch to training, but for the frozen parts and their statistics."""
    model.train()
    for part in _frozen_parts(model):
        part.requires_grad_(requires_grad=False).eval()


def _started_from(bundle: str) -> Compact:
    """Return the network of a bundle to start from."""
    card = model_card(bundle)
    if card.network.get("architecture") != "compact":
        msg = (
            f"expected a model of the preset compact to start from, got "
            f"{card.model_id}; name another, or the preset that it was made with"
        )
        raise CheckpointError(msg)
    return cast("Compact", build_network(card))
