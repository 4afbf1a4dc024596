"""MedCLIPSeg's training loop: resumable, seeded, logged, in parts for small memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_medvlseg.core.datasets import (
    find_sets,
    fraction_cases,
    list_cases,
    splits_of,
)
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.predictor import choose_precision
from napari_medvlseg.core.training.fold import depthwise_in_float32
from napari_medvlseg.core.training.loop import TrainingLoop, run_steps
from napari_medvlseg.core.training.medclipseg.config import AUTHORS_FLOOR
from napari_medvlseg.core.training.medclipseg.data import (
    Example,
    load_examples,
    make_batch,
)
from napari_medvlseg.core.training.medclipseg.losses import medclipseg_loss
from napari_medvlseg.core.training.medclipseg.start import begin
from napari_medvlseg.core.training.medclipseg.validate import Asked, examples_dsc
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.plans import step_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.models.medclipseg import MedCLIPSeg
    from napari_medvlseg.core.training.loop import Part, Record
    from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
    from napari_medvlseg.core.training.processes import Processes

SAVE_EVERY = 50
"""Steps between checkpoints."""
VALIDATION_CASES = 40
"""Of each set, after an epoch; `medvlseg evaluate` uses them all."""


def train_medclipseg_steps(
    data: Sequence[Path], output: Path, config: MedCLIPSegTrainConfig
) -> Iterator[Record]:
    """Train MedCLIPSeg, from the last checkpoint in `output` if there is one.

    Under ``torchrun`` each process takes its part of every batch.

    Parameters
    ----------
    data : sequence of Path
        Data sets, or folders of them.
    output : Path
        Gets ``checkpoint.pt`` (what learns, not the frozen towers), ``config.json``,
        ``curves.csv`` and ``curves.png``.
    config : MedCLIPSegTrainConfig

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DatasetError
        If there is nothing to train on.
    CheckpointError
        If the checkpoint in `output` is of another configuration, or weights to begin
        with are absent or another model's.
    DeviceError
        If this machine has no such device.
    """
    yield from run_steps(
        lambda processes: _Run(data, output, config, processes), config
    )


class Learnt:
    """What of a network learns, as a part of a checkpoint.

    Frozen towers are many times larger and come from where they came from.

    Parameters
    ----------
    network : nn.Module
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors that learn."""
        learning = self.network.named_parameters()
        return {name: p.detach() for name, p in learning if p.requires_grad}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.network.load_state_dict(dict(state), strict=False)


class _Run(TrainingLoop):
    """Everything that changes while training."""

    save_every = SAVE_EVERY

    def __init__(
        self,
        data: Sequence[Path],
        output: Path,
        config: MedCLIPSegTrainConfig,
        processes: Processes,
    ) -> None:
        self.config = config
        processes.check_batch(config.batch_size)
        roots = _training_sets(data)
        start = begin(config)
        tokens = start.tokens()
        super().__init__(output, config, processes)
        self.network: MedCLIPSeg = start.network.to(self.device)
        self.asked = Asked(tokens, self.device)
        self.precision = choose_precision(config.precision, self.device)
        if self.precision == "bfloat16" and self.device.type == "cpu":
            depthwise_in_float32(self.network)
        self.train = self._examples(
            case
            for root in roots
            for case in fraction_cases(root, config.fraction, config.seed)
        )
        self.validation = {
            root.name: self._examples(some_cases(list_cases(root, "val")))
            for root in roots
            if "val" in splits_of(root)
        }
        self.steps_per_epoch = math.ceil(len(self.train) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.optimizer = torch.optim.Adam(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=config.learning_rate,
        )

    def one_step(self, epoch: int) -> float:
        """Take one step of the optimiser and return the loss over all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.config, self.step, self.total_steps, self.steps_per_epoch
            )
        chosen = self._chosen(epoch)
        _train_mode(self.network)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # all that dropout of a text tower knows
            self._seed_dropout()
            for part in _parts(len(chosen), self.config.accumulate):
                share = len(part) / len(chosen)
                loss = share * self._loss(chosen, part, epoch)
                loss.backward()
                total += loss.detach()
        self._move()
        return self.processes.mean(total)

    def _move(self) -> None:
        """Change the weights, unless the gradient is no number."""
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.average_gradients(learning)
        limit = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(learning, limit)
        if math.isfinite(float(norm)):
            self.optimizer.step()

    def _seed_dropout(self) -> None:
        """Seed what nn.Dropout draws from; the caller puts it back."""
        key = self.step * self.processes.count + self.processes.rank
        seed = step_seed(self.config.seed, key, "dropout")
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _chosen(self, epoch: int) -> list[Example]:
        """Return the pictures of a step."""
        seed = step_seed(self.config.seed, epoch, "order")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train), generator=generator).tolist()
        size = self.config.batch_size
        first = self.step % self.steps_per_epoch * size
        return [self.train[row] for row in order[first : first + size]]

    def _loss(self, chosen: Sequence[Example], part: range, epoch: int) -> Tensor:
        """Return the loss of a part of a step's pictures, of which others have some."""
        share = self.processes.share(len(part))
        own = part[share.start : share.stop]
        rows = own or part[:1]  # a stand-in that counts for nothing: all have to gather
        batch = make_batch(
            [chosen[row] for row in rows],
            self.config.augmentation,
            self._seeds(rows, "batch"),
            self.device,
        )
        ids = self.asked(batch.prompts, self.processes.most)
        noise = SampleNoise.seeded(self._seeds(rows, "noise"), self.device)
        light = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=light):
            output = self.network.draw(
                self.network.encode_image(batch.images),
                self.network.encode_words(ids),
                self.network.word_mask(ids),
                noise,
            )
        return medclipseg_loss(
            output,
            batch.masks,
            self.config,
            epoch,
            weight=self.processes.weight(len(own), len(part)),
            gather=lambda sides: self.processes.gather(sides[: len(own)]),
        )

    def _seeds(self, rows: range, what: str) -> list[int]:
        """Return the seeds of one purpose for rows of a step."""
        first = self.step * self.config.batch_size
        return [step_seed(self.config.seed, first + row, what) for row in rows]

    def validate(self, epoch: int) -> dict[str, float] | None:
        """Return the mean DSC of each set without noise, where one is due."""
        config = self.config
        due = epoch % config.validate_every == 0 or epoch == config.epochs
        if not (self.validation and due):
            return None
        return {
            name: examples_dsc(self.network, self.asked, examples)
            for name, examples in self.validation.items()
        }

    def parts(self) -> Mapping[str, Part]:
        """Return what a checkpoint holds, by name."""
        return {"learnt": Learnt(self.network), "optimizer": self.optimizer}

    def facts(self) -> Mapping[str, Any]:
        """Return what the bundle tells of the data."""
        counts: dict[str, int] = {}
        for example in self.train:
            counts[example.dataset] = counts.get(example.dataset, 0) + 1
        return {"trained_on": counts}

    def _examples(self, cases: Iterator[Case] | Sequence[Case]) -> list[Example]:
        """Read cases as the network takes them."""
        shape = self.network.config.vision_shape
        return load_examples(cases, shape.image[0], compatible=self.config.compatible)


