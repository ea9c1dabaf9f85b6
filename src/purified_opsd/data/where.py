"""The rows of a set that `where` keeps."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .readers import Row


def matching_rows(
    rows: Iterable[Row], where: Mapping[str, str], seen_columns: dict[str, None]
) -> Iterator[Row]:
    """The rows whose columns have the values of `where`, and those that could not be read.

    Every column of any row is added to `seen_columns`.
    """
    for row in rows:
        if not isinstance(row.value, dict):
            yield row
            continue
        seen_columns.update(dict.fromkeys(row.value))
        if _has_values(row.value, where):
            yield row


def _has_values(columns: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    return all(_value_text(columns.get(name)) == value for name, value in where.items())


def _value_text(value: object) -> str:
    """A whole float as whole: so come the numbers of a column that has gaps."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
