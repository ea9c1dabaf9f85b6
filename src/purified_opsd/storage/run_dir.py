"""The run directory: one writer, one reader, and the names of its steps.

config.yaml             every setting, resolved; feeding it back repeats the run
environment.json        versions, machine and command of each start
data.json               what the run began with: path, fingerprint, rows, rows left out, wording of
                        the contexts
changes.json            what was changed on the way, and after which step; absent where nothing was
checkpoints.json        the best checkpoint by evaluation, and those that were deleted; absent where
                        there are none
metrics.jsonl           one row a step, and one an evaluation on the way
rollouts/000001.jsonl   the completions of a step, one a line
checkpoints/            see training/checkpoint.py
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from purified_opsd.errors import RunError

from .completions import CompletionRow, read_completions, write_completions
from .files import Json, json_line, parse_json, read_json, read_jsonl, write_atomic

BASE = "base"
"""The name of step 0: the model before any training."""
_STEP_PREFIX = "step-"
_BEGINNINGS = {".lock", "data.json", ".data.json.tmp", ".config.yaml.tmp"}
"""All that a run killed before its config.yaml can have left."""


def step_name(step: int) -> str:
    """`step-000050` is step 50; step 0 is `base`."""
    return f"{_STEP_PREFIX}{step:06d}" if step else BASE


def is_step_name(name: str) -> bool:
    """Whether this names a checkpoint's step; `base` does not."""
    return name.startswith(_STEP_PREFIX) and name.removeprefix(_STEP_PREFIX).isdecimal()


def step_of(name: str) -> int:
    """The step that is called so; `base` is step 0.  Raises RunError for any other name."""
    if name == BASE:
        return 0
    if not is_step_name(name):
        raise RunError(
            f"`{name}` is neither `base` nor a checkpoint such as `step-000020`: no part of a "
            "run. Take it out."
        )
    return int(name.removeprefix(_STEP_PREFIX))


@dataclass(frozen=True)
class ChangeRow:
    """What was changed at one resume of a run."""

    step: int
    """The steps that were taken before."""
    changed: dict[str, tuple[str | None, str | None]]
    """Value before and after, by name; None: not set."""


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint that did best in a run's own evaluations."""

    step: int
    accuracy: float
    """Its mean over the benchmarks, as a share."""
    of: int
    """Checkpoints that were evaluated: chosen among them on these very questions, its accuracy is
    too high.
    """


@dataclass(frozen=True)
class CheckpointRecord:
    """What checkpoints.json says."""

    best: BestCheckpoint | None = None
    deleted: tuple[int, ...] = ()
    """Steps whose checkpoints were there, and are no longer."""


class RunReader:
    """Reads a run directory.  Raises RunError where there is none."""

    def __init__(self, folder: Path):
        if not (folder / "config.yaml").is_file():
            raise RunError(
                f"{folder} is no run directory: it has no config.yaml. Give the --output-dir of a "
                "run."
            )
        self.folder = folder
        self.config_file = folder / "config.yaml"

    def settings(self) -> dict[str, Any]:
        """The settings in config.yaml.  Raises RunError where it is no YAML, or holds none."""
        try:
            settings = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(
                f"{self.config_file} is damaged: it is no YAML ({' '.join(str(error).split())})."
            ) from error
        if not isinstance(settings, dict):
            raise RunError(
                f"{self.config_file} holds no settings, so {self.folder} is no run directory."
            )
        return settings

    def data(self) -> dict[str, Any]:
        """What the run was trained on.  Raises RunError where data.json is missing or damaged."""
        file = self.folder / "data.json"
        if not file.exists():
            raise RunError(
                f"{file} is missing, so nothing says what the run was trained on. Copy it from "
                "where the run was made; without it, start the run anew in another --output-dir."
            )
        return read_json(file)

    def changes(self) -> list[ChangeRow]:
        """What was changed on the way, in the order of the steps.  Raises RunError where
        changes.json is damaged.
        """
        file = self.folder / "changes.json"
        if not file.exists():
            return []
        try:
            return [
                ChangeRow(
                    int(row["step"]),
                    {name: (old, new) for name, (old, new) in row["changed"].items()},
                )
                for row in parse_json(file)
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{file} is damaged: it is no list of changes ({error!r}). Without it nothing says "
                "what was changed on the way; copy it from where the run was made."
            ) from error

    def checkpoints(self) -> CheckpointRecord:
        """The best checkpoint and the deleted ones.  Raises RunError where checkpoints.json is
        damaged.
        """
        file = self.folder / "checkpoints.json"
        if not file.exists():
            return CheckpointRecord()
        record = read_json(file, "best", "deleted")
        try:
            best = BestCheckpoint(**record["best"]) if record["best"] else None
            return CheckpointRecord(best, tuple(map(int, record["deleted"])))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"{file} is damaged ({error}). Delete it; the run does not need it."
            ) from error

    def starts(self) -> list[dict[str, Any]]:
        """The environment of each start, first to last."""
        file = self.folder / "environment.json"
        starts = parse_json(file) if file.exists() else []
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            raise RunError(
                f"{file} is damaged: it is no list of starts. Delete it; the run does not need it."
            )
        return starts

    def metrics(self) -> list[dict[str, Any]]:
        """One row a step, in order; a last line that was never finished is left out."""
        rows = read_jsonl(self.folder / "metrics.jsonl", "step")
        return [row for row in rows if "evaluation" not in row]

    def evaluations(self) -> list[dict[str, Any]]:
        """One row an evaluation on the way, in order, that of the base first."""
        rows = read_jsonl(self.folder / "metrics.jsonl")
        return [row for row in rows if "evaluation" in row]

    def rollouts(self, step: int) -> list[CompletionRow]:
        """The completions of a step, in the order of its batch; none where it has no file."""
        return list(read_completions(_rollout_file(self.folder, step)))


