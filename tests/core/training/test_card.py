"""The card tells figures by set and by wording."""

from __future__ import annotations

from typing import Any

from napari_medvlseg.core.training.card import card_markdown

CONFIG = {
    "model_id": "mine",
    "summary": "Finds polyps.",
    "licence": "BSD",
    "intended_use": "Research",
    "concepts": [{"name": "polyp"}],
    "parameters": 4_400_000,
    "input": {"size": 256},
}


def _entry(prompts: str, mean: float | None, absent: float = 0.0) -> dict[str, Any]:
    spread = {"mean": mean, "std": None}
    told = {"set": "Kvasir", "prompts": prompts, "samples": 30, "n": 1}
    return {**told, "dsc": spread, "nsd": spread, "absent": absent}


def test_other_wordings_stand_in_a_table_of_their_own() -> None:
    sets = [
        _entry("original", 0.9),
        _entry("class_name", 0.8),
        _entry("mismatched", 0.975, absent=0.975),
        {**_entry("original", 0.7), "set": "ISIC"},
    ]
    text = card_markdown(CONFIG, {"sets": sets})
    assert "| Kvasir | original | 1 | 0.900 | 0.900 |" in text
    assert "| Kvasir | class_name | 1 |" not in text
    assert "| set | class_name | mismatched |" in text
    assert "| Kvasir | 0.800 | 97.5 % |" in text
    assert "| ISIC | - | - |" not in text  # only asked as it is


def test_without_other_wordings_there_is_no_such_table() -> None:
    text = card_markdown(CONFIG, {"sets": [_entry("original", None)]})
    assert "| Kvasir | original | 1 | - | - |" in text
    assert "Asked otherwise" not in text
    assert "Not measured." in card_markdown(CONFIG, {"note": "none"})
