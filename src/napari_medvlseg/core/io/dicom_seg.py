"""A segmentation as DICOM-SEG: masks as bits, probability in 255ths.

highdicom knows the standard; here is what we say about ourselves and each prompt.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_codes import PRIVATE_SCHEME, concept_of, plain
from napari_medvlseg.core.io.dicom_facts import series_number
from napari_medvlseg.core.palette import label_color

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import highdicom as hd
    import numpy.typing as npt

    from napari_medvlseg.core.io.dicom_source import Reference
    from napari_medvlseg.core.types import Segmentation

PRODUCT = "napari-medvlseg"
MAX_FRACTION = 255
"""What stands for a probability of 1."""
_MAX_DESCRIPTION = 1024
_MAX_SOURCE_NUMBER = 10**6
_SERIAL_CHARACTERS = 16
_REFUSALS = (
    *(AttributeError, KeyError, IndexError, TypeError, ValueError),
    *(NotImplementedError, OverflowError),
)
"""What highdicom and pydicom raise on a source that they cannot use."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What segments are called, and how they were found.

    Parameters
    ----------
    prompts : P texts
        Segment ``i + 1`` is what ``prompts[i]`` asked for.
    provenance : mapping
        Of the model; nothing where there was none.
    threshold : float or None
        Probability above which a pixel is labelled.
    colors : P texts, or none
        Of the segments, where the model gives its classes colours.
    by : str
        ``"AUTOMATIC"``; ``"SEMIAUTOMATIC"`` if a person corrected it; ``"MANUAL"``.
    """

    prompts: tuple[str, ...]
    provenance: Mapping[str, Any]
    threshold: float | None
    by: str = "AUTOMATIC"
    colors: tuple[str, ...] = ()


def write_dicom_seg(
    folder: Path, stem: str, segmentation: Segmentation, reference: Reference
) -> None:
    """Write ``STEM_labels.dcm`` and ``STEM_probability.dcm``.

    Each has a segment a prompt, numbered like its label; overlaps survive. A prompt
    that was not found has a segment without frames.

    Parameters
    ----------
    folder : Path
    stem : str
        What the names begin with.
    segmentation : Segmentation
    reference : Reference
        The files of its image.

    Raises
    ------
    UnsupportedFormatError
        If a segmentation cannot refer to these files.
    """
    findings = Findings(
        segmentation.prompts,
        segmentation.provenance,
        segmentation.threshold,
        colors=segmentation.colors,
    )
    tracks = new_tracks(findings)
    for name, values in (
        ("labels", segmentation.masks),
        ("probability", segmentation.probability),
    ):
        file = folder / f"{stem}_{name}.dcm"
        write_segments(file, values, findings, reference, tracks)


def new_tracks(findings: Findings) -> list[str]:
    """Return an identifier for each segment, alike in all files that tell of it."""
    from highdicom import UID

    return [UID() for _ in findings.prompts]


def write_segments(
    file: Path,
    values: npt.NDArray[Any],
    findings: Findings,
    reference: Reference,
    tracks: Sequence[str],
) -> None:
    """Write one DICOM-SEG.

    Parameters
    ----------
    file : Path
    values : (P, *spatial) bool, or float; or (1, *spatial) unsigned integer
        Masks, which may overlap; or probabilities; or labels 0..P. With the axes of
        the image that `reference` made.
    findings : Findings
    reference : Reference
        The files of the image.
    tracks : P texts
        Of `new_tracks`.

    Raises
    ------
    UnsupportedFormatError
        If a segmentation cannot refer to these files.
    """
    is_probability = values.dtype.kind == "f"
    name, number = ("probability", 2) if is_probability else ("labels", 1)
    kind = "FRACTIONAL" if is_probability else "BINARY"
    made = _make(
        reference,
        _inside(values) if is_probability else values,
        _segments(findings, tracks),
        {"segmentation_type": kind, **_described(name, number, reference)},
        _identity(findings.provenance),
    )
    with _refusals_told(reference.path):
        made.save_as(file)


def _inside(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return probabilities that rounding has not carried out of [0, 1].

    If all would be written as 0, they are 0: highdicom decides by the numbers it gets
    whether anything is there at all.
    """
    if values.max() < 0.5 / MAX_FRACTION:
        return np.zeros_like(values)
    inside = values.min() >= 0 and values.max() <= 1
    return values if inside else np.clip(values, 0, 1, dtype=np.float32)


