"""Files that survive whatever happens to the process: written whole, locked, and read back line by
line.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from purified_opsd.errors import RunError

Json = Mapping[str, Any]

_REMEDY = "Delete it, and make it again with the command that wrote it."


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process from writing into the same run directory.  Raises RunError if one does
    already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"Another process is writing into {folder}. Wait for it, or stop it, or give "
                "another --output-dir."
            ) from error
        except OSError as error:
            raise RunError(
                f"{folder} cannot be locked ({error.strerror}), so two processes could write into "
                "one run. Give an --output-dir on a file system with locks."
            ) from error
        yield


def write_atomic(file: Path, text: str) -> None:
    """Writes the whole file or none of it, whenever the process dies."""
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def read_json(file: Path, *names: str) -> dict[str, Any]:
    """The object in a JSON file.  Raises RunError for one that is damaged, or lacks any of these
    names.
    """
    value = parse_json(file)
    problem = _problem(value, names)
    if problem:
        raise RunError(f"{file} is damaged: {problem}. {_REMEDY}")
    return value


def parse_json(file: Path) -> Any:
    """Whatever a JSON file holds.  Raises RunError for one that is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: it is no JSON ({error}). {_REMEDY}") from error


def json_line(row: Json) -> str:
    """One row of a .jsonl file.  Raises ValueError for a number that JSON does not know."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_jsonl(
    file: Path, *names: str, remedy: str = "Nothing was changed."
) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file, none where there is no file; a last line that was never finished
    is left out.

    Raises RunError for a finished line that is no JSON object, or lacks any of these names; its
    message ends with the remedy.
    """
    if not file.exists():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(
                    f"{file}:{number} is damaged: it is no JSON ({error}). {remedy}"
                ) from error
            problem = _problem(row, names)
            if problem:
                raise RunError(f"{file}:{number} is damaged: {problem}. {remedy}")
            yield row


def count_lines(file: Path) -> int:
    """How many finished lines a file has, 0 where there is no file."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _problem(value: object, names: Sequence[str]) -> str:
    """What keeps a value from being an object with these names; empty where it is one."""
    if not isinstance(value, dict):
        return f"it holds {type(value).__name__}, not an object"
    return ", ".join(f"it has no `{name}`" for name in names if name not in value)
