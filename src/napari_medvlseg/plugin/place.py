"""Where volumes that we read lie in napari's world.

Where their place in the body is known, that world is (inferior, posterior, left) in mm:
RAS+ in the opposite order and with the opposite signs, `TURN`. So a slice stands on the
screen as radiologists hold it, whichever axis the slider walks along, and volumes of
one body overlay.
"""

from __future__ import annotations

import numpy as np

WORLD = ("inferior", "posterior", "left")
"""Where the coordinates of napari's world grow."""
TURN = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], float)
"""RAS+ to napari's world, and back."""
