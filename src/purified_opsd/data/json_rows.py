"""Rows of JSON Lines and of JSON files.

What cannot be read is the row's own: its value is then the ValueError that says why.
"""

import json
import re
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

_BOM = b"\xef\xbb\xbf"
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
"""A whole string, in which brackets and commas are text, or one of those marks."""


def read_jsonl(stream: BufferedIOBase) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank, with its number.

    Lines end at a line feed alone: U+2028 and U+0085 are text.
    """
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, _parse(line.rstrip(), "write one JSON object a line")


def read_json(stream: BufferedIOBase) -> Iterator[tuple[int, Any]]:
    """Each element of a list, with its number.

    Raises ValueError where the file is no list, or has no end.
    """
    text = stream.read().removeprefix(_BOM)
    value = _parse(text, "where it has one object a line, name it .jsonl")
    if isinstance(value, list):
        yield from enumerate(value, 1)
    elif text.lstrip().startswith(b"["):
        # A bad element leaves the others, so each is parsed by itself.
        for number, element in enumerate(_elements(text), 1):
            yield number, _parse(element, "mend this element of the list")
    elif isinstance(value, ValueError):
        raise ValueError(f"holds no list of objects: {value}")
    else:
        raise ValueError(
            f"holds a {type(value).__name__}; a .json data set is a list of objects. Or write it "
            "as .jsonl"
        )


def _parse(text: bytes, advice: str) -> Any:
    """The JSON value in the bytes, or the ValueError that says why there is none.

    `advice` is the way out where it is no JSON.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_integer)
    except UnicodeDecodeError as error:
        return ValueError(
            f"it is not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
        )
    except json.JSONDecodeError as error:
        return ValueError(f"it is not JSON: {error.msg} at column {error.colno}; {advice}")
    except RecursionError:
        return ValueError(
            "its brackets are nested too deeply to be read; write the columns as plain text"
        )
    except ValueError as error:  # of _object or _integer
        return error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may stand in it twice: which was meant cannot be known."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key '{twice}' more than once; leave one of them")
    return value


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # Python reads 4,300 digits and no more
        raise ValueError(
            f"it holds an integer of {len(digits.lstrip('-')):,} digits, too long for a number; "
            "write it as text, in quotes"
        ) from error


def _elements(text: bytes) -> Iterator[bytes]:
    """The text of each element of a list.  Raises ValueError where the list does not end, or
    something follows it.
    """
    depth = 0
    start = 0
    count = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in (b"[", b"{"):
            depth += 1
            start = token.end() if depth == 1 else start
        elif mark == b"," and depth == 1:
            yield text[start : token.start()]
            count += 1
            start = token.end()
        elif mark in (b"]", b"}"):
            depth -= 1
        if depth == 0:
            break
    else:
        raise ValueError(
            f"is cut off: it is not JSON, since its list does not end after {count:,} whole "
            "elements. Write it again"
        )
    last = text[start : token.start()]
    if last.strip() or count:
        yield last
    if text[token.end() :].strip():
        raise ValueError(
            "holds more than one list: it is not JSON. Write one list, or one object a line in a "
            ".jsonl file"
        )
