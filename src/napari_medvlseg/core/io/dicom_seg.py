"""A segmentation as DICOM-SEG: masks as bits, probability in 255ths.

highdicom knows the standard; here is what we say about ourselves and each prompt.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_codes import PRIVATE_SCHEME, concept_of, plain
from napari_medvlseg.core.io.dicom_facts import series_number
from napari_medvlseg.core.palette import label_color

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    from highdicom import UID

    tracks = [UID() for _ in segmentation.prompts]  # a prompt's finding, in both files
    for number, (name, values, kind) in enumerate(
        (
            ("labels", segmentation.masks, "BINARY"),
            ("probability", _probability(segmentation), "FRACTIONAL"),
        ),
        start=1,
    ):
        made = _make(
            reference,
            values,
            _segments(segmentation, tracks),
            {"segmentation_type": kind, **_described(name, number, reference)},
            _identity(segmentation),
        )
        with _refusals_told(reference.path):
            made.save_as(folder / f"{stem}_{name}.dcm")


def _probability(segmentation: Segmentation) -> npt.NDArray[np.float32]:
    """Return probabilities that rounding has not carried out of [0, 1]."""
    values = segmentation.probability
    inside = values.min() >= 0 and values.max() <= 1
    return values if inside else np.clip(values, 0, 1, dtype=np.float32)


def _make(
    reference: Reference,
    values: npt.NDArray[Any],
    segments: Sequence[hd.seg.SegmentDescription],
    described: dict[str, Any],
    identity: dict[str, str],
) -> hd.seg.Segmentation:
    """Return the segmentation of some values, (P, *spatial)."""
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    ours = CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, name=f"{PRODUCT} prompts", responsible_organization=PRODUCT
    )
    planes = reference.planes(values)
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


def _identity(segmentation: Segmentation) -> dict[str, str]:
    """Return what a device has: the model stands for it, and its weights' hash."""
    told = segmentation.provenance
    weights = str(told.get("weights_sha256") or "unknown")
    return {
        "manufacturer_model_name": plain(str(told.get("model") or "unknown")),
        "device_serial_number": weights[:_SERIAL_CHARACTERS],
    }


def _segments(
    segmentation: Segmentation, tracks: Sequence[str]
) -> list[hd.seg.SegmentDescription]:
    """Describe a segment for each prompt, in order."""
    return [
        _segment(segmentation, label, prompt, track)
        for label, (prompt, track) in enumerate(
            zip(segmentation.prompts, tracks, strict=True), start=1
        )
    ]


def _segment(
    segmentation: Segmentation, label: int, prompt: str, track: str
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
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(segmentation),
        tracking_uid=track,
        tracking_id=plain(f"{label} {prompt}"),
        anatomic_regions=None if concept.region is None else [concept.region],
        display_color=hd.color.CIELabColor.from_string(label_color(label)),
    )
    if concept.side is not None:
        side = CodedConcept.from_code(concept.side)
        (kind,) = described.SegmentedPropertyTypeCodeSequence
        kind.add_new("SegmentedPropertyTypeModifierCodeSequence", "SQ", [side])
    if plain(prompt) != prompt:
        described.SegmentDescription = plain(prompt, _MAX_DESCRIPTION)
    return described


def _algorithm(segmentation: Segmentation) -> hd.AlgorithmIdentificationSequence:
    """Name the model, its weights, and how it was asked."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    told = segmentation.provenance
    parameters = {
        key: plain(str(told[key]))
        for key in ("num_samples", "seed", "precision")
        if key in told
    }
    return hd.AlgorithmIdentificationSequence(
        name=plain(str(told.get("model") or "unknown")),
        family=codes.DCM.ArtificialIntelligence,
        version=plain(str(told.get("weights_sha256") or "unknown")),
        source=f"{PRODUCT} {version(PRODUCT)}",
        parameters={**parameters, "threshold": f"{segmentation.threshold:g}"},
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
            "--format"
        )
        raise UnsupportedFormatError(msg) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