def _make(
    reference: Reference,
    values: npt.NDArray[Any],
    segments: Sequence[hd.seg.SegmentDescription],
    described: dict[str, Any],
    identity: dict[str, str],
) -> hd.seg.Segmentation:
    """Return the segmentation of some values, as `write_segments` takes them."""
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    ours = CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, name=f"{PRODUCT} prompts", responsible_organization=PRODUCT
    )
    planes = reference.planes(values)
    if values.dtype.kind == "u":
        planes = planes[..., 0]
    told: dict[str, Any] = {
        "series_instance_uid": hd.UID(),
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": PRODUCT,
        "software_versions": version(PRODUCT),
        "max_fractional_value": MAX_FRACTION,
        "specific_character_set": "ISO_IR 192",
        "coding_schemes": [ours],
        **identity,
        **described,
    }
    with _refusals_told(reference.path):
        made = hd.seg.Segmentation(
            source_images=list(reference.headers),
            pixel_array=planes,
            segment_descriptions=segments,
            **told,
        )
    shared = made.SharedFunctionalGroupsSequence[0]
    measures = shared.get("PixelMeasuresSequence")
    if measures and "PixelSpacing" not in measures[0]:
        del shared.PixelMeasuresSequence  # the source tells no spacing
    return made


def _described(name: str, number: int, reference: Reference) -> dict[str, Any]:
    """Return what a series of ours is called, and its number: 301 beside series 3."""
    source = (series_number(reference.headers[0]) or 0) % _MAX_SOURCE_NUMBER
    return {
        "series_number": source * 100 + number,
        "series_description": f"{PRODUCT} {name}",
        "content_label": name.upper(),
        "content_description": f"{name} of what prompts asked for",
    }


def _identity(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what a device has: the model stands for it, and its weights' hash."""
    weights = str(told.get("weights_sha256") or "unknown")
    return {
        "manufacturer_model_name": plain(str(told.get("model") or "unknown")),
        "device_serial_number": weights[:_SERIAL_CHARACTERS],
    }


def _segments(
    findings: Findings, tracks: Sequence[str]
) -> list[hd.seg.SegmentDescription]:
    """Describe a segment for each prompt, in order."""
    return [
        _segment(findings, label, prompt, track)
        for label, (prompt, track) in enumerate(
            zip(findings.prompts, tracks, strict=True), start=1
        )
    ]


def _segment(
    findings: Findings, label: int, prompt: str, track: str
) -> hd.seg.SegmentDescription:
    """Describe what one prompt asked for, who found it, and its colour."""
    import highdicom as hd
    from highdicom.sr import CodedConcept

    concept = concept_of(prompt)
    described = hd.seg.SegmentDescription(
        segment_number=label,
        segment_label=plain(prompt),
        segmented_property_category=concept.category,
        segmented_property_type=concept.kind,
        algorithm_type=findings.by,
        algorithm_identification=_algorithm(findings),
        tracking_uid=track,
        tracking_id=plain(f"{label} {prompt}"),
        anatomic_regions=None if concept.region is None else [concept.region],
        display_color=hd.color.CIELabColor.from_string(
            label_color(label, findings.colors)
        ),
    )
    if concept.side is not None:
        side = CodedConcept.from_code(concept.side)
        (kind,) = described.SegmentedPropertyTypeCodeSequence
        kind.add_new("SegmentedPropertyTypeModifierCodeSequence", "SQ", [side])
    if plain(prompt) != prompt:
        described.SegmentDescription = plain(prompt, _MAX_DESCRIPTION)
    return described


def _algorithm(findings: Findings) -> hd.AlgorithmIdentificationSequence | None:
    """Name the model, its weights, and how it was asked; None where none was."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    if findings.by == "MANUAL":
        return None
    told = findings.provenance
    parameters = {
        key: plain(str(told[key]))
        for key in ("num_samples", "seed", "precision")
        if key in told
    }
    if findings.threshold is not None:
        parameters["threshold"] = f"{findings.threshold:g}"
    return hd.AlgorithmIdentificationSequence(
        name=plain(str(told.get("model") or "unknown")),
        family=codes.DCM.ArtificialIntelligence,
        version=plain(str(told.get("weights_sha256") or "unknown")),
        source=f"{PRODUCT} {version(PRODUCT)}",
        parameters=parameters,
    )


@contextmanager
def _refusals_told(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a source into one sentence.

    The reason is told by its kind only, and their warnings and log are silenced: their
    words may quote the patient's data.
    """
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _REFUSALS as error:
        msg = (
            f"{path}: expected files that DICOM-SEG can refer to, got some with an "
            f"element that it cannot repeat ({type(error).__name__}); choose another "
            "format"
        )
        raise UnsupportedFormatError(msg) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
