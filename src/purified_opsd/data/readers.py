"""Raw rows, each with its file and number.

They are read from JSONL, JSON and Parquet files, folders of them, and hub data sets.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from purified_opsd.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet")


class Row(NamedTuple):
    """One row of a set."""

    where: str
    """Its file and number: file:row."""
    value: Any
    """What it holds, or the ValueError that says why it cannot even be read."""


def refuse_missing(path: str) -> None:
    """Raises the DataError of `read_rows` where nothing is at a path, and reads nothing."""
    if not Path(path).expanduser().exists() and not _is_hub_id(path):
        next(read_rows(path, None, "train", None))


def _is_hub_id(path: str) -> bool:
    known = Path(path).suffix in SUFFIXES
    return not known and re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


def read_rows(path: str, config: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Every row of a file, of a folder's files in the order of their names, or of a hub data set.

    Raises DataError where there is nothing to read.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        files = sorted(file for file in local.iterdir() if file.suffix in SUFFIXES)
        if not files:
            raise DataError(
                f"The folder {path} holds no {', '.join(SUFFIXES)} file. Put the set there, or "
                "name its file."
            )
        for file in files:
            yield from _read_file(file)
    elif local.is_file():
        yield from _read_file(local)
    elif _is_hub_id(path):
        yield from _read_hub(path, config, split, revision)
    else:
        raise DataError(
            f"There is no data set at {path} (looked for {local.absolute()}). Give a .jsonl, .json "
            "or .parquet file, a folder of them, or a hub data set id such as org/name."
        )


def _read_file(file: Path) -> Iterator[Row]:
    if file.suffix not in SUFFIXES:
        raise DataError(
            f"{file} is a '{file.suffix}' file; data sets are {', '.join(SUFFIXES)}. Convert it "
            "first."
        )
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty: 0 bytes. Give a file with one JSON object a line.")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    yield from readers[file.suffix](file)


def _read_jsonl(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Row(f"{file}:{number}", _parse(line.rstrip()))


def _parse(line: bytes) -> Any:
    """The JSON value of a line, or the ValueError that says why there is none."""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return ValueError(
            f"it is not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
        )
    except json.JSONDecodeError as error:
        return ValueError(
            f"it is not JSON: {error.msg} at column {error.colno}; write one JSON object a line"
        )


def _read_json(file: Path) -> Iterator[Row]:
    value = _parse(file.read_bytes())
    if isinstance(value, ValueError):
        raise DataError(f"{file}: {value}.")
    if not isinstance(value, list):
        raise DataError(
            f"{file} holds a {type(value).__name__}; a .json data set is a list of objects. Or "
            "write it as .jsonl."
        )
    for number, row in enumerate(value, 1):
        yield Row(f"{file}:{number}", row)


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield Row(f"{file}:{number}", row)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{file} cannot be read as Parquet: {error}. Write it again, or convert it to .jsonl."
        ) from error


def _read_hub(path: str, config: str | None, split: str, revision: str | None) -> Iterator[Row]:
    import datasets

    try:
        rows = datasets.load_dataset(path, config, split=split, revision=revision)
    # whatever the hub, the network or the set itself raises: all mean there are no rows
    except Exception as error:
        raise DataError(
            f"{path} is no file or folder here, and loading it as a hub data set failed "
            f"({type(error).__name__}: {str(error)[:300]}). Check the name, its configuration and "
            "its split, and that the hub can be reached; or give a local file."
        ) from error
    for number, row in enumerate(rows, 1):
        yield Row(f"{path}:{number}", row)


def text_of(row: dict[str, Any], column: str, role: str, naming: str) -> str:
    """The text in the column of a row that holds its `role`.

    `naming` is how a user names another column. Raises ValueError for a column that is missing,
    empty or no whole text.
    """
    if column not in row:
        raise ValueError(
            f"it has no column '{column}' for the {role}; it has "
            f"{', '.join(map(str, row)) or 'none'}. Name the right one with {naming}"
        )
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(
            f"its column '{column}' ({role}) is {kind_of(value)}, not text; write a string"
        )
    if not value.strip():
        raise ValueError(f"its column '{column}' ({role}) is empty; fill it in")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(
            f"its column '{column}' ({role}) holds half a character (a lone surrogate); write "
            "whole Unicode text"
        )
    return value


def kind_of(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
