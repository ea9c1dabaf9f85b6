"""Raw rows, each with its file and number.

They are read from JSONL, JSON, Parquet, CSV and TSV files, plain or gzip, from folders of them, and
from hub data sets.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple, cast

from purified_opsd.errors import DataError

from .csv_rows import read_csv, read_tsv
from .json_rows import read_json, read_jsonl
from .parquet_rows import read_parquet, rows_of_batch

FormatReader = Callable[[BufferedIOBase], Iterator[tuple[int, Any]]]
"""Yields the rows of an open file, each with its number.  Raises ValueError where the file itself
cannot be read.
"""

FORMATS: Mapping[str, FormatReader] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
"""By the ending of a file's name, which .gz may follow."""
GZIP_MAGIC = b"\x1f\x8b"


class Row(NamedTuple):
    """One row of a set."""

    where: str
    """Its file and number: file:row.  In JSONL, CSV and TSV the line on which it begins."""
    value: Any
    """What it holds, or the ValueError that says why it cannot even be read."""


def is_data_file(file: Path) -> bool:
    """Is it named like a file that is read here?  Hidden files are not."""
    return _ending(file) in FORMATS and not file.name.startswith(".")


def set_name(file: Path) -> str:
    """The file's name without what says its format: `a.jsonl.gz` is `a`."""
    return Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem


def refuse_missing(path: str) -> None:
    """Raises the DataError of `read_rows` where nothing is at a path, and reads nothing."""
    if not Path(path).expanduser().exists() and not _is_hub_id(path):
        next(read_rows(path, None, "train", None))


def _ending(file: Path) -> str:
    """What says the format, `.gz` aside."""
    name = Path(file.stem) if file.suffix.lower() == ".gz" else file
    return name.suffix.lower()


def _is_hub_id(path: str) -> bool:
    return not is_data_file(Path(path)) and re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


def read_rows(path: str, config: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Every row of a file, of a folder's files in the order of their names, or of a hub data set.

    Raises DataError where there is nothing to read.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        files = sorted(file for file in local.iterdir() if is_data_file(file))
        if not files:
            raise DataError(
                f"The folder {path} holds no .jsonl, .json, .parquet file, nor a .csv or .tsv, nor "
                "one of them as .gz. Put the set there, or name its file."
            )
        for file in files:
            yield from _read_file(file)
    elif local.is_file():
        yield from _read_file(local)
    elif _is_hub_id(path):
        yield from _read_hub(path, config, split, revision)
    else:
        raise DataError(
            f"There is no data set at {path} (looked for {local.absolute()}). Give a .jsonl, "
            ".json, .parquet, .csv or .tsv file, a folder of them, or a hub data set id such as "
            "org/name."
        )


def _read_file(file: Path) -> Iterator[Row]:
    """Raises DataError where the file is at fault, not a row of it."""
    if not is_data_file(file):
        raise DataError(
            f"{file} is a '{file.suffix}' file; data sets are {', '.join(FORMATS)}, each also as "
            ".gz. Convert it first."
        )
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty: 0 bytes. Give a file with one JSON object a line.")
    last_row = 0
    try:
        with _opened(file) as stream:
            for number, value in FORMATS[_ending(file)](stream):
                yield Row(f"{file}:{number}", value)
                last_row = number
    except ValueError as error:
        raise DataError(f"{file} {error}.") from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{file} is cut off or damaged after row {last_row}: gzip cannot read on ({error}). "
            "Copy or download it again."
        ) from error
    except gzip.BadGzipFile as error:
        raise DataError(
            f"{file} is no good gzip file ({error}). Name it {file.stem} if it is not compressed, "
            "else copy or download it again."
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Check it.") from error


def _opened(file: Path) -> BufferedIOBase:
    """Raises ValueError for a gzip file that is not named as one."""
    if file.suffix.lower() == ".gz":
        return gzip.GzipFile(file)
    stream = file.open("rb")
    if stream.peek(2).startswith(GZIP_MAGIC):
        stream.close()
        raise ValueError(f"is compressed with gzip. Name it {file.name}.gz")
    return stream


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
    number = 0
    for table in rows.with_format("arrow").iter(batch_size=256):
        for batch in cast(Any, table).to_batches():
            for value in rows_of_batch(batch):
                number += 1
                yield Row(f"{path}:{number}", value)
