r"""Characters of Unicode that stand for LaTeX: `√3` is `\sqrt{3}`, `6²` is `6^{2}`, `½` is
`\frac{1}{2}`; those that are not seen are dropped.
"""

import re
import unicodedata

_GREEK = {
    letter: unicodedata.name(letter).split()[-1].lower().replace("lamda", "lambda")
    for letter in "αβγδεζηθικλμνξπρστυφχψω"
}
_GREEK |= {letter: _GREEK[letter.lower()].capitalize() for letter in "ΓΔΘΛΞΠΣΦΨΩ"}
_COMMANDS = {
    **_GREEK,
    **dict.fromkeys("×✕✖⨯", "times"),
    **dict.fromkeys("·⋅∙•∗", "cdot"),
    **dict.fromkeys("≤⩽≦", "le"),
    **dict.fromkeys("≥⩾≧", "ge"),
    **dict.fromkeys("∅⌀", "emptyset"),
    **dict.fromkeys("∖⧵", "setminus"),
    "∞": "infty",
    "∪": "cup",
    "∩": "cap",
    "≠": "ne",
    "≈": "approx",
    "∈": "in",
    "∨": "lor",
    "∧": "land",
    "⟨": "langle",
    "⟩": "rangle",
}
_SIGNS = {
    **dict.fromkeys("−‐‑‒–—", "-"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("。｡", "."),
    "、": ",",
}
_LATEX = str.maketrans({character: f"\\{name} " for character, name in _COMMANDS.items()} | _SIGNS)
_BEFORE_NORMAL_FORM = str.maketrans(
    dict.fromkeys("°º˚", "^\\circ ")
    | {
        character: f"\\mathbb{{{letter}}}"
        for character, letter in zip("ℂℕℚℝℤ", "CNQRZ", strict=True)
    }
)
"""What the normal form would make other characters of."""

_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ"
_RUNS = re.compile(f"([{_RAISED}]+)|([{_LOWERED}]+)")
_FRACTIONS = re.compile("[¼-¾⅐-⅞↉]")
_ROOT = re.compile(
    r"(?P<sign>[√∛∜])\s*(?:(?P<plain>[0-9]+(?:\.[0-9]+)?|[A-Za-z]|\\[a-z]+\s?)"
    r"|\((?P<bracket>(?:[^()√∛∜]|\([^()]*\))*)\)|(?=\{))"
)
_DEGREES = {"√": "", "∛": "[3]", "∜": "[4]"}


def read_characters(text: str) -> str:
    """The text with a LaTeX command for every character that stands for one."""
    if text.isascii():
        return text
    seen = "".join(one for one in text if not _is_invisible(one))
    latex = _RUNS.sub(_script, seen.translate(_BEFORE_NORMAL_FORM))
    latex = _FRACTIONS.sub(_fraction, latex)
    latex = unicodedata.normalize("NFKC", latex).translate(_LATEX)
    return _read_roots("".join(map(_digit, latex)))


def _is_invisible(character: str) -> bool:
    """Is it a mark of format, such as a zero-width space, or the choice of a glyph?"""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _script(run: re.Match[str]) -> str:
    sign = "^" if run.group(1) else "_"
    return f"{sign}{{{unicodedata.normalize('NFKC', run.group())}}}"


def _fraction(character: re.Match[str]) -> str:
    over, under = unicodedata.normalize("NFKC", character.group()).split("⁄")
    return f"\\frac{{{over}}}{{{under}}}"


def _digit(character: str) -> str:
    """Every script's digits as those of ASCII."""
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _read_roots(latex: str) -> str:
    """Writes roots as commands, the innermost first."""
    while (read := _ROOT.sub(_root, latex)) != latex:
        latex = read
    return latex.replace("√", "\\sqrt ")


def _root(found: re.Match[str]) -> str:
    inside = found["plain"] or found["bracket"]
    braced = f"{{{inside}}}" if inside is not None else ""
    return f"\\sqrt{_DEGREES[found['sign']]}{braced}"
