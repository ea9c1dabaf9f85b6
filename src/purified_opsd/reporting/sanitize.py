"""Text that a model or a stranger wrote, made harmless for a page, a terminal and a CSV file.

What would move, hide or recolour other text is shown as a sign of its own; long texts are cut.
"""

import unicodedata
from typing import Any

SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's controls, formats (right-to-left marks, zero widths), surrogates, line and paragraph
separators.
"""


def visible(text: str, keep: str = "") -> str:
    """The text with every unseen character as a sign: ␛ for ESC, ⟨U+202E⟩ for a right-to-left
    override; those in `keep` stay.
    """
    return "".join(character if character in keep else _sign(character) for character in text)


def _sign(character: str) -> str:
    if unicodedata.category(character) not in UNSEEN:
        return character
    code = ord(character)
    return SIGNS.get(character) or (chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩")


def csv_cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would take for a formula gets a `'` before
    it; numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if shown.lstrip()[:1] in ("=", "+", "-", "@") else shown


def shortened(text: str, most: int) -> str:
    """A text of about `most` characters at most: its beginning and its end, and between them how
    much was left out.
    """
    if len(text) <= most:
        return text
    first, last = 3 * most // 4, most // 4
    return f"{text[:first]}\n[… {len(text) - first - last:,} characters left out …]\n{text[-last:]}"
