"""Texts cut to size, and made harmless in a CSV file."""

from typing import Any

from .visible import visible


def cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would take for a formula gets a `'` before it; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if shown.lstrip()[:1] in ("=", "+", "-", "@") else shown


def shortened(text: str, most: int) -> str:
    """A text of about `most` characters at most: its beginning and its end, and between them how much was left out."""
    if len(text) <= most:
        return text
    first, last = 3 * most // 4, most // 4
    return f"{text[:first]}\n[… {len(text) - first - last:,} characters left out …]\n{text[-last:]}"
