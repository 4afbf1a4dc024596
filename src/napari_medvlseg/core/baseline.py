"""The plainest way to draw samples: what `medvlseg bench` compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.captions import exchange_sides
from napari_medvlseg.core.preprocess.intensity import choose_greys
from napari_medvlseg.core.preprocess.pixels import resize, to_network_range
from napari_medvlseg.core.preprocess.resample import ModelGrid
from napari_medvlseg.core.preprocess.volumes import network_volume
from napari_medvlseg.core.sampling import DrawNoise, Place, is_mirrored
from napari_medvlseg.core.uncertainty import ClassStatistics, RunningStatistics
from napari_medvlseg.core.volume_run import windows_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image
    from napari_medvlseg.core.volume_predictor import VolumePredictor


def naive_loop(
    predictor: Predictor,
    image: Image,
    prompt: str,
    config: SegmentConfig,
    *,
    discarded: int = 0,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Segment a picture as plainly as can be: the baseline of `medvlseg bench`.

    Every draw runs both encoders again, alone and without any memory; the noise is
    that of `segment`. Returns mean probability and mean entropy on the input's grid,
    each (h, w), of the whole picture.

    Parameters
    ----------
    predictor : Predictor
    image : Image
    prompt : str
    config : SegmentConfig
    discarded : int
        Passes before them whose result nobody uses; the authors' code has one.
    """
    greys = choose_greys(image, config.intensity, predictor.card.input.intensity)
    pixels = to_network_range(image.voxels, greys.limits)
    side = predictor.card.input.size
    statistics = RunningStatistics()
    for turn in range(-discarded, config.num_samples):
        draw = max(turn, 0)
        predictor.forget()
        mirrored = predictor.card.input.mirror and is_mirrored(draw)
        picture = resize(pixels, side, side, smooths=predictor.network.smooths)
        pyramid = predictor.pyramid(picture.flip(-1) if mirrored else picture)
        words = predictor.words(exchange_sides(prompt) if mirrored else prompt)
        if predictor.network.evidential:
            statistics.believe(*predictor.believe(pyramid, words))
            break
        noise = DrawNoise(config.seed, [draw], Place())
        logits = predictor.draw(pyramid, words, 1, noise)
        if turn >= 0:
            statistics.add(logits.flip(-1) if mirrored else logits)
    probability, entropy = statistics.means().numpy()
    return probability, entropy


def naive_volume_loop(
    predictor: VolumePredictor, image: Image, config: SegmentConfig
) -> npt.NDArray[np.float32]:
    """Segment a volume as plainly as can be.

    Every draw of every window reads the texts and sees the window again, alone and
    without any memory; windows and noise are those of `segment`. Returns the mean
    probability of each class on the image's grid, (C, *spatial).
    """
    spec = predictor.spec
    grid = ModelGrid.of(image, spec.spacing_mm if image.units == "mm" else None)
    windows = windows_of(network_volume(image, grid, spec.window), spec)
    texts = spec.sheet.descriptions(spec.text_format)
    for index in range(len(windows)):
        statistics = ClassStatistics(exclusive=spec.exclusive)
        for draw in range(config.num_samples):
            predictor.forget()
            seen = predictor.look(windows.cut(index), predictor.words(texts))
            noise = DrawNoise(config.seed, [draw], Place(0, index))
            statistics.add(predictor.draw(seen, 1, noise))
        windows.add(index, statistics.means().cpu())
    first = 1 if spec.exclusive else 0  # the background is not told
    rows = range(first, first + len(spec.names))
    return np.stack([grid.to_native(windows.blended(row)) for row in rows])
