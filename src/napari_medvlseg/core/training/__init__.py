"""Training: labelled folders in, a bundle out."""
