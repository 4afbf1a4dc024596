"""From what the controls say to a job; a 3D model takes a volume and class names."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medvlseg.core.class_sentences import choose_asked, colors_of
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.io.class_sheet import parse_class_sheet
from napari_medvlseg.plugin.worker import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.plugin.layers import LayerCut


def job_of(
    cut: LayerCut, card: ModelCard, prompts: Sequence[str], config: SegmentConfig
) -> Job:
    """Return the job of a model; a 3D model's prompts become its labels' names.

    Parameters
    ----------
    cut : LayerCut
    card : ModelCard
    prompts : sequence of str
        As typed, without white space around them.
    config : SegmentConfig

    Raises
    ------
    ImageError
        If a 3D model is to segment a picture, or takes several channels.
    PromptError
        If a prompt names what a 3D model does not know.
    """
    spec = card.volume
    if spec is None:
        return Job(cut, tuple(prompts), card.model_id, config)
    has_colours = cut.rgb or cut.colour is not None
    if len(cut.kept) != 3 or has_colours:
        got = "colours" if has_colours else "a picture"
        msg = (
            f"expected a grey volume for {card.model_id}, got {got}; open a volume, or "
            "choose another model"
        )
        raise ImageError(msg)
    if spec.channels != 1:
        msg = (
            f"expected {spec.channels} volumes of one place for {card.model_id}, which "
            "the dock does not take yet; run medvlseg segment FIRST --channel SECOND "
            "and so on in a shell, and open what it writes"
        )
        raise ImageError(msg)
    if cut.filed is not None:  # in the order of the axes that it was trained on
        cut = replace(cut, affine=cut.filed)
    texts = config.class_texts
    names = parse_class_sheet(texts).names if texts else spec.names
    choice = choose_asked(spec, names, prompts, forgiving=config.read_names)
    return Job(
        cut,
        choice.prompts,
        card.model_id,
        config,
        colors=colors_of(choice, spec),
        exclusive=spec.exclusive,
        max_entropy=math.log(len(names) + 1 if spec.exclusive else 2),
        hints=choice.hints,
    )
