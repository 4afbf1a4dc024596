"""`medvlseg segment`: images and prompts to files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import complain, progress, say, tell
from napari_medvlseg.core.errors import (
    GeometryError,
    ImageError,
    MedVLSegError,
    OutputError,
    UnsupportedFormatError,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.io.kept import KeptSlices
    from napari_medvlseg.core.pipeline import AnyPredictor
    from napari_medvlseg.core.types import Image, Segmentation

    Task = tuple[list[str], AnyPredictor, SegmentConfig]

DEFAULT_FOLDER = "medvlseg-output"
_logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Segment every image; an image that cannot be used does not stop the others."""
    from napari_medvlseg.core.types import Prompt

    config = segment_config(options)
    prompts = [Prompt(text).text for text in options.prompt]
    if len(set(prompts)) < len(prompts):
        msg = "expected different prompts, got one twice"
        raise UsageError(msg)
    output, jobs = _jobs(options)
    _logger.info("loading %s", options.model)
    from napari_medvlseg.core.pipeline import load_predictor

    predictor = load_predictor(
        options.model, device=config.device, precision=config.precision
    )
    if not config.class_texts:
        predictor.check(prompts)  # a prompt that cannot be used is told at once
    failures = 0
    for path, stem in jobs.items():
        try:
            _segment_one(path, stem, output, (prompts, predictor, config), options)
        except (UnsupportedFormatError, ImageError, GeometryError) as error:
            complain(_with_path(error, path))
            failures += 1
    _tell_left_over(output)
    return 2 if failures else 0


def _jobs(options: argparse.Namespace) -> tuple[Path, dict[Path, str]]:
    """Return the folder of the results, and for each image what their names begin with.

    What cannot be read or written is told here, before torch is imported.
    """
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.io.inputs import expand, result_stems
    from napari_medvlseg.core.io.read import check_readable
    from napari_medvlseg.core.io.write import check_output

    paths = expand(options.images)
    output, own_stem = _place(options.output or paths[0].parent / DEFAULT_FOLDER)
    stems = result_stems(paths) if own_stem is None else [own_stem]
    if len(stems) != len(paths):
        msg = f"expected a folder as --output of {len(paths)} images, got a file's name"
        raise UsageError(msg)
    jobs = dict(zip(paths, stems, strict=True))
    model_card(options.model)
    if options.channel and len(paths) != 1:
        msg = f"expected one image beside --channel, got {len(paths)}"
        raise UsageError(msg)
    if len(paths) == 1:
        for path in (*paths, *options.channel):
            check_readable(path)
    check_output(output, jobs, overwrite=options.overwrite)
    return output, jobs


def _place(output: Path) -> tuple[Path, str | None]:
    """Return the folder of the results, and their stem if a file's name was given."""
    from napari_medvlseg.core.io.formats import ENDINGS

    name = output.name.lower()
    for ending in (*ENDINGS, ".nii"):
        if name.endswith(ending) and not output.is_dir():
            return output.parent, output.name[: -len(ending)] or None
    return output, None


def _tell_left_over(output: Path) -> None:
    """Name earlier runs into the same folder that nobody has gone on with."""
    from napari_medvlseg.core.io.kept import left_over

    for folder in left_over(output):
        tell(
            f"{folder}: the slices of an unfinished run; its command goes on from "
            "there, or remove the folder"
        )


def _segment_one(
    path: Path,
    stem: str,
    output: Path,
    task: Task,
    options: argparse.Namespace,
) -> None:
    """Segment one image, write its files and say what was found."""
    from napari_medvlseg.core.io.formats import Source, check_format
    from napari_medvlseg.core.io.kept import forget
    from napari_medvlseg.core.io.write import write

    source = Source(path, options.series)
    image = _read(path, task[1], options)
    check_format(image, source, options.format)
    _logger.info("segmenting %s, shape %s", path, image.voxels.shape)
    kept = _kept_slices(image, output / stem, task, options)
    try:
        found = _result(image, path.name, task, kept)
    except KeyboardInterrupt as stop:
        if kept is not None and kept.count:
            left = (
                f"{kept.count} slices are kept in {kept.folder}; the same command goes "
                "on from there, with --no-resume it removes them"
            )
            stop.args = (left,)
        raise
    written = write(
        found,
        source,
        output,
        stem=stem,
        overwrite=options.overwrite,
        file_format=options.format,
    )
    forget(output, stem)
    for hint in found.provenance["hints"]:
        tell(f"{path.name}: {hint}")
    _logger.info("written for %s: %s", path, ", ".join(file.name for file in written))
    for line in describe_result(found):
        say(f"{path.name}: {line}")
    say(f"{path.name}: written to {output / stem}_*")


