"""The run directory: one writer, one reader.

config.yaml           every setting, resolved; feeding it back repeats the run
environment.json      versions, machine and command of each start
data.json             what was trained on: path, fingerprint, rows, rows left out, wording of the contexts
metrics.jsonl         one row a step, and one an evaluation on the way
rollouts/000001.jsonl one completion a line, one file a step
checkpoints/          see training/checkpoint.py
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

Json = Mapping[str, Any]


class RunError(Exception):
    """The run directory cannot be used: what is wrong, where, and what to do."""


class RunReader:
    """Reads a run directory.  Raises RunError where there is none."""

    def __init__(self, folder: Path):
        if not (folder / "config.yaml").is_file():
            raise RunError(f"{folder} is no run directory: it has no config.yaml. Give the --output-dir of a run.")
        self.folder = folder
        self.config_file = folder / "config.yaml"

    def settings(self) -> dict[str, Any]:
        """What config.yaml says.  Raises RunError where it is no YAML, or no settings."""
        try:
            found = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config_file} is damaged: it is no YAML ({' '.join(str(error).split())}).") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.config_file} holds no settings, so {self.folder} is no run directory.")
        return found

    def data(self) -> dict[str, Any]:
        """What the run was trained on.  Raises RunError where data.json is missing or damaged."""
        file = self.folder / "data.json"
        if not file.exists():
            raise RunError(
                f"{file} is missing, so nothing says what the run was trained on. Copy it from where the run was made; without it, "
                "start the run anew in another --output-dir."
            )
        return read_json(file)

    def starts(self) -> list[dict[str, Any]]:
        """The environment of each start, first to last."""
        file = self.folder / "environment.json"
        starts = _parsed(file) if file.exists() else []
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            raise RunError(f"{file} is damaged: it is no list of starts. Delete it; the run does not need it.")
        return starts

    def metrics(self) -> list[dict[str, Any]]:
        """One row a step, in order; a last line that was never finished is left out."""
        return [row for row in complete_lines(self.folder / "metrics.jsonl", "step") if "evaluation" not in row]

    def evaluations(self) -> list[dict[str, Any]]:
        """One row an evaluation on the way, in order, that of the base first."""
        return [row for row in complete_lines(self.folder / "metrics.jsonl") if "evaluation" in row]

    def rollouts(self, step: int) -> list[dict[str, Any]]:
        return list(complete_lines(_rollout_file(self.folder, step)))


class RunWriter:
    """The only one that writes metrics, rollouts and records into a run directory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, config: str, data: Json) -> None:
        """A new run.  Raises RunError where one is already, or something that is not ours."""
        refuse_existing(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "data.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        self.config(config)

    def config(self, text: str) -> None:
        write_whole(self.folder / "config.yaml", text)

    def start(self, environment: Json) -> None:
        """Adds this start's environment to those before."""
        file = self.folder / "environment.json"
        write_whole(file, json.dumps([*RunReader(self.folder).starts(), environment], indent=2) + "\n")

    def rewind(self, step: int) -> None:
        """Forgets every step after `step`, so that they can be taken again."""
        rows = [row for row in complete_lines(self.folder / "metrics.jsonl", "step") if row["step"] <= step]
        write_whole(self.folder / "metrics.jsonl", "".join(map(json_line, rows)))
        for file in (self.folder / "rollouts").glob("*.jsonl"):
            if int(file.stem) > step:
                file.unlink()

    def metrics(self, row: Json) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line(row))

    def rollouts(self, step: int, rows: Iterable[Json]) -> None:
        file = _rollout_file(self.folder, step)
        file.parent.mkdir(exist_ok=True)
        write_whole(file, "".join(map(json_line, rows)))


def count_lines(file: Path) -> int:
    """Finished lines of a file, 0 where there is none."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def refuse_existing(folder: Path) -> None:
    """Raises RunError if the folder already holds a run, or something else that is not ours."""
    if (folder / "config.yaml").exists():
        steps = RunReader(folder).metrics()
        raise RunError(
            f"{folder} already holds a run ({len(steps)} steps). Continue it with `purified-opsd resume {folder}`, "
            "or give another --output-dir."
        )
    if folder.exists() and (not folder.is_dir() or not {file.name for file in folder.iterdir()} <= _BEGINNINGS):
        raise RunError(f"{folder} exists and is not a run directory; nothing in it was touched. Give another --output-dir.")
    above = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise RunError(f"{folder} cannot be made: {above} is no folder that can be written to. Give another --output-dir.")


_BEGINNINGS = {".lock", "data.json", ".data.json.tmp", ".config.yaml.tmp"}
"""All that a run killed before its config.yaml can have left."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process from writing into the same run directory.  Raises RunError if one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"Another process is writing into {folder}. Wait for it, or stop it, or give another --output-dir."
            ) from error
        except OSError as error:
            raise RunError(
                f"{folder} cannot be locked ({error.strerror}), so two processes could write into one run. Give an --output-dir "
                "on a file system with locks."
            ) from error
        yield


def write_whole(file: Path, text: str) -> None:
    """The whole file or none of it, whenever the process dies."""
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def _rollout_file(folder: Path, step: int) -> Path:
    return folder / "rollouts" / f"{step:06d}.jsonl"


def json_line(row: Json) -> str:
    """One row of a .jsonl file.  Raises ValueError for a number that JSON does not know."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(file: Path, *names: str) -> dict[str, Any]:
    """The object in a JSON file.  Raises RunError for one that is damaged, or lacks any of these names."""
    found = _parsed(file)
    wrong = _wrong(found, names)
    if wrong:
        raise RunError(f"{file} is damaged: {wrong}. {_AGAIN}")
    return found


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged: it is no JSON ({error}). {_AGAIN}") from error


_AGAIN = "Delete it, and make it again with the command that wrote it."


def _wrong(found: Any, names: Iterable[str]) -> str:
    """What keeps a value from being an object with these names; nothing where it is one."""
    if not isinstance(found, dict):
        return f"it holds {type(found).__name__}, not an object"
    return ", ".join(f"it has no `{name}`" for name in names if name not in found)


def complete_lines(file: Path, *names: str) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file, none where there is none; a last line that was never finished is left out.

    Raises RunError for a finished line that is no JSON object, or lacks any of these names.
    """
    if not file.exists():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise RunError(f"{file}:{number} is damaged: it is no JSON ({error}). Nothing was changed.") from error
                wrong = _wrong(row, names)
                if wrong:
                    raise RunError(f"{file}:{number} is damaged: {wrong}. Nothing was changed.")
                yield row
