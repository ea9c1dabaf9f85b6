"""The final answer in a model's text: what stands in its last box.

An answer as text: whole numbers, ± written out, and the parts of an answer that has several.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from .notation import is_empty

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox|framebox)\s*(?:\[[^\[\]{}]*\]\s*)*\{)"
    r"|\\boxed\s+(?P<bare>-?[0-9]+)|\\.|[{}]",
    re.DOTALL,
)


_EMPTY_AT_MOST = 200
"""Characters of a box that may still hold nothing but space and style."""


class Boxes(NamedTuple):
    """The boxes of a text."""

    answer: str | None
    """What stands in the last box whose braces close and that is not empty; empty where all boxes
    are, and None if there is none.
    """
    cut_off: bool
    """The last box that was opened never closed."""


def find_boxes(text: str) -> Boxes:
    r"""Looks for `\boxed{}`, `\fbox{}` and `\framebox{}`, and for `\boxed 5`, in one pass; of a box
    in a box, the outer one is the answer.
    """
    spans: list[tuple[int, int]] = []
    last_opened, open_braces = None, []
    for token in _TOKENS.finditer(text):
        if token["box"]:
            last_opened = token.end()
            open_braces.append(last_opened)
        elif token["bare"]:
            spans.append(token.span("bare"))
        elif token.group() == "{":
            open_braces.append(None)
        elif token.group() == "}" and open_braces:
            start = open_braces.pop()
            if start is not None:
                spans.append((start, token.start()))
    cut_off = last_opened is not None and last_opened in open_braces
    return Boxes(_last_filled(text, spans), cut_off)


def _last_filled(text: str, spans: Sequence[tuple[int, int]]) -> str | None:
    """The last of the answers that is not empty; the last, where all are."""
    for start, end in reversed(spans):
        if end - start > _EMPTY_AT_MOST or not is_empty(text[start:end]):
            return text[start:end].strip()
    return "" if spans else None


LONGEST = 4_000
"""Characters of an answer that is still looked at; the longest gold answer of the paper's sets has
50.
"""
DEEPEST = 40
"""Brackets within brackets of an answer that is still looked at."""


def _connective(words: str) -> re.Pattern[str]:
    return re.compile(
        rf"\\(?:text|mathrm|textrm|mbox)\s*\{{\s*,?\s*(?:{words})\s*\}}"
        rf"|(?<![\\A-Za-z])(?:{words})(?![A-Za-z])"
    )


_BRACED = re.compile(r"\((.*)\)|\{(.*)\}")
_SPACES = re.compile(r"\\[ ,!;:]|\\q?quad\b|~|\$|\\left\b|\\right\b|\\displaystyle\b|\s")
_INTEGER = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+)")
_BRACKET_OR_GROUPED = re.compile(
    r"(?P<opening>\\\{|[(\[])|\\\}|[)\]]"
    r"|(?<![0-9.,])(?P<number>[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+)(?![0-9,])"
)
_THREES = re.compile(r"[0-9]{3}(?:,[0-9]{3})+")
_PAIR = re.compile(r"[0-9],[0-9]")
_UNEQUAL = re.compile(r"[<>]|\\(?:[lg]e|[lg]t|ne|neq)(?![A-Za-z])")
_WORDS = _connective("and|or")
_AND = _connective("and")
_OR = _connective("or")
_SIGNS = {"\\pm": ("+", "-"), "\\mp": ("-", "+"), "±": ("+", "-"), "∓": ("-", "+")}
_SIGN = re.compile(r"\\pm(?![A-Za-z])|\\mp(?![A-Za-z])|±|∓")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def plain(answer: str) -> str:
    """The answer without spaces, dollar signs and what only sizes a bracket; with one name for each
    kind of fraction.
    """
    return re.sub(r"\\[dt]frac\b", r"\\frac", _SPACES.sub("", answer)).rstrip(".")


def integer(answer: str) -> str | None:
    """The digits of the whole number that the answer is, thousands grouped or not, without leading
    zeros; None where it is none.  They stay text, which has no greatest length.
    """
    bare = plain(answer)
    bracketed = False
    while inside := _BRACED.fullmatch(bare):
        bracketed = bracketed or inside.group(1) is not None
        bare = inside.group(1) or inside.group(2) or ""
    listed = re.search(r",\s", answer)  # `1, 234` is two numbers, `1,234` one
    paired = bracketed and _PAIR.search(bare)  # `(1,234)` is a pair
    if listed or paired or not _INTEGER.fullmatch(bare):
        return None
    digits = re.sub(r"[{},+-]", "", bare).lstrip("0")
    return f"-{digits}" if digits and bare.startswith("-") else digits or "0"


def ungrouped(answer: str) -> str:
    r"""The answer with no commas between thousands: `1000 \pi` for `1,000 \pi`.  In brackets a
    comma separates, unless it stands in braces of its own: `(1,234)` is a pair, `(1{,}234)` none.
    """
    pieces, level, start = [], 0, 0
    for token in _BRACKET_OR_GROUPED.finditer(answer):
        number = token["number"]
        if not number:
            level += 1 if token["opening"] else -1
        elif level == 0 or not _PAIR.search(number):
            pieces += [answer[start : token.start()], re.sub(r"[{},]", "", number)]
            start = token.end()
    return "".join([*pieces, answer[start:]])


def may_be_list(answer: str) -> bool:
    """Could a grouped number as well be a list of numbers with three digits each: `100,200`?"""
    return bool(_THREES.fullmatch(answer.strip()))


def depth(answer: str) -> int:
    """How deep the brackets of an answer nest."""
    deepest = level = 0
    for character in answer:
        level += _BRACKETS.get(character, 0)
        deepest = max(deepest, level)
    return deepest


def parts(answer: str) -> list[str]:
    r"""The parts of an answer, in no order: `1, 2`, `x \in \{1, 2\}`, `1 \text{ or } 2`, `\pm 1`.
    Tuples and intervals stay whole.
    """
    separated = _split(_WORDS.sub(",", _without_set_braces(answer)))
    return [signed for part in separated for signed in _signs_written_out(part)]


def region(answer: str) -> str | None:
    r"""The answer as one set of numbers, `x < 1 \lor x > 2` for `x < 1 \text{ or } x > 2`; None
    where it has no inequality.
    """
    if not _UNEQUAL.search(answer):
        return None
    return _OR.sub(r" \\lor ", _AND.sub(r" \\land ", answer))


def _without_set_braces(answer: str) -> str:
    inside = re.fullmatch(
        r"\s*\$?\s*(?:[A-Za-z]\s*\\in\s*)?(?:\\left\s*)?\\\{(.*?)(?:\\right\s*)?\\\}\s*\$?\s*",
        answer,
        re.DOTALL,
    )
    return inside.group(1) if inside and "\\{" not in inside.group(1) else answer


def _split(answer: str) -> list[str]:
    """Splits an answer at the commas and semicolons that stand in no bracket."""
    pieces, level, start = [], 0, 0
    for index, character in enumerate(answer):
        level += _BRACKETS.get(character, 0)
        if level == 0 and character in ",;" and answer[index - 1 : index] != "\\":
            pieces.append(answer[start:index])
            start = index + 1
    pieces.append(answer[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def _signs_written_out(part: str) -> list[str]:
    """`a ± b` is two answers; all signs of a part are read together, upper ones first."""
    if not _SIGN.search(part):
        return [part]
    return [_SIGN.sub(lambda sign, i=i: f" {_SIGNS[sign.group()][i]} ", part) for i in (0, 1)]
