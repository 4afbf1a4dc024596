"""What every training run does alike: steps, records, curves and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from napari_medvlseg.core.training.checkpoint import read_checkpoint, write_checkpoint
from napari_medvlseg.core.training.log import TrainingLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch


class Record(TypedDict):
    """What happened in a step; `validation` after the last of an epoch."""

    step: int
    total_steps: int
    epoch: int
    loss: float
    validation: dict[str, float] | None


class Settings(Protocol):
    """The configuration of a run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        ...


class Part(Protocol):
    """Something that changes while training, as networks and optimisers do."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Go back to a state."""
        ...


class TrainingLoop(ABC):
    """A run that saves itself and goes on from there.

    Parameters
    ----------
    output : Path
        Gets ``checkpoint.pt``, ``config.json``, ``curves.csv`` and ``curves.png``.
    settings : Settings
        A checkpoint of other ones is refused.
    """

    save_every = 0
    """Steps between checkpoints, besides those after each epoch; 0 is none."""
    device: torch.device
    steps_per_epoch: int
    total_steps: int

    def __init__(self, output: Path, settings: Settings) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.settings = settings
        self.step = 0
        self.log = TrainingLog(output)

    @abstractmethod
    def one_step(self, epoch: int) -> float:
        """Take the step `self.step` of the optimiser and return its loss."""

    @abstractmethod
    def validate(self, epoch: int) -> dict[str, float] | None:
        """Return the DSC of each set or class after an epoch, counted from 1."""

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
            dsc = self.validate(epoch + 1) if done else None
            self.log.add(self.step, epoch, loss, dsc)
            if done or (self.save_every and self.step % self.save_every == 0):
                self.save()
            yield Record(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                loss=loss,
                validation=dsc,
            )

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
            If it was made with another configuration.
        """
        state = read_checkpoint(self.output, self.settings.to_dict(), self.device)
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step = int(state["step"])
        self.log.rows = state["log"]
