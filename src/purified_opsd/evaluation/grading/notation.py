r"""An answer as one writes it, in the LaTeX that is compared.

Characters become commands; what only sets the type, colour or size goes, and so do a sentence
around the answer and space at its ends; `2.5e3` and `11 5/6` become the numbers they are.
"""

import re

from .characters import read_characters

GAP = r"(?:\s|~|\\[ ,;:!]|\\q?quad\b|\\newline\b)"
"""Space, in LaTeX."""
_STYLE = (
    r"\\(?:text(?:bf|it|rm|sf|tt|sl|sc|up|md|normal)?|math(?:bf|it|rm|sf|tt|normal)"
    r"|boldsymbol|bold|bm|pmb|[fmh]box|boxed|emph|underline|ensuremath)"
)
_STYLED = re.compile(_STYLE + r"\s*\{(.*)\}\.?", re.DOTALL)
_WRAPPED = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]|\{(.*)\}|\*\*(.*)\*\*|\$+([^$]*)\$+", re.DOTALL)
_SWITCHED = re.compile(r"(?:\{\s*)?\\(?:bf(?:series)?|it|rm|sf|tt)\b([^{}]*)\}?")
_CHOICE = re.compile(rf"(?:{_STYLE}\s*\{{\s*\([A-E]\)\s*\}}{GAP}*|\([A-E]\){GAP}+)(?=\S)")

_INVISIBLE = re.compile(
    r"\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge"
    r"|displaystyle|textstyle|scriptstyle|scriptscriptstyle|(?:math)?strut|relax|null"
    r"|(?:no)?limits|(?:no|allow)break|noindent|centering|[bB]igg?[lrm]?)(?![A-Za-z])\s*"
    r"|\\(?:text|page)?color\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}\s*"
    r"|\\colorbox\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}\s*"
    r"|\\fcolorbox\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}\s*\{[^{}]*\}\s*"
    r"|\\(?:style|class|cssId|[hv]?phantom|[hv]space\*?|label|tag\*?)\s*\{[^{}]*\}\s*"
)
_START = re.compile(rf"(?:{GAP}|\\\\)+")
_END = re.compile(rf"(?:{GAP}|\\+\s*$|[.,;])+$")

_LEAD = (
    r"(?:(?:therefore|thus|hence|so|then|finally),?"
    r"|(?:[a-z][a-z'-]*,?\s+)*?(?:is|are|equals|be)\s*:?"
    r"|(?:[a-z][a-z'-]*\s+)*?answers?\s*[:=]?|[a-z][a-z' -]*:)"
)
"""Words before an answer: `The answer is`, `Answer:`, `Therefore,`."""
_LEAD_IN_TEXT = re.compile(rf"(?i){_STYLE}\s*\{{\s*{_LEAD}\s*\}}{GAP}*[:=]?{GAP}*(?=\S)")
_PLAIN_LEAD = re.compile(
    rf"(?i)(?:(?:[a-z][a-z'-]*,?\s+)+?(?:is|are|equals)\b\s*:?|(?:[a-z]+\s+)*?answers?\s*[:=])"
    rf"{GAP}*(?=\S)"
)

_POWER_OF_TEN = re.compile(r"(?<![\w.\\])([0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE]([+-]?[0-9]+)(?![\w.])")
_TIMES = re.compile(r"(?<=[0-9])\s*[xX]\s*(?=10\s*\^)")
_MIXED = re.compile(rf"(?<![\w.^/}})\\])([0-9]+){GAP}+([0-9]+)\s*/\s*([0-9]+)(?![\w/^.])")
_DEGREE = re.compile(
    r"\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z]))"
    r"(?:\s*(?:\\(?:text|mathrm)\s*\{\s*[CFK]\s*\}|[CF](?![A-Za-z])))?"
)
_OF_AN_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_COMPARISONS = (
    (re.compile(r"\\leq?(?:q|slant)?(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\geq?(?:q|slant)?(?![A-Za-z])|>="), r"\\ge "),
)
_MEMBER = re.compile(r"[A-Za-z]\s*\\in(?![A-Za-z])\s*(?=\\left|[\[(\\])")


