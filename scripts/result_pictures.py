"""Draw the pictures of docs/results.md that need the model: cases, DSC by samples.

    python scripts/result_pictures.py DATA

Without DATA, the cases alone.
Single cases are images that a dependency ships: no data set's are shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from napari_medvlseg import Predictor, segment
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.datasets import Case, list_cases
from napari_medvlseg.core.evaluate import caption_of, read_case
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.pipeline import segment_steps
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
COUNTED = ("Kvasir", "ISIC", "BUSI", "BUSBRA", "BrainTumorT1C", "Nuclei")
CASES = 24
"""Of each set, for DSC by samples."""
COUNTS = (1, 3, 5, 9, 15, 21, 30)


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    data = parser.parse_args().data
    predictor = Predictor.load("compact")
    _draw_cases(predictor)
    if data is not None:
        _draw_counts(data, predictor)


def _draw_cases(predictor: Predictor) -> None:
    """Draw what is answered to a good, a doubtful and a wrong question."""
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


def _draw_counts(data: Path, predictor: Predictor) -> None:
    """Mean DSC after each number of draws."""
    figure, axis = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for name in COUNTED:
        cases = list_cases(data / name, "val")
        cases = cases[:: max(1, len(cases) // CASES)]
        means = np.mean([_dsc_by_count(case, predictor) for case in cases], axis=0)
        print(name, len(cases), dict(zip(COUNTS, means.round(4).tolist(), strict=True)))
        axis.plot(COUNTS, means - means[-1], marker=".", label=name)
    axis.set(xlabel="draws", ylabel="DSC less that of 30 draws", title="DSC by draws")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(IMAGES / "samples.png", dpi=100)
    plt.close(figure)


def _dsc_by_count(case: Case, predictor: Predictor) -> list[float]:
    """Return the DSC of a case after each of the counts."""
    image, reference = read_case(case)
    prompt = case.prompt or caption_of(case, image, reference, "original")
    config = SegmentConfig(num_samples=max(COUNTS), batch_size=1)
    return [
        dice_similarity_coefficient(step.snapshot().masks[0], reference)
        for step in segment_steps(image, [prompt], predictor, config)
        if step.done in COUNTS
    ]


if __name__ == "__main__":
    main()
