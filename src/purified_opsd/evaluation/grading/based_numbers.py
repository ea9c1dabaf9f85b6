r"""Numbers whose base is written below them: `204_8` is 132."""

import re

_BASES = {str(number): number for number in range(2, 37)} | {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "sixteen": 16,
}
_BASE = (
    r"\s*_\s*(?:\{\s*(?:\\(?:text|mathrm)\s*\{)?\s*\(?(?:base\s*)?([0-9]+|[a-z]+)\)?\s*\}?\s*\}"
    r"|([0-9]+))(?![0-9}])"
)
_DIGITS = r"[0-9][0-9A-Fa-f]*(?:\.[0-9A-Fa-f]+)?|[A-F][0-9A-F]+"
_NUMBER = re.compile(rf"(?<![\w.^\\])({_DIGITS}){_BASE}")
_WRAPPED = re.compile(
    rf"\s*(-?)\s*(?:\(|\{{|\\(?:text|mathrm|mathtt|texttt)\s*\{{)\s*"
    rf"({_DIGITS})\s*[)}}]{_BASE}\s*"
)
_UNREAD = re.compile(r"(?<![\w^\\])[0-9]+\s*_")


def read_bases(latex: str) -> str:
    """The answer with every number whose base is written below it in base ten."""
    if "_" not in latex:
        return latex
    return _NUMBER.sub(_value, _unwrapped(latex))


def bases_of(latex: str) -> frozenset[int]:
    """The bases that the answer writes below its numbers."""
    if "_" not in latex:
        return frozenset()
    numbers = _NUMBER.finditer(_unwrapped(latex))
    return frozenset(_base(number) for number in numbers if _value(number) != number.group())


def has_unread_base(latex: str) -> bool:
    """Does a number still have something below it that is no base of it, such as `9_8`?"""
    return bool(_UNREAD.search(latex))


def _unwrapped(latex: str) -> str:
    """`204_{8}` for `(204)_8`."""
    wrapped = _WRAPPED.fullmatch(latex)
    if not wrapped:
        return latex
    sign, digits, *base = wrapped.groups()
    return f"{sign}{digits}_{{{base[0] or base[1]}}}"


def _base(number: re.Match[str]) -> int:
    return _BASES.get(number.group(2) or number.group(3), 0)


def _value(number: re.Match[str]) -> str:
    """The number in base ten; as it is written where its digits are none of its base."""
    base = _base(number)
    whole, _, part = number.group(1).partition(".")
    try:
        value = str(int(whole + part, base)) if base else None
    except ValueError:
        value = None
    if value is None:
        return number.group()
    return f"\\frac{{{value}}}{{{base ** len(part)}}}" if part else value