def read_notation(answer: str) -> str:
    """The answer in plain LaTeX: `(051)` for `\\textbf{(051)}`, `70` for `\\textbf{(C) }70` and for
    `70°`, `2.5 \\times 10^{3}` for `2.5e3`.
    """
    latex = _unstyled(_INVISIBLE.sub("", read_characters(answer)))
    latex = _read_degrees(latex)
    for comparison, command in _COMPARISONS:
        latex = comparison.sub(command, latex)
    if member := _MEMBER.match(latex):
        latex = latex[member.end() :]
    latex = _POWER_OF_TEN.sub(_certain_power, _TIMES.sub(r"\\times ", latex))
    return _MIXED.sub(_mixed, latex)


def read_powers_of_ten(latex: str) -> str:
    """`2 \\times 10^{-3}` for `2e-3`, which may as well be three less than two times e."""
    return _POWER_OF_TEN.sub(_power, latex)


def without_style(answer: str) -> str:
    """The words of an answer, without commands of style, braces and dollar signs."""
    text = _INVISIBLE.sub("", read_characters(answer))
    return re.sub(rf"{GAP}|{_STYLE}|\\\\|[\s{{}}$*]", " ", text).strip()


def is_empty(answer: str) -> bool:
    """Does nothing stand in the box but space and what sets its type?"""
    text = _INVISIBLE.sub("", read_characters(answer))
    return not re.sub(rf"{GAP}|{_STYLE}|\\(?![a-zA-Z{{}}%])|(?<!\\)[\s{{}}$]", "", text)


def _unstyled(answer: str) -> str:
    """The answer without its style, the letter of a choice, the words before it and the space
    around it.
    """
    bare = answer
    while True:
        before = bare
        bare = _END.sub("", _START.sub("", bare, count=1) if _START.match(bare) else bare)
        for opening in (_CHOICE, _LEAD_IN_TEXT, _PLAIN_LEAD):
            if found := opening.match(bare):
                bare = bare[found.end() :]
        for whole in (_STYLED, _SWITCHED, _WRAPPED):
            found = whole.fullmatch(bare)
            if found and _closed(inside := found[found.lastindex or 0]):
                bare = inside
        if bare == before:
            return bare


def _closed(text: str) -> bool:
    """Does no brace close one that was opened before the text?"""
    level = 0
    for token in re.finditer(r"\\.|[{}]", text):
        level += {"{": 1, "}": -1}.get(token.group(), 0)
        if level < 0:
            return False
    return level == 0


def _read_degrees(latex: str) -> str:
    """Degrees of an angle whose sine or the like is taken are so many times π/180; else they are a
    unit, and go as other units do.
    """
    if _OF_AN_ANGLE.search(latex):
        angle = rf"([0-9]+(?:\.[0-9]+)?){_DEGREE.pattern}"
        latex = re.sub(angle, r"\\left(\\frac{\1\\pi}{180}\\right)", latex)
    return _DEGREE.sub("", latex)


def _certain_power(number: re.Match[str]) -> str:
    """Between a whole number and a sign, a small e may be Euler's number: it stays."""
    digits, exponent = number.groups()
    signed_e = exponent[0] in "+-" and number[0][len(digits)] == "e"
    return number[0] if signed_e and digits.isdigit() and digits != "1" else _power(number)


def _power(number: re.Match[str]) -> str:
    digits, exponent = number.groups()
    return f"{digits} \\times 10^{{{exponent.removeprefix('+')}}}"


def _mixed(number: re.Match[str]) -> str:
    whole, over, under = number.groups()
    if int(over) >= int(under):
        return number.group()
    return f"{whole}\\frac{{{over}}}{{{under}}}"
