"""Files in and out: pictures and volumes, on the grid that they came with."""
