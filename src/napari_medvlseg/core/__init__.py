"""The engine: reading, models, sampling, uncertainty. It knows no GUI."""
