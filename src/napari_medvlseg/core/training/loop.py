"""What every training run does alike: steps, records, curves and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch

from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.predictor import choose_device
from napari_medvlseg.core.training.checkpoint import read_checkpoint, write_checkpoint
from napari_medvlseg.core.training.log import TrainingLog
from napari_medvlseg.core.training.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class Record(TypedDict):
    """What happened in a step; `validation` after the last of an epoch."""

    step: int
    total_steps: int
    epoch: int
    loss: float
    validation: dict[str, float] | None


class Recorded(Protocol):
    """All that the result of a run depends on."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        ...


class Settings(Recorded, Protocol):
    """The configuration of a run."""

    @property
    def device(self) -> str:
        """Where to train."""
        ...

    @property
    def threads(self) -> int:
        """CPU threads; 0 is torch's own choice."""
        ...


class Part(Protocol):
    """Something that changes while training, as networks and optimisers do."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Go back to a state."""
        ...


def run_steps(
    begin: Callable[[Processes], TrainingLoop], settings: Settings
) -> Iterator[Record]:
    """Run a training, in this process's part of it, from where it was stopped.

    Parameters
    ----------
    begin : callable
        Returns the run.
    settings : Settings
        Of the run.

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DeviceError
        If this machine has no such device, or several processes cannot share it.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with Processes.joined(choose_device(settings.device)) as processes:
        run = begin(processes)
        run.resume()
        yield from run.steps()
        if processes.first:
            run.finish()
        processes.wait()


class TrainingLoop(ABC):
    """A run that saves itself and goes on from there.

    Parameters
    ----------
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv`` and ``curves.png``, of
        the first process.
    settings : Recorded
        A checkpoint of other ones is refused.
    processes : Processes
        That train together.
    """

    save_every = 0
    """Steps between checkpoints, besides those after each epoch; 0 is none."""
    steps_per_epoch: int
    total_steps: int

    def __init__(self, output: Path, settings: Recorded, processes: Processes) -> None:
        if processes.first:
            output.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.processes = processes
        self.device = processes.device
        self.settings = settings
        self.step = 0
        self.log = TrainingLog(output)

    @abstractmethod
    def one_step(self, epoch: int) -> float:
        """Take the step `self.step` of the optimiser; return the loss of all rows."""

    @abstractmethod
    def validate(self, epoch: int) -> dict[str, float] | None:
        """Return the DSC of each set or class after an epoch, counted from 1.

        Only the first process is asked.
        """

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """Return what a checkpoint holds, by name."""

    def facts(self) -> Mapping[str, Any]:
        """Return what a checkpoint tells besides: numbers, texts, lists of them."""
        return {}

    def steps(self) -> Iterator[Record]:
        """Train to the end, saving on the way."""
        while self.step < self.total_steps:
            epoch = self.step // self.steps_per_epoch
            loss = self.one_step(epoch)
            self.step += 1
            done = self.step % self.steps_per_epoch == 0
            dsc = self._validated(epoch + 1) if done else None
            self.log.add(self.step, epoch, loss, dsc)
            if done or (self.save_every and self.step % self.save_every == 0):
                if self.processes.first:
                    self.save()
                self.processes.wait()
            yield Record(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                loss=loss,
                validation=dsc,
            )

    def finish(self) -> None:  # noqa: B027 - most leave what they have saved
        """Write what a finished run leaves, besides its checkpoint and curves."""

    def _validated(self, epoch: int) -> dict[str, float] | None:
        """Return what the validation of the first process found."""
        return self.processes.from_first(lambda: self.validate(epoch))

    def save(self) -> None:
        """Write the whole state beside the old one, then put it in its place."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        state = {"step": self.step, "log": self.log.rows, **states, **self.facts()}
        write_checkpoint(self.output, self.settings.to_dict(), state)
        self.log.write()

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises
        ------
        CheckpointError
            If it was made with another configuration, or processes found another.
        """
        state = read_checkpoint(self.output, self.settings.to_dict(), self.device)
        self._check_alike(0 if state is None else int(state["step"]))
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step = int(state["step"])
        self.log.rows = state["log"]

    def _check_alike(self, step: int) -> None:
        """Refuse to go on from other steps than the other processes do."""
        own = torch.tensor([float(step)], device=self.device)
        steps = sorted({int(each) for each in self.processes.stack(own)})
        if len(steps) > 1:
            msg = (
                f"{self.output}: expected all processes to find one checkpoint, got "
                f"those of steps {steps}; give an --output that all machines share"
            )
            raise CheckpointError(msg)
