"""Segment an image from prompts: the only file that knows the order of the stages.

read -> Image -> preprocess -> model -> draws -> running statistics -> Segmentation
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError, PromptError
from napari_medvlseg.core.io.channels import read_channels
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.maps import Maps, slice_window
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.preprocess.intensity import choose_greys
from napari_medvlseg.core.preprocess.resample import ModelGrid, on_grid
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.core.run import Run, SliceStore, Step
from napari_medvlseg.core.sides import find_midline
from napari_medvlseg.core.types import Image, Prompt, Segmentation
from napari_medvlseg.core.volume_predictor import VolumePredictor
from napari_medvlseg.core.volume_run import VolumeRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

AnyPredictor = Predictor | VolumePredictor


def segment(
    image: Image | npt.NDArray[Any] | str | Path | Sequence[Path],
    prompts: str | Sequence[str],
    model: str | AnyPredictor = "compact",
    **choices: Any,
) -> Segmentation:
    """Segment what the prompts name, and say how sure that is.

    Parameters
    ----------
    image : Image, array or path
        An array is grey, (H, W) or (slices, H, W), or ends in 3 or 4 colours. For a 3D
        model of several channels also a list of paths, one a channel.
    prompts : str or sequence of str
        Each is a question of its own; of a 3D model the names of some of its classes,
        with commas between them, or all.
    model : str, Predictor or VolumePredictor
        A model id, a bundle's folder, or a loaded model.
    **choices
        Fields of `SegmentConfig`: ``num_samples=30``, ``seed=0``, ``threshold=0.5``...

    Returns
    -------
    Segmentation
        On the image's own grid.

    Raises
    ------
    MedVLSegError
        If image, prompts or model cannot be used; the message says what to do.

    Examples
    --------
    >>> from napari_medvlseg import segment
    >>> result = segment("fundus.png", "retinal vessels")  # doctest: +SKIP
    """
    config = SegmentConfig(**choices)
    predictor = (
        load_predictor(model, device=config.device, precision=config.precision)
        if isinstance(model, str)
        else model
    )
    questions = [prompts] if isinstance(prompts, str) else list(prompts)
    steps = segment_steps(_image_for(image, predictor), questions, predictor, config)
    (last,) = deque(steps, maxlen=1)  # an image has at least one picture
    return last.snapshot()


def segment_counts(
    image: Image,
    prompts: Sequence[str],
    predictor: AnyPredictor,
    config: SegmentConfig,
    counts: Sequence[int],
) -> Iterator[tuple[int, Segmentation]]:
    """Segment an image once, and tell what the first draws alone would have given.

    Parameters
    ----------
    image : Image
        A picture, or of a 3D model a volume.
    prompts : sequence of str
    predictor : Predictor or VolumePredictor
    config : SegmentConfig
    counts : sequence of int
        Numbers of draws, up to that of the configuration.

    Yields
    ------
    int, Segmentation
        Each count and its result.

    Raises
    ------
    ImageError
        If the image is a volume.
    """
    questions = tuple(Prompt(text).text for text in prompts)
    if isinstance(predictor, VolumePredictor):
        whole = VolumeRun(image, questions, predictor, config, tuple(counts))
        deque(whole.steps(None), maxlen=0)
        yield from ((count, whole.after(count)) for count in counts)
        return
    if image.ndim != 2:
        msg = f"expected a picture for several counts, got shape {image.spatial_shape}"
        raise ImageError(msg)
    greys = choose_greys(image, config.intensity, predictor.card.input.intensity)
    run = Run(image, questions, predictor, config, greys, tuple(counts))
    deque(run.steps(None), maxlen=0)
    yield from ((count, run.after(count)) for count in counts)


def segment_steps(
    image: Image,
    prompts: Sequence[str],
    predictor: AnyPredictor,
    config: SegmentConfig,
    kept: SliceStore | None = None,
) -> Iterator[Step]:
    """Yield after the first draw of a picture, and then after each batch of draws.

    Closing the iterator cancels the run. The last step holds the final result; what
    comes before is not yet smoothed across the slices.

    Parameters
    ----------
    image : Image
    prompts : sequence of str
    predictor : Predictor or VolumePredictor
    config : SegmentConfig
    kept : SliceStore, optional
        Finished slices (of a 3D model: windows) are kept there, and those that it
        holds are not made again. It must belong to a run of the same `run_settings`.
    """
    if not prompts:
        msg = "expected at least one prompt, got none; type what to look for"
        raise PromptError(msg)
    questions = tuple(Prompt(text).text for text in prompts)
    if isinstance(predictor, VolumePredictor):
        yield from VolumeRun(image, questions, predictor, config).steps(kept)
        return
    card = predictor.card.input
    greys = choose_greys(image, config.intensity, card.intensity)
    is_volume = image.ndim == 3 and image.units == "mm" and config.slice_index is None
    if not (is_volume and card.spacing_mm and len(card.spacing_mm) == 3):
        yield from Run(image, questions, predictor, config, greys).steps(kept)
        return
    walk = choose_slices(image, config.axis, None).axis or 0
    grid = ModelGrid.of(image, card.spacing_mm)
    there = replace(config, axis=grid.model_axis(walk))
    resampled = on_grid(image, grid, greys.limits)
    run = Run(resampled, questions, predictor, there, greys)
    for step in run.steps(kept):
        snapshot = _brought_back(step.snapshot, image, grid, walk)
        yield Step(step.done, step.total, snapshot)


def load_predictor(
    model: str, *, device: str = "auto", precision: str = "auto"
) -> AnyPredictor:
    """Load a model of pictures or of volumes, as its card says.

    Raises
    ------
    CheckpointError
        If there is no such model, or it is damaged.
    DeviceError
        If the device is not there.
    """
    loader = Predictor if model_card(model).volume is None else VolumePredictor
    loaded: AnyPredictor = loader.load(model, device=device, precision=precision)
    return loaded


def _image_for(image: Any, predictor: AnyPredictor) -> Image:
    """Return an `Image`, of files with its channels where the model takes several."""
    spec = predictor.card.volume
    paths = image if isinstance(image, (list, tuple)) else [image]
    are_files = all(isinstance(path, (str, Path)) for path in paths)
    if are_files and (len(paths) > 1 or (spec is not None and spec.channels > 1)):
        return read_channels([Path(path).expanduser() for path in paths])
    one: Any = paths[0] if are_files and paths else image
    return as_image(one)


def as_image(image: Image | npt.NDArray[Any] | str | Path) -> Image:
    """Return an `Image` from what a user may hand over."""
    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return read(image)
    voxels = np.asarray(image)
    coloured = voxels.ndim > 2 and voxels.shape[-1] in (3, 4)
    return Image(voxels, rgb=coloured)


def _brought_back(
    snapshot: Callable[[], Segmentation], image: Image, grid: ModelGrid, axis: int
) -> Callable[[], Segmentation]:
    """Return what gives a result of a resampled volume on the volume's own grid."""

    def native() -> Segmentation:
        found = snapshot()
        maps = Maps(
            len(found.prompts),
            image.spatial_shape,
            threshold=found.threshold,
            min_foreground=found.min_foreground,
        )
        windows = [slice_window(axis, k) for k in range(image.spatial_shape[axis])]
        for row in range(len(found.prompts)):
            probability = grid.to_native(found.probability[row])
            entropy = grid.to_native(found.expected_entropy[row])
            for window in windows:
                maps.enter(row, window, probability[window], entropy[window])
        for window in windows:
            maps.label(window)
        return replace(
            found,
            labels=maps.labels,
            probability=maps.probability,
            predictive_entropy=maps.predictive_entropy,
            mutual_information=maps.mutual_information,
            expected_entropy=maps.expected_entropy,
            affine=image.affine.copy(),
            slice_axis=axis,
            midline=find_midline(image, found.prompts),
            provenance={
                **found.provenance,
                "axis": axis,
                "voxel_mm": list(grid.spacing_mm),
            },
        )

    return native
