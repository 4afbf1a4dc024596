"""The results of finished cases in a hidden folder, to go on from after Ctrl-C."""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch

from napari_medvlseg.core.evaluate import CaseResult
from napari_medvlseg.core.evaluate_volumes import ClassFigures, VolumeResult
from napari_medvlseg.core.io.kept import KeptSlices, forget, what_differs
from napari_medvlseg.core.metrics import Confusion
from napari_medvlseg.core.provenance import texts_of
from napari_medvlseg.core.reliability import CaseReliability, Pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.pipeline import AnyPredictor
    from napari_medvlseg.core.volume_sets import VolumeCase

    Arrays = list[npt.NDArray[Any]]

Result = TypeVar("Result")


class KeptAnswers(ABC, Generic[Result]):
    """The results of one set.

    Parameters
    ----------
    file : Path
        What the evaluation will write; the folder lies beside it.
    name : str
        Of the set.
    cases : sequence of str
        A hash of each image's questions and of its files' state: what has changed is
        measured again.
    settings : mapping
        Of `evaluation_settings`: results of other settings are never mixed in.
    """

    def __init__(
        self, file: Path, name: str, cases: Sequence[str], settings: dict[str, Any]
    ) -> None:
        self._cases = cases
        self._place = (file.parent, f"{file.name}.{name}")
        self._kept = KeptSlices(*self._place, settings, what="results")

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._kept.folder

    @property
    def count(self) -> int:
        """How many images are kept."""
        return self._kept.count

    @property
    def differs(self) -> str:
        """What an unfinished run of other settings had; empty if there is none."""
        others = self._kept.others()
        return what_differs(self._kept.settings, others[0]) if others else ""

    def load(self, index: int) -> list[Result] | None:
        """Return what was kept of an image; None if nothing is, or it is damaged."""
        arrays: Arrays | None = self._kept.load(index)
        if not arrays:
            return None
        try:
            told, rest = json.loads(str(arrays[0])), iter(arrays[1:])
            if told["questions"] != self._cases[index]:
                return None
            return [self._result(entry, rest) for entry in told["results"]]
        except (ValueError, TypeError, KeyError, StopIteration):
            return None

    def save(self, index: int, results: Sequence[Result]) -> None:
        """Keep the results of an image."""
        told = [self._told(result) for result in results]
        text = json.dumps({"questions": self._cases[index], "results": told})
        known = [one for result in results for one in self._reliability(result)]
        arrays = [array for one in known for array in _arrays(one)]
        self._kept.save(index, [np.array(text), *arrays])

    def forget(self) -> None:
        """Remove what is kept, of this and earlier runs into the same file."""
        forget(*self._place)

    @abstractmethod
    def _told(self, result: Result) -> dict[str, Any]:
        """Return all of a result but its arrays, for JSON."""

    @abstractmethod
    def _reliability(self, result: Result) -> Iterable[CaseReliability]:
        """Return what of a result holds arrays."""

    @abstractmethod
    def _result(
        self, told: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]
    ) -> Result:
        """Put a result together again; it takes as many arrays as it had."""


class KeptResults(KeptAnswers[CaseResult]):
    """The results of one set's pictures.

    Parameters
    ----------
    file : Path
    cases : sequence of Case
        Of the set.
    settings : mapping
    """

    def __init__(
        self, file: Path, cases: Sequence[Case], settings: dict[str, Any]
    ) -> None:
        images = itertools.groupby(cases, key=lambda case: case.image_path)
        questions = [_digest(group) for _, group in images]
        super().__init__(file, cases[0].dataset, questions, settings)

    def _told(self, result: CaseResult) -> dict[str, Any]:
        return {
            **{field.name: getattr(result, field.name) for field in fields(result)},
            "confusion": asdict(result.confusion),
            "reliability": _told_reliability(result.reliability),
        }

    def _reliability(self, result: CaseResult) -> list[CaseReliability]:
        return [result.reliability]

    def _result(
        self, told: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]
    ) -> CaseResult:
        confusion = Confusion(**told["confusion"])
        reliability = _read_reliability(told["reliability"], arrays)
        return CaseResult(
            **{**told, "confusion": confusion, "reliability": reliability}
        )