class RunWriter:
    """The only writer of metrics, rollouts and records in a run directory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, config: str, data: Json) -> None:
        """Makes the directory of a new run.  Raises RunError where there is a run already, or
        something that is not ours.
        """
        refuse_existing(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        write_atomic(self.folder / "data.json", text)
        self.config(config)

    def config(self, text: str) -> None:
        write_atomic(self.folder / "config.yaml", text)

    def changes(self, rows: Sequence[ChangeRow]) -> None:
        """Writes what was changed on the way; without rows the run has no such file."""
        file = self.folder / "changes.json"
        if not rows:
            file.unlink(missing_ok=True)
            return
        plain = [{"step": row.step, "changed": row.changed} for row in rows]
        write_atomic(file, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    def checkpoints(self, record: CheckpointRecord) -> None:
        """Writes which checkpoint is the best and which are gone, where there is any to name."""
        file = self.folder / "checkpoints.json"
        if record == CheckpointRecord():
            file.unlink(missing_ok=True)
            return
        write_atomic(file, json.dumps(asdict(record), indent=2) + "\n")

    def start(self, environment: Json) -> None:
        """Adds this start's environment to those before."""
        starts = [*RunReader(self.folder).starts(), environment]
        write_atomic(self.folder / "environment.json", json.dumps(starts, indent=2) + "\n")

    def rewind(self, step: int) -> None:
        """Forgets every step after `step`, so that they can be taken again."""
        metrics = self.folder / "metrics.jsonl"
        kept = [row for row in read_jsonl(metrics, "step") if row["step"] <= step]
        write_atomic(metrics, "".join(map(json_line, kept)))
        for file in (self.folder / "rollouts").glob("*.jsonl"):
            if int(file.stem) > step:
                file.unlink()

    def metrics(self, row: Json) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line(row))

    def rollouts(self, step: int, rows: Iterable[CompletionRow]) -> None:
        file = _rollout_file(self.folder, step)
        file.parent.mkdir(exist_ok=True)
        write_completions(file, rows)


def refuse_existing(folder: Path) -> None:
    """Raises RunError if the folder already holds a run, or something else that is not ours."""
    if (folder / "config.yaml").exists():
        steps = RunReader(folder).metrics()
        raise RunError(
            f"{folder} already holds a run ({len(steps)} steps). Continue it with `purified-opsd "
            f"resume {folder}`, or give another --output-dir."
        )
    if folder.exists() and not _may_become_run(folder):
        raise RunError(
            f"{folder} exists and is not a run directory; nothing in it was touched. Give another "
            "--output-dir."
        )
    above = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise RunError(
            f"{folder} cannot be made: {above} is no folder that can be written to. Give another "
            "--output-dir."
        )


def _may_become_run(folder: Path) -> bool:
    """Whether nothing is here but what a run leaves that was killed while it began."""
    return folder.is_dir() and {file.name for file in folder.iterdir()} <= _BEGINNINGS


def _rollout_file(folder: Path, step: int) -> Path:
    return folder / "rollouts" / f"{step:06d}.jsonl"
