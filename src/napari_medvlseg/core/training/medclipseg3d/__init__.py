"""Training of MedCLIPSeg on labelled volumes (appendix F)."""