def _read(path: Path, predictor: AnyPredictor, options: argparse.Namespace) -> Image:
    """Read an image, with its channels where the model takes several."""
    from napari_medvlseg.core.io.channels import read_channels
    from napari_medvlseg.core.io.read import read

    spec = predictor.card.volume
    if spec is not None and spec.channels > 1:
        return read_channels([path, *options.channel])
    if options.channel:
        msg = (
            f"--channel belongs to 3D models of several channels, which "
            f"{predictor.card.model_id} is not; leave it out"
        )
        raise UsageError(msg)
    return read(path, series=options.series)


def _result(
    image: Image, name: str, task: Task, kept: KeptSlices | None
) -> Segmentation:
    """Segment an image while a bar tells how far that is."""
    from napari_medvlseg.core.pipeline import segment_steps

    step = None
    with progress(name, None) as move:
        for step in segment_steps(image, *task, kept):
            move(step.done, step.total, name)
    if step is None:
        msg = "expected at least one slice to segment, got none"
        raise ImageError(msg)
    return step.snapshot()


def _kept_slices(
    image: Image, place: Path, task: Task, options: argparse.Namespace
) -> KeptSlices | None:
    """Return where a volume's finished slices are kept; say if some are there.

    Raises
    ------
    OutputError
        If slices must be there and are not.
    """
    from napari_medvlseg.core.io.kept import KeptSlices, forget, what_differs
    from napari_medvlseg.core.provenance import run_settings

    prompts, predictor, config = task
    if image.ndim < 3 or config.slice_index is not None:
        return None
    settings = run_settings(image, prompts, predictor, config)
    kept = KeptSlices(place.parent, place.name, settings)
    if options.resume is False:
        forget(place.parent, place.name)
        return None
    others = kept.others()
    if kept.count:
        tell(f"{place.name}: goes on after {kept.count} finished slices")
    elif options.resume:
        found = f"one with {what_differs(settings, others[0])}" if others else "none"
        msg = (
            f"{place}: expected an unfinished run of the same command, found {found}; "
            "repeat that command, or leave --resume out to begin anew"
        )
        raise OutputError(msg)
    elif others:
        tell(
            f"{place.name}: begins anew; the unfinished run there had "
            f"{what_differs(settings, others[0])}, and is kept until this one is done"
        )
    return kept


def describe_result(found: Segmentation) -> list[str]:
    """Return a line for each prompt."""
    from napari_medvlseg.core.io.write import figures

    told = figures(found)
    lines = []
    for entry in told["prompts"]:
        if not entry["present"]:
            nearest = f"probability {entry['max_probability']:.2f} at most"
            lines.append(f'"{entry["prompt"]}": absent, {nearest}')
            continue
        size = f"{entry['pixels']} px"
        if "volume_mm3" in entry:
            size = f"{_size(entry['volume_mm3'])} mm3 ({entry['pixels']} voxels)"
        elif "area_mm2" in entry:
            size = f"{_size(entry['area_mm2'])} mm2 ({entry['pixels']} px)"
        lines.append(
            f'"{entry["prompt"]}": {size}, '
            f"probability {entry['mean_probability']:.3f}, mutual information "
            f"{entry['mean_mutual_information']:.4f} nats within"
            f"{'; doubtful, look closely' if entry['doubtful'] else ''}"
        )
        if "side_warning" in entry:
            lines.append(f'"{entry["prompt"]}": careful: {entry["side_warning"]}')
    if told["overlap_fraction"] > 0:
        lines.append(f"prompts overlap on {told['overlap_fraction']:.2%} of the image")
    return lines


def _size(value: float) -> str:
    """Return a size; that of a cell with three digits that tell."""
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _with_path(error: MedVLSegError, path: Path) -> str:
    """Name the image in a message that does not."""
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"
