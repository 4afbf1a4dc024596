"""Pretrained encoders, built from explicit configurations."""
