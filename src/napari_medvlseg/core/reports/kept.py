"""The results of finished images in a hidden folder, to go on from after Ctrl-C."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medvlseg.core.evaluate import CaseResult
from napari_medvlseg.core.io.kept import KeptSlices, forget, what_differs
from napari_medvlseg.core.metrics import Confusion
from napari_medvlseg.core.reliability import CaseReliability, Pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.predictor import Predictor

    Arrays = list[npt.NDArray[Any]]

ARRAYS = 3
"""Of a result, beside its text: sampled pixels, bins of the image and of the union."""


class KeptResults:
    """The results of one set's images.

    Parameters
    ----------
    file : Path
        What the evaluation will write; the folder lies beside it.
    cases : sequence of Case
        Of the set. An image whose file, label or prompts changed is measured again.
    settings : mapping
        Of `evaluation_settings`: results of other settings are never mixed in.
    """

    def __init__(
        self, file: Path, cases: Sequence[Case], settings: dict[str, Any]
    ) -> None:
        images = itertools.groupby(cases, key=lambda case: case.image_path)
        self._questions = [_digest(group) for _, group in images]
        self._place = (file.parent, f"{file.name}.{cases[0].dataset}")
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

    def load(self, index: int) -> list[CaseResult] | None:
        """Return what was kept of an image; None if nothing is, or it is damaged."""
        arrays: Arrays | None = self._kept.load(index)
        if not arrays:
            return None
        try:
            told = json.loads(str(arrays[0]))
            if told["questions"] != self._questions[index]:
                return None
            return [
                _result(entry, arrays[1 + ARRAYS * number :])
                for number, entry in enumerate(told["results"])
            ]
        except (ValueError, TypeError, KeyError, IndexError):
            return None

    def save(self, index: int, results: Sequence[CaseResult]) -> None:
        """Keep the results of an image."""
        told = [_told(result) for result in results]
        text = json.dumps({"questions": self._questions[index], "results": told})
        arrays = [array for result in results for array in _arrays(result)]
        self._kept.save(index, [np.array(text), *arrays])

    def forget(self) -> None:
        """Remove what is kept, of this and earlier runs into the same file."""
        forget(*self._place)


def evaluation_settings(
    design: str,
    predictor: Predictor,
    config: SegmentConfig,
    counts: Sequence[int],
) -> dict[str, Any]:
    """Return what the results depend on beside image, label and prompt, for JSON."""
    return {
        "design": design,
        "model": predictor.card.model_id,
        "weights_sha256": predictor.card.sha256,
        "sample_counts": sorted(counts),
        **asdict(config),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "napari-medvlseg": version("napari-medvlseg"),
        "torch": torch.__version__,
    }


def _digest(cases: Iterable[Case]) -> str:
    """Return a hash of the questions about one image, and of its files' state."""
    digest = hashlib.blake2b(digest_size=16)
    for case in cases:
        seen = [case.image_path.name, case.target, case.prompt]
        for path in (case.image_path, case.label_path):
            state = path.stat()
            seen += [str(state.st_size), str(state.st_mtime_ns)]
        digest.update(repr(seen).encode())
    return digest.hexdigest()


def _told(result: CaseResult) -> dict[str, Any]:
    """Return all of a result but its arrays."""
    known = result.reliability
    return {
        **{field.name: getattr(result, field.name) for field in fields(result)},
        "confusion": asdict(result.confusion),
        "reliability": {
            "entropy": known.entropy,
            "information": known.information,
            "doubt": known.doubt,
        },
    }


def _arrays(result: CaseResult) -> Arrays:
    """Return the arrays of a result; an empty union has no bins."""
    known = result.reliability
    union = np.zeros((0, 3)) if known.union is None else known.union.bins
    return [known.sample, known.image.bins, union]


def _result(told: dict[str, Any], arrays: Arrays) -> CaseResult:
    """Put a result together again."""
    sample, image, union = arrays[:ARRAYS]
    return CaseResult(
        **{
            **told,
            "confusion": Confusion(**told["confusion"]),
            "reliability": CaseReliability(
                image=Pixels(told["brier_image"], image),
                union=Pixels(told["brier_union"], union) if len(union) else None,
                sample=sample,
                **told["reliability"],
            ),
        }
    )
