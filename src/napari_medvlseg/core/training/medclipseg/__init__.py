"""Training MedCLIPSeg: the paper's losses, ablations and shares of the data."""
