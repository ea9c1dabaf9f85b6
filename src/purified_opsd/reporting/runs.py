"""What came of a run, candidate by candidate: its evaluation and its diagnosis, read from the run
directory.

Run directories, read for a report: what was asked, how far it came, and what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from purified_opsd.errors import RunError
from purified_opsd.storage.files import read_json
from purified_opsd.storage.run_dir import RunReader, step_of

from .completions import asked, asked_markers


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
    """One candidate of a run: the base (step 0) or a checkpoint.  What was not measured is not
    there.
    """

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
    """Base first, then the checkpoints by step; those that were neither evaluated nor diagnosed are
    left out.
    """
    scores = {
        step_of(row["candidate"]): row for row in read_scores(run) if row["benchmark"] == benchmark
    }
    diagnoses = read_diagnoses(run)
    return [
        Outcome(step, scores.get(step), diagnoses.get(step, {}))
        for step in sorted(scores.keys() | diagnoses.keys())
    ]


def read_scores(run: Path) -> list[dict[str, Any]]:
    """The rows of evaluation/results.json: one a candidate and benchmark; none where nothing was
    evaluated.
    """
    file = run / "evaluation" / "results.json"
    return read_json(file, "scores")["scores"] if file.exists() else []


def read_diagnoses(run: Path) -> dict[int, dict[str, Estimate]]:
    """By step, base first: every number of its diagnosis; empty where there was none."""
    found = {}
    for file in [*(run / "diagnosis").glob("base.json"), *(run / "diagnosis").glob("step-*.json")]:
        summary = read_json(file, "summary")["summary"]
        found[step_of(file.stem)] = {
            name: Estimate(value["mean"], value["standard_error"])
            for name, value in summary.items()
        }
    return dict(sorted(found.items()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well in a terminal: the first column to the left, numbers to
    the right.
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        _line(header, widths),
        "|" + "|".join(_rule(place, width) for place, width in enumerate(widths)) + "|",
    ]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)]) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return f"| {' | '.join(cells)} |"


def _rule(place: int, width: int) -> str:
    return "-" * (width + 1) + (":" if place else "-")


Score = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """One run.  What was not measured is empty."""

    name: str
    """Tells it from the others of the report."""
    folder: Path
    settings: Mapping[str, Any]
    markers: Sequence[str]
    """Epistemic markers of one's own: the run's, and those its evaluation was asked to count."""
    data: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    checkpoints: Sequence[int]
    scores: Mapping[str, Mapping[int, Score]]
    """By benchmark, then by step."""
    asked: Mapping[int, int]
    """By step: completions that the evaluation was last asked for."""
    diagnoses: Mapping[int, Mapping[str, Estimate]]
    """By step, then by the number's name."""

    @property
    def arm(self) -> str:
        """The paper's name of what was done."""
        return "opsd-standard" if self.settings["target"]["kind"] == "teacher" else "opsd-pmi"

    def accuracies(self, benchmark: str) -> dict[int, Estimate]:
        """By step."""
        return {
            step: scored(score, "accuracy", "interval")
            for step, score in self.scores.get(benchmark, {}).items()
        }


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs, under names that tell them apart.  Raises RunError for a folder that is no run or
    is given twice, or is damaged.
    """
    places = [folder.absolute().resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise RunError(
                f"{place} was given more than once, so it would be compared with itself. Give "
                "every run once."
            )
    return [_read_run(folder, name) for folder, name in zip(folders, _names(places), strict=True)]


def scored(score: Score, name: str, interval: str) -> Estimate:
    """A number of a score, with the error of its interval."""
    around = score.get(interval)
    return Estimate(score[name], around["standard_error"] if around else None)


def _read_run(folder: Path, name: str) -> RunRecord:
    reader = RunReader(folder)
    settings = reader.settings()
    missing = [
        section
        for section in ("model", "data", "target")
        if not isinstance(settings.get(section), Mapping)
    ]
    if missing:
        raise RunError(
            f"{reader.config_file} has no {missing[0]} section, as every run's has: {folder} is no "
            "run directory."
        )
    scores: dict[str, dict[int, Score]] = {}
    for row in sorted(read_scores(folder), key=lambda row: step_of(row["candidate"])):
        scores.setdefault(row["benchmark"], {})[step_of(row["candidate"])] = row
    finished = [file.parent.name for file in (folder / "checkpoints").glob("step-*/manifest.json")]
    return RunRecord(
        name=name,
        folder=folder,
        settings=settings,
        markers=list(
            dict.fromkeys(map(str, [*(settings.get("markers") or ()), *asked_markers(folder)]))
        ),
        data=reader.data(),
        starts=reader.starts(),
        metrics=reader.metrics(),
        checkpoints=sorted(
            step_of(name) for name in finished if name.removeprefix("step-").isdecimal()
        ),
        scores=scores,
        asked=asked(folder),
        diagnoses=read_diagnoses(folder),
    )


def _names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ from each other."""
    for length in range(1, max((len(place.parts) for place in places), default=0) + 1):
        names = ["/".join(place.parts[-length:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]
