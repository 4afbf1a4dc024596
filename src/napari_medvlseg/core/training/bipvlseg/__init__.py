"""Training of BiPVL-Seg on labelled volumes and descriptions of their classes."""
