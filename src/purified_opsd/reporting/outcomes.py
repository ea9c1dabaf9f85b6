"""What came of a run, candidate by candidate: its evaluation and its diagnosis, read from the run directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .records import RunError, read_json


class Estimate(NamedTuple):
    """A mean and its standard error, which is None where it cannot be told."""

    mean: float
    error: float | None

    def times(self, scale: float) -> "Estimate":
        return Estimate(scale * self.mean, None if self.error is None else scale * self.error)

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        error = "" if self.error is None else f" ± {scale * self.error:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{error}"


@dataclass(frozen=True)
class Outcome:
    """One candidate of a run: the base (step 0) or a checkpoint.  What was not measured is not there."""

    step: int
    score: dict[str, Any] | None
    """Its row of evaluation/results.json."""
    diagnosis: dict[str, Estimate]
    """By the number's name; empty where there was none."""

    def scored(self, name: str, interval: str | None = None) -> Estimate | None:
        """A number of its score, with the error of its interval."""
        if self.score is None:
            return None
        around = self.score[interval] if interval else None
        return Estimate(self.score[name], around["standard_error"] if around else None)


def read_outcomes(run: Path, benchmark: str) -> list[Outcome]:
    """Base first, then the checkpoints by step; those that were neither evaluated nor diagnosed are left out."""
    scores = {step_of(row["candidate"]): row for row in read_scores(run) if row["benchmark"] == benchmark}
    diagnoses = read_diagnoses(run)
    return [Outcome(step, scores.get(step), diagnoses.get(step, {})) for step in sorted(scores.keys() | diagnoses.keys())]


def read_scores(run: Path) -> list[dict[str, Any]]:
    """The rows of evaluation/results.json: one a candidate and benchmark; none where nothing was evaluated."""
    file = run / "evaluation" / "results.json"
    return read_json(file, "scores")["scores"] if file.exists() else []


def read_diagnoses(run: Path) -> dict[int, dict[str, Estimate]]:
    """By step, base first: every number of its diagnosis; empty where there was none."""
    found = {}
    for file in [*(run / "diagnosis").glob("base.json"), *(run / "diagnosis").glob("step-*.json")]:
        summary = read_json(file, "summary")["summary"]
        found[step_of(file.stem)] = {name: Estimate(value["mean"], value["standard_error"]) for name, value in summary.items()}
    return dict(sorted(found.items()))


def step_of(candidate: str) -> int:
    """`base` is step 0.  Raises RunError for what is neither the base nor a checkpoint."""
    number = candidate.removeprefix("step-") if candidate != "base" else "0"
    if not number.isdecimal():
        raise RunError(f"`{candidate}` is neither `base` nor a checkpoint such as `step-000020`: no part of a run. Take it out.")
    return int(number)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well in a terminal: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [_line(header, widths), "|" + "|".join(_rule(place, width) for place, width in enumerate(widths)) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)]) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True))]
    return f"| {' | '.join(cells)} |"


def _rule(place: int, width: int) -> str:
    return "-" * (width + 1) + (":" if place else "-")
