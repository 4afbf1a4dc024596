"""Draw the cases of docs/results.md.

    python scripts/result_pictures.py

They are images that a dependency ships: no data set's are shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from napari_medvlseg import Predictor, segment
from napari_medvlseg.plugin.sample_data import (
    abdomen_mr,
    immunohistochemistry,
    retina,
)

if TYPE_CHECKING:
    import numpy.typing as npt

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHOWN = (
    ("good", retina, "retinal vessels"),
    ("doubtful", abdomen_mr, "brain tumor"),
    ("failed", immunohistochemistry, "cell nuclei"),
)
"""What is shown of which sample, and the question."""


def main() -> None:
    """Draw what is answered to a good, a doubtful and a wrong question."""
    predictor = Predictor.load("compact")
    titles = ("", "mask", "probability", "predictive entropy", "mutual information")
    figure, axes = plt.subplots(
        len(SHOWN),
        len(titles),
        figsize=(2.2 * len(titles), 2.4 * len(SHOWN)),
        layout="constrained",
    )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for row, (kind, sample, prompt) in zip(axes, SHOWN, strict=True):
        pixels = sample()[0][0]
        found = segment(np.asarray(pixels), prompt, predictor)
        low, high = np.percentile(pixels, [0.5, 99.5])
        shown = pixels if pixels.ndim == 3 else (pixels - low) / (high - low)
        panels: tuple[tuple[npt.NDArray[Any], str, float], ...] = (
            (shown, "gray", 1),
            (shown, "gray", 1),
            (found.probability[0], "viridis", 1),
            (found.predictive_entropy[0], "magma", np.log(2)),
            (found.mutual_information[0], "magma", 0.1),
        )
        for axis, (values, colours, top) in zip(row, panels, strict=True):
            axis.imshow(values, cmap=colours, vmin=0, vmax=top)
            axis.set_axis_off()
        row[0].set_title(f'{kind}: "{prompt}"', fontsize=9, loc="left")
        if found.masks[0].any():
            row[1].contour(found.masks[0], [0.5], colors="red", linewidths=0.8)
    figure.savefig(IMAGES / "cases.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
