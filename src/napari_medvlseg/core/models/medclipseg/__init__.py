"""MedCLIPSeg (Koleilat et al.): four CLIPs adapted to segment what a prompt names."""

from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.network import MedCLIPSeg

__all__ = ["MedCLIPSeg", "MedCLIPSegConfig"]
