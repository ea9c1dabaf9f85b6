"""Run directories, read for a report: what was asked, how far each came, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from purified_opsd.errors import RunError
from purified_opsd.storage.files import read_json
from purified_opsd.storage.run_dir import ChangeRow, CheckpointRecord, RunReader, step_of

from .run_completions import requested_completions, requested_markers

Score = Mapping[str, Any]
"""A row of `scores` in evaluation/results.json."""


class Estimate(NamedTuple):
    """A mean and its standard error, which is None where it cannot be told."""

    mean: float
    error: float | None

    def times(self, scale: float) -> "Estimate":
        return Estimate(scale * self.mean, None if self.error is None else scale * self.error)

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        error = "" if self.error is None else f" ± {scale * self.error:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{error}"


class Difference(NamedTuple):
    """A checkpoint's accuracy minus the base's, paired by question, as evaluation computed it."""

    mean: float
    error: float
    significant: bool

    def text(self, scale: float) -> str:
        return Estimate(self.mean, self.error).text(scale)


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
    differences: Mapping[tuple[int, frozenset[str]], Difference]
    """By step and benchmarks: the differences to the base, of one benchmark and of all together."""
    requested: Mapping[int, int]
    """By step: completions that the evaluation was last asked for."""
    diagnoses: Mapping[int, Mapping[str, Estimate]]
    """By step, then by the number's name."""
    changes: Sequence[ChangeRow]
    """What was changed at resumes, in the order of the steps."""
    checkpoint_record: CheckpointRecord
    """The best checkpoint by the run's own evaluations, and the deleted ones."""

    @property
    def arm(self) -> str:
        """The paper's name of what was done."""
        return "standard" if self.settings["target"]["kind"] == "teacher" else "pmi"

    def accuracies(self, benchmark: str) -> dict[int, Estimate]:
        """The accuracy on a benchmark, by step."""
        return {
            step: _estimate(score, "accuracy", "interval")
            for step, score in self.scores.get(benchmark, {}).items()
        }

    def difference_to_base(self, step: int, benchmarks: Sequence[str]) -> Difference | None:
        """None for the base, and where the step or the base was not asked all the benchmarks."""
        return self.differences.get((step, frozenset(benchmarks)))


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs, under names that tell them apart.

    Raises RunError for a folder that is no run, is given twice, or is damaged.
    """
    paths = [folder.absolute().resolve() for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise RunError(
                f"{path} was given more than once, so it would be compared with itself. Give "
                "every run once."
            )
    return [_read_run(folder, name) for folder, name in zip(folders, _names(paths), strict=True)]


def _read_run(folder: Path, name: str) -> RunRecord:
    reader = RunReader(folder)
    settings = _settings(reader)
    scores: dict[str, dict[int, Score]] = {}
    for row in sorted(_results(folder, "scores"), key=lambda row: step_of(row["candidate"])):
        scores.setdefault(row["benchmark"], {})[step_of(row["candidate"])] = row
    own_markers = [*(settings.get("markers") or ()), *requested_markers(folder)]
    finished = [file.parent.name for file in (folder / "checkpoints").glob("step-*/manifest.json")]
    return RunRecord(
        name=name,
        folder=folder,
        settings=settings,
        markers=list(dict.fromkeys(map(str, own_markers))),
        data=reader.data(),
        starts=reader.starts(),
        metrics=reader.metrics(),
        checkpoints=sorted(
            step_of(name) for name in finished if name.removeprefix("step-").isdecimal()
        ),
        scores=scores,
        differences=_differences(folder),
        requested=requested_completions(folder),
        diagnoses=read_diagnoses(folder),
        changes=reader.changes(),
        checkpoint_record=reader.checkpoints(),
    )


def _settings(reader: RunReader) -> Mapping[str, Any]:
    settings = reader.settings()
    for section in ("model", "data", "target"):
        if not isinstance(settings.get(section), Mapping):
            raise RunError(
                f"{reader.config_file} has no {section} section, as every run's has: "
                f"{reader.folder} is no run directory."
            )
    return settings


def _results(run: Path, part: str) -> list[dict[str, Any]]:
    """A list in evaluation/results.json; empty where nothing was evaluated."""
    file = run / "evaluation" / "results.json"
    return read_json(file, part)[part] if file.exists() else []


def _differences(run: Path) -> dict[tuple[int, frozenset[str]], Difference]:
    return {
        (step_of(row["candidate"]), frozenset(row["benchmarks"])): Difference(
            row["value"], row["standard_error"], row["significant"]
        )
        for row in _results(run, "differences_to_base")
    }


def read_diagnoses(run: Path) -> dict[int, dict[str, Estimate]]:
    """Every number of the diagnosis by step, base first; empty where there was none."""
    diagnoses = {}
    for file in [*(run / "diagnosis").glob("base.json"), *(run / "diagnosis").glob("step-*.json")]:
        summary = read_json(file, "summary")["summary"]
        diagnoses[step_of(file.stem)] = {
            name: Estimate(value["mean"], value["standard_error"])
            for name, value in summary.items()
        }
    return dict(sorted(diagnoses.items()))


def _estimate(score: Score, name: str, interval: str | None) -> Estimate:
    """A number of a score, with the standard error of its interval."""
    around = score.get(interval) if interval else None
    return Estimate(score[name], around["standard_error"] if around else None)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ from each other."""
    for length in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


@dataclass(frozen=True)
class Outcome:
    """What was measured of one run's base (step 0) or checkpoint, on one benchmark."""

    step: int
    score: Score | None
    diagnosis: Mapping[str, Estimate]
    """By the number's name; empty where there was none."""

    def scored(self, name: str, interval: str | None = None) -> Estimate | None:
        """A number of its score, with the standard error of its interval."""
        return None if self.score is None else _estimate(self.score, name, interval)


def read_outcomes(run: Path, benchmark: str) -> list[Outcome]:
    """Base first, then the checkpoints that were evaluated or diagnosed, by step."""
    rows = [row for row in _results(run, "scores") if row["benchmark"] == benchmark]
    scores = {step_of(row["candidate"]): row for row in rows}
    diagnoses = read_diagnoses(run)
    return [
        Outcome(step, scores.get(step), diagnoses.get(step, {}))
        for step in sorted(scores.keys() | diagnoses.keys())
    ]
