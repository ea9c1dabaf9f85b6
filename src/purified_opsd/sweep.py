"""One run for every combination of several values of some settings: the ablations of Figs. 6 and 7.

Each run is an ordinary one, in a folder named by its values (`target.clip=5`); there is nothing
else to keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from purified_opsd.training.config import TrainingConfig, new_config, read_config

from .errors import Interrupted, RunError, SettingsError
from .settings.build import flat, merge, read_overrides, to_mapping


@dataclass(frozen=True)
class Point:
    """One combination of values, and its run."""

    values: Mapping[str, str]
    """By the dotted name of the setting, as they were written."""
    config: TrainingConfig

    @property
    def folder(self) -> Path:
        return self.config.output_dir

    @property
    def begun(self) -> bool:
        return self.config_file.exists()

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def done(self) -> bool:
        """Has the run taken all its steps, and is no evaluation pending?"""
        from purified_opsd.training.checkpoint import newest_valid
        from purified_opsd.training.periodic_eval import evaluation_pending

        saved, _ = newest_valid(self.folder)
        return (
            saved is not None
            and saved.step >= self.config.steps
            and not evaluation_pending(self.config, self.folder, saved.step)
        )

    def run(self) -> None:
        """Starts the run, or goes on with it.  Raises what `start_run` and `resume_run` raise, and
        Interrupted even where the signal came during the last step, since the sweep has more to do.
        """
        from purified_opsd.training.run import resume_run, start_run

        config, folder = self.config, self.folder
        stopping = resume_run(config, folder) if self.begun else start_run(config)
        if stopping:
            raise Interrupted(stopping, self.config.steps)


def grid(settings: Mapping[str, Any], words: Sequence[str], folder: Path) -> list[Point]:
    """Returns every combination of the values in `words`, such as `--target.clip 5 10 20`; one
    value is the same in every run.

    Raises SettingsError for a setting that is wrong in any of them, and where there is nothing to
    vary or two runs are the same.
    """
    requested = dict(flat(read_overrides(TrainingConfig, words)))
    varied = {name: values for name, values in requested.items() if isinstance(values, list)}
    if not varied:
        raise SettingsError(
            "There is nothing to vary. Give a setting several values, such as --target.clip 5 10 "
            "20; for one run use `purified-opsd train`. A setting that is a list itself is written "
            "with commas."
        )
    fixed = {name: value for name, value in requested.items() if name not in varied}
    points: list[Point] = []
    for combination in product(*varied.values()):
        values = dict(zip(varied, combination, strict=True))
        point = _point(settings, fixed, values, folder)
        twin = next((earlier for earlier in points if _same(earlier, point)), None)
        if twin:
            raise SettingsError(
                f"{point.folder.name} and {twin.folder.name} are one run. Give every value once."
            )
        points.append(point)
    return points


def refuse_changes(points: Sequence[Point]) -> None:
    """Raises RunError if a run of the sweep was begun with settings other than it has now."""
    for point in points:
        if not point.begun:
            continue
        before = dict(flat(to_mapping(read_config(point.folder))))
        for name, value in flat(to_mapping(point.config)):
            if name != "output_dir" and before.get(name) != value:
                raise RunError(
                    f"{point.folder} was begun with {name} = {before.get(name)}, and {value} "
                    "is asked for: the runs of one sweep would not go together. Ask for what it "
                    "was begun with, or give another --output-dir."
                )


def _point(
    settings: Mapping[str, Any], fixed: Mapping[str, Any], values: Mapping[str, str], folder: Path
) -> Point:
    name = ",".join(f"{setting}={value}" for setting, value in values.items()).replace("/", "_")
    words = [
        f"--{setting}={'null' if value is None else value}"
        for setting, value in {**fixed, **values}.items()
    ]
    overrides = read_overrides(TrainingConfig, words)
    config = new_config(merge(TrainingConfig, settings, overrides))
    return Point(values, replace(config, output_dir=folder / name))


def _same(one: Point, other: Point) -> bool:
    moved = replace(one.config, output_dir=other.folder)
    return one.folder == other.folder or moved == other.config
