"""What a column of one row holds, as text: problems, solutions, answers and ids."""

import math
from decimal import Decimal
from typing import Any

MISSING_VALUES = frozenset({"nan", "+nan", "-nan", "<na>"})
"""How a missing number is written as text, in lower case."""
EXACT = 2**53
"""Below this a float holds every whole number."""


def text_of(row: dict[str, Any], column: str, role: str) -> str:
    """The text in the column of a row that holds its `role`.

    Raises ValueError where it is empty or no whole text.
    """
    value = _readable(row, column, role)
    if not isinstance(value, str):
        raise ValueError(
            f"its column '{column}' ({role}) is {kind_of(value)}, not text; write a string"
        )
    if not value.strip():
        raise ValueError(f"its column '{column}' ({role}) is empty; fill it in")
    return _whole(value, column, role)


def optional_text(row: dict[str, Any], column: str, role: str) -> str | None:
    """The text or number in a column as text, None where it is null or blank.

    Many sets write answers and ids as numbers.  Raises ValueError where it is neither, or a number
    that is not finite.
    """
    value = _readable(row, column, role)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return _whole(value, column, role)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(
            f"its column '{column}' ({role}) is {kind_of(value)}; write text or a number"
        )
    return _number(value, column, role)


def kind_of(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _readable(row: dict[str, Any], column: str, role: str) -> Any:
    value = row.get(column)
    if isinstance(value, ValueError):
        raise ValueError(f"its column '{column}' ({role}) {value}")
    return value


def _whole(text: str, column: str, role: str) -> str:
    """The text, unless something is missing in it or in its place."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(
            f"its column '{column}' ({role}) holds half a character (a lone surrogate); write "
            "whole Unicode text"
        )
    if "\0" in text:
        raise ValueError(
            f"its column '{column}' ({role}) holds a NUL character, as damaged files do; take it "
            "out"
        )
    if text.strip().lower() in MISSING_VALUES:
        raise ValueError(
            f"its column '{column}' ({role}) is '{text.strip()}', which stands for a missing "
            "value; fill it in, or write null"
        )
    return text


def _number(value: int | float | Decimal, column: str, role: str) -> str:
    """A number in plain digits: 7 for 7.0, since a column of whole numbers with gaps in it comes as
    floats.
    """
    if not math.isfinite(value):
        raise ValueError(
            f"its column '{column}' ({role}) is {value}, no finite number; fill it in, or write "
            "null"
        )
    if isinstance(value, float) and abs(value) >= EXACT:
        raise ValueError(
            f"its column '{column}' ({role}) is {value}, too large for a float to hold its last "
            "digits; write it as text"
        )
    if value == int(value):
        return str(int(value))
    plain = format(Decimal(str(value)), "f")
    return plain.rstrip("0")
