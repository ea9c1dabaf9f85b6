"""Model text made harmless and legible: what would move, hide or recolour other text is shown as a sign of its own."""

import unicodedata

SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's controls, formats (right-to-left marks, zero widths), surrogates, line and paragraph separators."""


def visible(text: str, keep: str = "") -> str:
    """The text with every unseen character as a sign: ␛ for ESC, ⟨U+202E⟩ for a right-to-left override; those in `keep` stay."""
    return "".join(character if character in keep else _sign(character) for character in text)


def _sign(character: str) -> str:
    if unicodedata.category(character) not in UNSEEN:
        return character
    code = ord(character)
    return SIGNS.get(character) or (chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩")
