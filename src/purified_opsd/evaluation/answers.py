r"""An answer as text: whole numbers, ± written out, and the parts of an answer that has several."""

import re

LONGEST = 4_000
"""Characters of an answer that is still looked at; the longest gold answer of the paper's sets has 50."""
DEEPEST = 40
"""Brackets within brackets of an answer that is still looked at."""

_SPACES = re.compile(r"\\[ ,!;:]|\\q?quad\b|~|\$|\\left\b|\\right\b|\\displaystyle\b|\s")
_INTEGER = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+)")
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9,])")
_WORDS = re.compile(r"\\(?:text|mathrm|textrm|mbox)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![\\A-Za-z])(?:and|or)(?![A-Za-z])")
_SIGNS = {"\\pm": ("+", "-"), "\\mp": ("-", "+"), "±": ("+", "-"), "∓": ("-", "+")}
_SIGN = re.compile(r"\\pm(?![A-Za-z])|\\mp(?![A-Za-z])|±|∓")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def plain(answer: str) -> str:
    """Without spaces, dollar signs and what only sizes a bracket; with one name for each kind of fraction."""
    return re.sub(r"\\[dt]frac\b", r"\\frac", _SPACES.sub("", answer)).rstrip(".")


def integer(answer: str) -> int | None:
    """The whole number that the answer is, thousands grouped or not; None if it is anything else."""
    bare = plain(answer)
    listed = re.search(r",\s", answer)  # `1, 234` is two numbers, `1,234` one
    return int(re.sub(r"[{},]", "", bare)) if _INTEGER.fullmatch(bare) and not listed else None


def ungrouped(answer: str) -> str:
    r"""With no commas between the thousands of its numbers: `1,000 \pi` is `1000 \pi`."""
    return _GROUPED.sub(lambda number: re.sub(r"[{},]", "", number.group()), answer)


def depth(answer: str) -> int:
    """How deep its brackets nest."""
    deepest = level = 0
    for character in answer:
        level += _BRACKETS.get(character, 0)
        deepest = max(deepest, level)
    return deepest


def parts(answer: str) -> list[str]:
    r"""The parts of an answer, in no order: `1, 2`, `\{1, 2\}`, `1 \text{ or } 2`, `\pm 1`.  Tuples and intervals stay whole."""
    separated = _split(_WORDS.sub(",", _without_set_braces(answer)))
    return [signed for part in separated for signed in _signs_written_out(part)]


def _without_set_braces(answer: str) -> str:
    inside = re.fullmatch(r"\s*\$?\s*(?:\\left\s*)?\\\{(.*?)(?:\\right\s*)?\\\}\s*\$?\s*", answer, re.DOTALL)
    return inside.group(1) if inside and "\\{" not in inside.group(1) else answer


def _split(answer: str) -> list[str]:
    """At the commas and semicolons that stand in no bracket."""
    found, level, start = [], 0, 0
    for place, character in enumerate(answer):
        level += _BRACKETS.get(character, 0)
        if level == 0 and character in ",;" and answer[place - 1 : place] != "\\":
            found.append(answer[start:place])
            start = place + 1
    return [part.strip() for part in [*found, answer[start:]] if part.strip()]


def _signs_written_out(part: str) -> list[str]:
    """`a ± b` is two answers; all signs of a part are read together, upper ones first."""
    if not _SIGN.search(part):
        return [part]
    return [_SIGN.sub(lambda sign, i=i: f" {_SIGNS[sign.group()][i]} ", part) for i in (0, 1)]
