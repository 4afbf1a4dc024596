"""The plainest way to draw samples: what `medvlseg bench` compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medvlseg.core.captions import exchange_sides
from napari_medvlseg.core.preprocess.intensity import choose_greys
from napari_medvlseg.core.preprocess.pixels import resize, to_network_range
from napari_medvlseg.core.sampling import DrawNoise, Place, is_mirrored
from napari_medvlseg.core.uncertainty import RunningStatistics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image


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