class KeptVolumes(KeptAnswers[VolumeResult]):
    """The results of one set's volumes.

    Parameters
    ----------
    file : Path
    name : str
        Of the set.
    cases : sequence of VolumeCase
    settings : mapping
    """

    def __init__(
        self,
        file: Path,
        name: str,
        cases: Sequence[VolumeCase],
        settings: dict[str, Any],
    ) -> None:
        questions = [
            _digest_of([case.name], (*case.images, case.label)) for case in cases
        ]
        super().__init__(file, name, questions, settings)

    def _told(self, result: VolumeResult) -> dict[str, Any]:
        known = result.reliability.items()
        return {
            **{field.name: getattr(result, field.name) for field in fields(result)},
            "classes": {name: asdict(one) for name, one in result.classes.items()},
            "reliability": {name: _told_reliability(one) for name, one in known},
        }

    def _reliability(self, result: VolumeResult) -> Iterable[CaseReliability]:
        return result.reliability.values()

    def _result(
        self, told: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]
    ) -> VolumeResult:
        classes = {
            name: ClassFigures(**{**one, "confusion": Confusion(**one["confusion"])})
            for name, one in told["classes"].items()
        }
        reliability = {
            name: _read_reliability(one, arrays)
            for name, one in told["reliability"].items()
        }
        return VolumeResult(**{**told, "classes": classes, "reliability": reliability})


def evaluation_settings(
    design: str,
    predictor: AnyPredictor,
    config: SegmentConfig,
    counts: Sequence[int],
) -> dict[str, Any]:
    """Return what the results depend on beside image, label and prompt, for JSON."""
    card = predictor.card
    shown = (card.volume or card.input, card.min_foreground, card.network)
    return {
        "design": design,
        "model": card.model_id,
        "weights_sha256": card.sha256,
        "card": _digest_of([repr(shown)], ()),
        "sample_counts": sorted(counts),
        **asdict(config),
        "class_texts": texts_of(config, card),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "napari-medvlseg": version("napari-medvlseg"),
        "torch": torch.__version__,
    }


def _digest(cases: Iterable[Case]) -> str:
    """Return a hash of the questions about one image, and of its files' state."""
    known = list(cases)
    seen = [text for case in known for text in _words(case)]
    paths = [path for case in known for path in (case.image_path, case.label_path)]
    return _digest_of(seen, paths)


def _words(case: Case) -> list[str]:
    """Return what names a case."""
    return [case.image_path.name, case.target, repr(case.prompt)]


def _digest_of(words: Sequence[str], files: Iterable[Path]) -> str:
    """Return a hash of words and of the state of files."""
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    text = repr((list(words), states))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _told_reliability(known: CaseReliability) -> dict[str, Any]:
    """Return all numbers of a case's reliability but its arrays."""
    return {
        "entropy": known.entropy,
        "information": known.information,
        "doubt": known.doubt,
        "most": known.most,
        "brier_image": known.image.brier,
        "brier_union": None if known.union is None else known.union.brier,
    }


def _arrays(known: CaseReliability) -> Arrays:
    """Return the arrays of a case's reliability; an empty union has no bins."""
    union = np.zeros((0, 3)) if known.union is None else known.union.bins
    return [known.sample, known.image.bins, union]


def _read_reliability(
    told: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]
) -> CaseReliability:
    """Put a case's reliability together again."""
    sample, image, union = next(arrays), next(arrays), next(arrays)
    return CaseReliability(
        image=Pixels(told.pop("brier_image"), image),
        union=_union(told.pop("brier_union"), union),
        sample=sample,
        **told,
    )


def _union(brier: float | None, bins: npt.NDArray[Any]) -> Pixels | None:
    """Return a region that may be empty."""
    return None if brier is None else Pixels(brier, bins)
