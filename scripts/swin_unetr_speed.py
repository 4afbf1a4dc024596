"""Time a forward pass of BiPVL-Seg of the paper's size beside MONAI's Swin UNETR.

    python scripts/swin_unetr_speed.py
    python scripts/swin_unetr_speed.py --side 64 --width 12

Random weights, float32, one image. Prints seconds by the clock and of the processor.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import torch
from monai.networks.nets.swin_unetr import SwinUNETR

from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS, WordPieces
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.models.probabilistic_attention import zero_noise

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 15
"""Of AMOS22."""
WORDS = 96
"""Word pieces of a class's description."""


def main() -> None:
    """Print both times and how many times slower ours is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=96, help="Voxels a side [96]")
    parser.add_argument("--width", type=int, default=48, help="Channels [48]")
    parser.add_argument("--repeats", type=int, default=2, help="Quickest counts [2]")
    options = parser.parse_args()
    side: int = options.side
    image = torch.rand(1, 1, side, side, side)
    theirs = SwinUNETR(
        in_channels=1,
        out_channels=CLASSES + 1,
        feature_size=options.width,
        use_v2=True,
    ).eval()
    ours = BiPVLSeg(
        BiPVLConfig(
            classes=CLASSES,
            vision="swin-unetr-v2",
            patch=(side, side, side),
            widths=(options.width,),
        )
    ).eval()
    vocabulary = TEXT_ENCODERS[ours.config.text].shape.vocabulary
    ids = torch.randint(1, vocabulary, (CLASSES, WORDS))
    with torch.inference_mode():
        texts = ours.describe(WordPieces(ids, torch.ones_like(ids, dtype=torch.bool)))
        expected = _quickest(lambda: theirs(image), options.repeats)
        found = _quickest(lambda: ours(image, texts, zero_noise), options.repeats)
    for name, (wall, cpu) in (("MONAI's Swin UNETR", expected), ("ours", found)):
        print(f"{name}: {wall:.2f} s by the clock, {cpu:.2f} s of the processor")
    print(f"ours takes {found[1] / expected[1]:.2f} times the processor's seconds")


def _quickest(forward: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least seconds of some passes, by the clock and of the processor."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        forward()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = min(times)
    return wall, cpu


if __name__ == "__main__":
    main()
