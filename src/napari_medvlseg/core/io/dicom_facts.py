"""What a DICOM header may tell without naming the patient.

Only what is listed here is passed on, and of free text only words that none of the
identifying elements holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.io.dicom_frames import window_of
from napari_medvlseg.core.io.dicom_geometry import plane_name
from napari_medvlseg.core.io.dicom_pixels import photometric, syntax_name

if TYPE_CHECKING:
    from napari_medvlseg.core.io.dicom_frames import Frame

_IDENTIFYING_VR = ("PN", "DA", "DT", "TM", "AS")
"""Value representations of names, dates, times and ages."""
_IDENTIFYING = (
    *("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "PatientAddress"),
    *("PatientBirthName", "PatientComments", "AdditionalPatientHistory", "Occupation"),
    *("MedicalRecordLocator", "MilitaryRank", "EthnicGroup", "PatientTelephoneNumbers"),
    *("AccessionNumber", "StudyID", "AdmissionID", "RequestedProcedureID"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"),
    *("StationName", "DeviceSerialNumber", "ImageComments"),
)
_SHORTEST = 3
"""Letters of a word that is looked for among the identifying ones."""
_NUMBER_OR_DATE = re.compile(r"\d{5,}|\d+[-./]\d+[-./]\d+")
_CODE = re.compile(r"[A-Z]{2,8}")
_MAX_CHARACTERS = 64


def name_of(header: Any) -> str:
    """Return a name without patient data: ``CT series 3``."""
    number = series_number(header)
    return f"{modality(header)} {'image' if number is None else f'series {number}'}"


def modality(header: Any) -> str:
    """Return DICOM's code of how an image was made, ``DICOM`` where it says none."""
    code = str(header.get("Modality") or "")
    return code if _CODE.fullmatch(code) else "DICOM"


def series_number(header: Any) -> int | None:
    """Return the number of a series, None where it has none."""
    number = header.get("SeriesNumber")
    return int(number) if isinstance(number, int) else None


def cleaned(text: object, header: Any) -> str:
    """Return a free text without words that may identify the patient.

    Words that a name, a date, a number or an address of the same header holds are left
    out, and so are long numbers and dates.
    """
    forbidden = _identifying_words(header)
    words = re.split(r"[\s_^,;:/\\]+", str(text or ""))
    kept = [
        word
        for word in words
        if word.isprintable()
        and not _NUMBER_OR_DATE.search(word)
        and not forbidden & _words(word)
    ]
    return " ".join(kept).strip()[:_MAX_CHARACTERS]


def header_facts(frame: Frame) -> dict[str, Any]:
    """Return what the header of a frame tells, ready for JSON; absent is left out."""
    header = frame.file.header
    facts = {
        "modality": modality(header),
        "manufacturer": cleaned(header.get("Manufacturer"), header),
        "model": cleaned(header.get("ManufacturerModelName"), header),
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "slice_thickness_mm": frame.thickness,
        "photometric_interpretation": photometric(header),
        "transfer_syntax": syntax_name(header),
        "orientation": plane_name(frame.orientation),
    }
    window = window_of(frame)
    if photometric(header) == "MONOCHROME1":
        facts["inverted"] = True  # and the window is not of these values
    elif window is not None:
        facts["window_center"], facts["window_width"] = window
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _identifying_words(dataset: Any) -> set[str]:
    """Return the words of all elements that may tell who the patient is."""
    found: set[str] = set()
    for element in dataset:
        if element.VR == "SQ" and "FunctionalGroups" not in element.keyword:
            for item in element.value:
                found |= _identifying_words(item)
        elif element.VR in _IDENTIFYING_VR or element.keyword in _IDENTIFYING:
            found |= _words(str(element.value))
    return found


def _words(text: str) -> set[str]:
    """Return the words of a text, long enough to mean something, in small letters."""
    words = re.findall(r"\w+", text.casefold().replace("_", " "))
    return {word for word in words if len(word) >= _SHORTEST}
