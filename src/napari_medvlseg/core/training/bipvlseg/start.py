"""Fine-tuning: begin with the weights of an earlier run, on these classes or others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_medvlseg.core.bundle import model_card, verify
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg

WEIGHTS = "model.safetensors"
NETWORK = "network.json"
_FREE = ("classes", "noise_form", "dropout", "uncertainty_penalty", "patch")
"""Of a network's configuration, what may differ from where it begins: it shapes no
layer, or (classes) only layers that then begin anew."""


def start_from(network: BiPVLSeg, source: str) -> list[str]:
    """Give a network the weights of a trained one, and return what it left out.

    Layers whose shape depends on the number of classes are left as they are where
    that number differs.

    Parameters
    ----------
    network : BiPVLSeg
    source : str
        The folder of a finished run, or of a bundle, or a model's id.

    Raises
    ------
    CheckpointError
        If there is no such model, the run is not finished, either is damaged, or its
        network is another one.
    """
    told, weights = _network_of(source)
    try:
        theirs = BiPVLConfig.from_dict(dict(told["config"]))
        state = load_file(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{source}: expected a finished run or a model of BiPVL-Seg, cannot read "
            f"it ({error})"
        )
        raise CheckpointError(msg) from error
    _check_alike(network.config, theirs, source)
    wanted = network.state_dict()
    fitting: dict[str, Tensor] = {
        name: tensor
        for name, tensor in state.items()
        if name in wanted and wanted[name].shape == tensor.shape
    }
    network.load_state_dict(fitting, strict=False)
    return sorted(set(state) - set(fitting))


def _network_of(source: str) -> tuple[Mapping[str, Any], Path]:
    """Return what a run or a bundle tells of its network, and where its weights lie."""
    run = Path(source)
    if (run / NETWORK).is_file():
        told = read_object(
            run / NETWORK, "the network of a finished run", CheckpointError
        )
        return told, run / WEIGHTS
    if (run / "checkpoint.pt").is_file():
        msg = (
            f"{source}: expected a finished run, got one that was stopped; give its "
            "own command again to finish it"
        )
        raise CheckpointError(msg)
    try:
        card = model_card(source)
    except CheckpointError as error:
        msg = f"--start: expected the folder of a finished run or bundle, or {error}"
        raise CheckpointError(msg) from error
    verify(card)
    kind = card.network.get("architecture")
    if kind != "bipvlseg":
        msg = f"{source}: expected a model of BiPVL-Seg, got one of {kind}"
        raise CheckpointError(msg)
    return card.network, card.path / WEIGHTS


def _check_alike(ours: BiPVLConfig, theirs: BiPVLConfig, source: str) -> None:
    """Refuse weights of another network than the one to train."""
    free = [name for name in _FREE if ours.vision != "unetr" or name != "patch"]
    if replace(theirs, **{name: getattr(ours, name) for name in free}) == ours:
        return
    differing = [
        name
        for name, value in ours.to_dict().items()
        if name not in free and theirs.to_dict()[name] != value
    ]
    msg = (
        f"{source}: expected a network like the one to train, got another "
        f"{', '.join(differing)}; give the settings in its config.json"
    )
    raise CheckpointError(msg)
