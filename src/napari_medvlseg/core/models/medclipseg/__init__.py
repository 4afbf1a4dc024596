"""MedCLIPSeg (Koleilat et al.): five CLIPs adapted to segment what a prompt names.

The network is imported where it is first used: that takes seconds, the settings none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig

if TYPE_CHECKING:
    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSeg

__all__ = ["MedCLIPSeg", "MedCLIPSegConfig"]


def __getattr__(name: str) -> object:
    """Import the network once it is asked for."""
    if name != "MedCLIPSeg":
        msg = f"module {__name__} has no attribute {name}"
        raise AttributeError(msg)
    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSeg

    return MedCLIPSeg
