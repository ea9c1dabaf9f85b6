"""One run for every combination of several values of some settings: the ablations of Figs. 6 and 7.

Each run is an ordinary one, in a folder named by its values (`target.clip=5`); there is nothing
else to keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from purified_opsd.reporting.runs import flat
from purified_opsd.training.checkpoint import newest_valid
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.periodic_eval import evaluation_pending
from purified_opsd.training.run import resume_run, start_run

from .errors import Interrupted, RunError, SettingsError
from .settings import build_run, located, merge, read_overrides, read_settings, to_mapping, to_yaml


@dataclass(frozen=True)
class Point:
    """One combination of values, and its run."""

    values: Mapping[str, str]
    """By the dotted name of the setting, as they were written."""
    run: TrainingConfig

    @property
    def folder(self) -> Path:
        return self.run.output_dir

    @property
    def done(self) -> bool:
        """It has taken all its steps, and owes no evaluation."""
        saved, _ = newest_valid(self.folder)
        return (
            saved is not None
            and saved.step >= self.run.steps
            and not evaluation_pending(self.run, self.folder, saved.step)
        )

    def go_on(self) -> None:
        """Starts the run, or goes on with it.  Raises what `start_run` and `resume_run` raise, and
        Interrupted even where the signal came during the last step, since the sweep has more to do.
        """
        begun, config = (self.folder / "config.yaml").exists(), to_yaml(self.run)
        stopping = (
            resume_run(self.run, self.folder, config) if begun else start_run(self.run, config)
        )
        if stopping:
            raise Interrupted(stopping, self.run.steps)


def grid(settings: Mapping[str, Any], words: Sequence[str], folder: Path) -> list[Point]:
    """Every combination of the values in `words`, such as `--target.clip 5 10 20`; one value is the
    same in every run.

    Raises SettingsError for a setting that is wrong in any of them, and where there is nothing to
    vary or two runs are the same.
    """
    given = dict(flat(read_overrides(words)))
    varied = {name: values for name, values in given.items() if isinstance(values, list)}
    if not varied:
        raise SettingsError(
            "There is nothing to vary. Give a setting several values, such as --target.clip 5 10 "
            "20; for one run use `purified-opsd train`. A setting that is a list itself is written "
            "with commas."
        )
    fixed = {name: value for name, value in given.items() if name not in varied}
    points = [
        _point(settings, fixed, dict(zip(varied, values, strict=True)), folder)
        for values in product(*varied.values())
    ]
    for place, point in enumerate(points):
        twin = next((other for other in points[:place] if _same(other, point)), None)
        if twin:
            raise SettingsError(
                f"{point.folder.name} and {twin.folder.name} are one run. Give every value once."
            )
    return points


def refuse_changes(points: Sequence[Point]) -> None:
    """Raises RunError if a run of the sweep was begun with settings other than it has now."""
    for point in points:
        file = point.folder / "config.yaml"
        before = dict(flat(read_settings(file))) if file.exists() else {}
        now = dict(flat(to_mapping(point.run)))
        for name in now if before else ():
            if name != "output_dir" and before.get(name) != now[name]:
                raise RunError(
                    f"{point.folder} was begun with {name} = {before.get(name)}, and {now[name]} "
                    "is asked for: the runs of one sweep would not go together. Ask for what it "
                    "was begun with, or give another --output-dir."
                )


def _point(
    settings: Mapping[str, Any], fixed: Mapping[str, Any], values: Mapping[str, str], folder: Path
) -> Point:
    name = ",".join(f"{setting}={value}" for setting, value in values.items()).replace("/", "_")
    given = {**fixed, **values}
    overrides = read_overrides(
        [f"--{setting}={'null' if value is None else value}" for setting, value in given.items()]
    )
    run = located(build_run(merge(settings, overrides)))
    return Point(values, replace(run, output_dir=folder / name))


def _same(one: Point, other: Point) -> bool:
    return one.folder == other.folder or replace(one.run, output_dir=other.folder) == other.run
