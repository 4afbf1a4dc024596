"""One process, or several that torchrun started, each with a part of every batch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from napari_medvlseg.core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is."""

    rank: int
    count: int

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator[Processes]:
        """Join the others that torchrun started, if it did, and leave them after."""
        if not distributed.is_available() or not distributed.is_torchelastic_launched():
            yield cls(0, 1)
            return
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend)
        try:
            yield cls(distributed.get_rank(), distributed.get_world_size())
        finally:
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
        share, rest = divmod(batch_size, self.count)
        if rest:
            msg = (
                f"expected a batch that {self.count} processes can share evenly, got "
                f"--batch-size {batch_size}; choose a multiple of {self.count}"
            )
            raise DeviceError(msg)
        return range(self.rank * share, (self.rank + 1) * share)

    def device(self, device: torch.device) -> torch.device:
        """Return this process's own GPU, where the device is one of several."""
        if device.type != "cuda" or self.count == 1:
            return device
        own = torch.device("cuda", self.rank % torch.cuda.device_count())
        torch.cuda.set_device(own)
        return own

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

    def wait(self) -> None:
        """Wait until all processes are here: one of them may have been writing."""
        if self.count > 1:
            distributed.barrier()

    def mean(self, loss: Tensor) -> float:
        """Return the mean over the processes."""
        if self.count > 1:
            distributed.all_reduce(loss)
        return float(loss) / self.count
