"""One process, or several that torchrun started, each with a part of every batch.

Each process returns a loss whose mean over the processes is the loss of the whole
batch. Gradients are averaged, so they are then those of one process with that batch.
What compares rows with one another has to see all of them: `Processes.gather` brings
them, and gives each process the gradients that all of them have for its rows.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from napari_medvlseg.core.errors import DeviceError
from napari_medvlseg.core.training.launch import process_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    T = TypeVar("T")

CPU = torch.device("cpu")
PATIENCE = timedelta(days=1)
"""How long processes wait for another: the first one may be validating."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is."""

    rank: int
    count: int
    device: torch.device = CPU
    """Where this one trains."""

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device) -> Iterator[Processes]:
        """Join the others that torchrun started, if it did, and leave them after.

        Parameters
        ----------
        device : torch.device
            Where to train; of several GPUs each process of a machine takes its own.

        Raises
        ------
        DeviceError
            If processes cannot share such a device, or another process is lost.
        """
        if process_count() == 1:
            yield cls(0, 1, device)
            return
        own = _own_device(device)
        try:
            backend = "nccl" if own.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
            yield cls(distributed.get_rank(), distributed.get_world_size(), own)
        except RuntimeError as error:
            if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
                raise
            msg = (
                f"expected {process_count()} processes to go on together, lost one; "
                "see what it said, and give the same command again to go on from the "
                "last checkpoint"
            )
            raise DeviceError(msg) from error
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """Return whether this is the one that writes."""
        return self.rank == 0

    def rows(self, batch_size: int) -> range:
        """Return this process's rows of a batch.

        Raises
        ------
        DeviceError
            If the batch cannot be shared out evenly.
        """
        if batch_size % self.count:
            msg = (
                f"expected a batch that {self.count} processes can share evenly, got "
                f"--batch-size {batch_size}; choose a multiple of {self.count}"
            )
            raise DeviceError(msg)
        return self.share(batch_size)

    def share(self, count: int) -> range:
        """Return this process's part of some rows: in a row, about as many for each."""
        first, last = (
            count * rank // self.count for rank in (self.rank, self.rank + 1)
        )
        return range(first, last)

    def weight(self, rows: int, total: int) -> float:
        """Return by what the mean of own rows counts in the mean of all processes.

        Parameters
        ----------
        rows : int
            Of this process.
        total : int
            Of all.
        """
        return rows * self.count / total

    def check_batch(self, batch_size: int) -> None:
        """Refuse batches in which a process would have nothing to do.

        Raises
        ------
        DeviceError
        """
        if batch_size < self.count:
            msg = (
                f"expected at least a row of a batch for each of {self.count} "
                f"processes, got --batch-size {batch_size}; choose {self.count} or more"
            )
            raise DeviceError(msg)

    def wrapped(self, module: nn.Module, *, all_used: bool) -> nn.Module:
        """Return the module with gradients that are averaged over the processes.

        Parameters
        ----------
        module : nn.Module
        all_used : bool
            Whether each parameter has its part in each loss.
        """
        if self.count == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=not all_used)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients in place, once those of all parts of a step are there.

        For what is no single forward pass, which `wrapped` would need. Parameters that
        have a gradient nowhere are left without.

        Parameters
        ----------
        parameters : iterable of nn.Parameter
            The same ones in each process.
        """
        if self.count == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        there = [[float(p.grad is not None)] for p in learning]
        anywhere = torch.tensor(there, device=self.device)
        distributed.all_reduce(anywhere)
        moved = [p for p, n in zip(learning, anywhere, strict=True) if n > 0]
        for parameter in moved:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in moved if p.grad is not None]
        flat = torch.cat([each.reshape(-1) for each in gradients])
        distributed.all_reduce(flat)
        parts = (flat / self.count).split([each.numel() for each in gradients])
        for each, part in zip(gradients, parts, strict=True):
            each.copy_(part.view(each.shape))

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, in order; gradients find their way back.

        Parameters
        ----------
        rows : (R, D)
            R may differ, and be 0.

        Returns
        -------
        (sum of R, D)
        """
        if self.count == 1:
            return rows
        counts = torch.zeros(self.count, dtype=torch.long, device=rows.device)
        counts[self.rank] = len(rows)
        distributed.all_reduce(counts)
        before, after = counts[: self.rank].sum(), counts[self.rank + 1 :].sum()
        return _sum(functional.pad(rows, (0, 0, int(before), int(after))))

    def stack(self, row: Tensor) -> Tensor:
        """Return one row (D,) of each process, (processes, D), with gradients."""
        if self.count == 1:
            return row[None]
        after = self.count - self.rank - 1
        return _sum(functional.pad(row[None], (0, 0, self.rank, after)))

    def most(self, number: int) -> int:
        """Return the largest number of any process."""
        if self.count == 1:
            return number
        found = torch.tensor(number, device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def from_first(self, call: Callable[[], T]) -> T:
        """Return what a call gives in the first process; the others wait for it."""
        if self.count == 1:
            return call()
        told: list[Any] = [call() if self.first else None]
        distributed.broadcast_object_list(told, src=0)
        answer: T = told[0]
        return answer

    def wait(self) -> None:
        """Wait until all processes are here: one of them may have been writing."""
        if self.count > 1:
            distributed.barrier()

    def mean(self, loss: Tensor) -> float:
        """Return the mean over the processes."""
        if self.count > 1:
            distributed.all_reduce(loss)
        return float(loss) / self.count


ALONE = Processes(0, 1)


class _Sum(torch.autograd.Function):
    """Add up over the processes; so are the gradients that come back."""

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        """Any shape, to the same."""
        return _added(rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        """Add up what each process's loss has for the sum."""
        del ctx  # nothing is kept
        return _added(grad_outputs[0])


def _added(values: Tensor) -> Tensor:
    """Return the sum over the processes."""
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def _sum(rows: Tensor) -> Tensor:
    """Return the sum over the processes, with gradients."""
    total: Tensor = _Sum.apply(rows)
    return total


def _own_device(device: torch.device) -> torch.device:
    """Return this process's own device.

    Raises
    ------
    DeviceError
        If there is none.
    """
    if device.type == "mps":
        msg = "expected --device cpu or cuda for several processes, got mps; choose one"
        raise DeviceError(msg)
    if device.type != "cuda":
        return device
    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= there:
        msg = (
            f"expected a GPU for each process of this machine, got {there} for process "
            f"{place + 1}; start as many with --nproc-per-node"
        )
        raise DeviceError(msg)
    own = torch.device("cuda", place)
    torch.cuda.set_device(own)
    return own