def some_cases(cases: Sequence[Case]) -> Sequence[Case]:
    """Return at most about `VALIDATION_CASES` of them, evenly."""
    return cases[:: max(1, len(cases) // VALIDATION_CASES)]


def learning_rate(
    config: MedCLIPSegTrainConfig, step: int, total: int, per_epoch: int
) -> float:
    """Return the rate of a step: a cosine from the first to the last.

    Compatible: a stair a epoch, down to `AUTHORS_FLOOR`; else smoothly to nothing.

    Parameters
    ----------
    config : MedCLIPSegTrainConfig
    step : int
        From 0.
    total, per_epoch : int
        Steps.
    """
    if config.compatible:
        done, floor = (step // per_epoch) / config.epochs, AUTHORS_FLOOR
    else:
        done, floor = step / total, 0.0
    high = config.learning_rate
    rate = floor + 0.5 * (high - floor) * (1 + math.cos(math.pi * done))
    rising = config.warmup * total
    return rate * min(1.0, (step + 1) / rising) if rising else rate


def _training_sets(data: Sequence[Path]) -> list[Path]:
    """Return the sets that have something to train on.

    Raises
    ------
    DatasetError
        If there are none, or two have one name.
    """
    roots = [root for each in data for root in find_sets(each)]
    roots = [root for root in roots if "train" in splits_of(root)]
    names = [root.resolve().name for root in roots]
    if not roots or len(set(names)) < len(names):
        told = ", ".join(str(each) for each in data)
        msg = (
            f"{told}: expected sets with a Train_Folder, each of a name of its own, "
            f"got {', '.join(names) or 'none'}"
        )
        raise DatasetError(msg)
    return roots


def _parts(count: int, parts: int) -> Iterator[range]:
    """Cut a step's pictures into parts of about one size."""
    size = math.ceil(count / parts)
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


def _train_mode(network: MedCLIPSeg) -> None:
    """Switch to training; a frozen text tower drops nothing, but in the authors' code.

    Nothing else in the network behaves otherwise while it trains.
    """
    network.train()
    learns = any(p.requires_grad for p in network.text_model.transformer.parameters())
    if not (learns or network.config.compatible):
        network.text_model.eval()
