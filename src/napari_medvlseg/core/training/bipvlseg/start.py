"""Fine-tuning: begin with the weights of an earlier run, on these classes or others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg

WEIGHTS = "model.safetensors"
NETWORK = "network.json"


def start_from(network: BiPVLSeg, run: Path) -> list[str]:
    """Give a network the weights of a finished run, and return what it left out.

    Layers whose shape depends on the number of classes are left as they are where
    that number differs.

    Parameters
    ----------
    network : BiPVLSeg
    run : Path
        Holds what a run writes at its end.

    Raises
    ------
    CheckpointError
        If the run is not finished or damaged, or its network is another one.
    """
    told = read_object(run / NETWORK, "the network of a finished run", CheckpointError)
    try:
        theirs = BiPVLConfig.from_dict(told["config"])
        state = load_file(run / WEIGHTS)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{run}: expected a finished run of BiPVL-Seg, cannot read it ({error})"
        raise CheckpointError(msg) from error
    ours = network.config
    if replace(theirs, classes=ours.classes) != ours:
        differing = [
            name
            for name, value in ours.to_dict().items()
            if name != "classes" and theirs.to_dict()[name] != value
        ]
        msg = (
            f"{run}: expected a network like the one to train, got another "
            f"{', '.join(differing)}; give the settings in its config.json"
        )
        raise CheckpointError(msg)
    wanted = network.state_dict()
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in wanted and wanted[name].shape == tensor.shape
    }
    network.load_state_dict(fitting, strict=False)
    return sorted(set(state) - set(fitting))
