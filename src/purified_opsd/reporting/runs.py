"""Run directories, read for a report: what was asked, how far it came, and what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .completions import asked, asked_markers
from .outcomes import Estimate, read_diagnoses, read_scores, step_of
from .records import RunError, RunReader

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
        return {step: scored(score, "accuracy", "interval") for step, score in self.scores.get(benchmark, {}).items()}


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs, under names that tell them apart.  Raises RunError for a folder that is no run or is given twice, or is damaged."""
    places = [folder.absolute().resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise RunError(f"{place} was given more than once, so it would be compared with itself. Give every run once.")
    return [_read_run(folder, name) for folder, name in zip(folders, _names(places), strict=True)]


def scored(score: Score, name: str, interval: str) -> Estimate:
    """A number of a score, with the error of its interval."""
    around = score.get(interval)
    return Estimate(score[name], around["standard_error"] if around else None)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_run(folder: Path, name: str) -> RunRecord:
    reader = RunReader(folder)
    settings = reader.settings()
    missing = [section for section in ("model", "data", "target") if not isinstance(settings.get(section), Mapping)]
    if missing:
        raise RunError(f"{reader.config_file} has no {missing[0]} section, as every run's has: {folder} is no run directory.")
    scores: dict[str, dict[int, Score]] = {}
    for row in sorted(read_scores(folder), key=lambda row: step_of(row["candidate"])):
        scores.setdefault(row["benchmark"], {})[step_of(row["candidate"])] = row
    finished = [file.parent.name for file in (folder / "checkpoints").glob("step-*/manifest.json")]
    return RunRecord(
        name=name,
        folder=folder,
        settings=settings,
        markers=list(dict.fromkeys(map(str, [*(settings.get("markers") or ()), *asked_markers(folder)]))),
        data=reader.data(),
        starts=reader.starts(),
        metrics=reader.metrics(),
        checkpoints=sorted(step_of(name) for name in finished if name.removeprefix("step-").isdecimal()),
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
