"""Rows of CSV files: every field is text, and the first line names the columns."""

import csv
from collections.abc import Iterator, Sequence
from io import BufferedIOBase, TextIOWrapper
from typing import Any, cast

_FIELD_LIMIT = 2**31 - 1
"""Characters of a field; the csv module's own limit, 131,072, is shorter than some solutions."""


def read_csv(stream: BufferedIOBase) -> Iterator[tuple[int, Any]]:
    """Each row with the number of the line on which it begins.  Raises ValueError as `_read`."""
    return _read(stream, ",")


def read_tsv(stream: BufferedIOBase) -> Iterator[tuple[int, Any]]:
    """The same, with tabs between the fields."""
    return _read(stream, "\t")


def _read(stream: BufferedIOBase, delimiter: str) -> Iterator[tuple[int, Any]]:
    """Raises ValueError where the header names a column twice, or a quote is never closed."""
    csv.field_size_limit(_FIELD_LIMIT)
    # What is not UTF-8 becomes lone surrogates, which show in which row it stands.
    text = TextIOWrapper(cast(Any, stream), "utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise ValueError(
                    f"is cut off: the row at line {number} opens a quote that is never closed. "
                    "Close it, or write the file again"
                ) from error
            yield number, ValueError(f"it is not CSV: {error}; write a quote within quotes twice")
            continue
        if not fields:
            continue
        if header:
            yield number, _row(header, fields)
        else:
            header = _header(fields)


def _header(fields: Sequence[str]) -> list[str]:
    names = [field.strip() for field in fields]
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise ValueError(
            f"names the column '{min(twice)}' more than once in its first line. Rename one of them"
        )
    return names


def _row(header: Sequence[str], fields: Sequence[str]) -> dict[str, str] | ValueError:
    if len(fields) != len(header):
        return ValueError(
            f"it has {len(fields)} fields, and the first line names {len(header)} columns; put "
            "text that holds a separator or a line break in double quotes"
        )
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
        return ValueError("it is not UTF-8; save the file as UTF-8")
    return dict(zip(header, fields, strict=True))
