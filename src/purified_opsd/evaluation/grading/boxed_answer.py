"""The final answer in a model's text: what stands in its last box.

An answer as text: whole numbers, ± written out, and the parts of an answer that has several.
"""

import re
from typing import NamedTuple

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox|framebox)\s*(?:\[[^\[\]{}]*\]\s*)*\{)"
    r"|\\boxed\s+(?P<bare>-?[0-9]+)|\\.|[{}]",
    re.DOTALL,
)


class Boxes(NamedTuple):
    """The boxes of a text."""

    answer: str | None
    """What stands in the last box whose braces close; None if there is none."""
    cut_off: bool
    """The last box that was opened never closed."""


def find_boxes(text: str) -> Boxes:
    r"""Looks for `\boxed{}`, `\fbox{}` and `\framebox{}`, and for `\boxed 5`, in one pass; of a box
    in a box, the outer one is the answer.
    """
    answer, last_opened, open_braces = None, None, []
    for token in _TOKENS.finditer(text):
        if token["box"]:
            last_opened = token.end()
            open_braces.append(last_opened)
        elif token["bare"]:
            answer = token["bare"]
        elif token.group() == "{":
            open_braces.append(None)
        elif token.group() == "}" and open_braces:
            start = open_braces.pop()
            answer = text[start : token.start()].strip() if start is not None else answer
    return Boxes(answer, last_opened is not None and last_opened in open_braces)


LONGEST = 4_000
"""Characters of an answer that is still looked at; the longest gold answer of the paper's sets has
50.
"""
DEEPEST = 40
"""Brackets within brackets of an answer that is still looked at."""

_STYLE = (
    r"\\(?:text(?:bf|it|rm|sf|tt|sl|sc|up|md|normal)?|math(?:bf|it|rm|sf|tt|normal)"
    r"|boldsymbol|bold|bm|pmb|[mh]box|emph|underline)"
)
_GAP = r"(?:\s|~|\\[ ,;:!]|\\q?quad\b)"
_STYLED = re.compile(_STYLE + r"\s*\{(.*)\}\.?", re.DOTALL)
_SWITCHED = re.compile(r"(?:\{\s*)?\\(?:bf(?:series)?|it|rm|sf|tt)\b([^{}]*)\}?")
_CHOICE = re.compile(rf"(?:{_STYLE}\s*\{{\s*\([A-E]\)\s*\}}{_GAP}*|\([A-E]\){_GAP}+)(?=\S)")
_BRACED = re.compile(r"\((.*)\)|\{(.*)\}")
_SPACES = re.compile(r"\\[ ,!;:]|\\q?quad\b|~|\$|\\left\b|\\right\b|\\displaystyle\b|\s")
_INTEGER = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+)")
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9,])")
_WORDS = re.compile(
    r"\\(?:text|mathrm|textrm|mbox)\s*\{\s*,?\s*(?:and|or)\s*\}"
    r"|(?<![\\A-Za-z])(?:and|or)(?![A-Za-z])"
)
_WIDE_DIGITS = {0xFF10 + digit: str(digit) for digit in range(10)}
_SIGNS = {"\\pm": ("+", "-"), "\\mp": ("-", "+"), "±": ("+", "-"), "∓": ("-", "+")}
_SIGN = re.compile(r"\\pm(?![A-Za-z])|\\mp(?![A-Za-z])|±|∓")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def plain(answer: str) -> str:
    """The answer without spaces, dollar signs and what only sizes a bracket; with one name for each
    kind of fraction.
    """
    return re.sub(r"\\[dt]frac\b", r"\\frac", _SPACES.sub("", answer)).rstrip(".")


def unstyled(answer: str) -> str:
    r"""The answer in plain digits, without what only sets its type, and without the letter of a
    choice before it: `(051)` for `\textbf{(051)}`, `70` for `\textbf{(C) }70`.
    """
    bare = answer.strip().translate(_WIDE_DIGITS)
    while True:
        choice = _CHOICE.match(bare)
        inside = _STYLED.fullmatch(bare) or _SWITCHED.fullmatch(bare)
        if choice:
            bare = bare[choice.end() :]
        elif inside and _closed(inside.group(1)):
            bare = inside.group(1).strip()
        else:
            return bare


def _closed(text: str) -> bool:
    """Does no brace close one that was opened before the text?"""
    level = 0
    for token in re.finditer(r"\\.|[{}]", text):
        level += {"{": 1, "}": -1}.get(token.group(), 0)
        if level < 0:
            return False
    return level == 0


def integer(answer: str) -> int | None:
    """The whole number that the answer is, thousands grouped or not; None where it is none."""
    bare = plain(answer)
    while inside := _BRACED.fullmatch(bare):
        bare = inside.group(1) or inside.group(2) or ""
    listed = re.search(r",\s", answer)  # `1, 234` is two numbers, `1,234` one
    return int(re.sub(r"[{},]", "", bare)) if _INTEGER.fullmatch(bare) and not listed else None


def ungrouped(answer: str) -> str:
    r"""The answer with no commas between thousands: `1000 \pi` for `1,000 \pi`."""
    return _GROUPED.sub(lambda number: re.sub(r"[{},]", "", number.group()), answer)


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
