"""Loss and DSC curves of a run, as a table and as a picture."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SMOOTHING = 0.98
"""Of the loss curve in the picture."""


class TrainingLog:
    """Collects one row a step."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.rows: list[dict[str, Any]] = []

    def add(
        self, step: int, epoch: int, loss: float, dsc: dict[str, float] | None
    ) -> None:
        """Remember a step."""
        row = {"step": step, "epoch": epoch, "loss": round(loss, 5)}
        for name, value in (dsc or {}).items():
            row[f"dsc_{name}"] = round(value, 4)
        self.rows.append(row)

    def write(self) -> None:
        """Write ``curves.csv`` and ``curves.png``."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.output / "curves.csv").open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, names, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        self._draw([name for name in names if name.startswith("dsc_")])

    def _draw(self, sets: list[str]) -> None:
        """Draw both curves."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        smooth, curve = None, []
        for row in self.rows:
            loss = row["loss"]
            smooth = (
                loss if smooth is None else SMOOTHING * smooth + (1 - SMOOTHING) * loss
            )
            curve.append(smooth)
        left.plot([row["step"] for row in self.rows], curve)
        left.set(xlabel="step", ylabel="training loss (smoothed)")
        for name in sets:
            points = [(r["step"], r[name]) for r in self.rows if name in r]
            right.plot(*zip(*points, strict=True), label=name.removeprefix("dsc_"))
        right.set(xlabel="step", ylabel="validation DSC (part of the cases)")
        if sets:
            right.legend(fontsize="small")
        figure.savefig(self.output / "curves.png", dpi=100)
