"""The wording of a context: a text with placeholders for the problem, the reference and the
instruction.

`{problem}`, `{reference}` and `{instruction}` are placeholders.  All other braces are text, so that
`\\boxed{}` and `\\frac{a}{b}` need no escaping.
"""

import re
from collections.abc import Collection
from hashlib import sha256

PLACEHOLDERS = ("problem", "reference", "instruction")
_KNOWN = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_LONE_WORD = re.compile(r"(?<![A-Za-z\\^_}\])])\{([A-Za-z_]+)\}")
"""A word in braces that is no argument of a LaTeX command, as in `\\text{word}`."""


def check_wording(name: str, wording: str, needs: Collection[str]) -> None:
    """Raises ValueError where a context's wording lacks a placeholder that it needs, or holds one
    that it must not, or one twice, or one that there is not.
    """
    placeholders = _KNOWN.findall(wording)
    needed = " and ".join(f"{{{placeholder}}}" for placeholder in needs)
    for word in _LONE_WORD.findall(wording):
        if word not in PLACEHOLDERS:
            raise ValueError(
                f"prompts.{name} holds {{{word}}}, which is no placeholder: there are {{problem}}, "
                "{reference} and {instruction}. Write one of those, or spaces inside the braces if "
                "they are text."
            )
    for placeholder in PLACEHOLDERS:
        count = placeholders.count(placeholder)
        if placeholder in needs and count != 1:
            raise ValueError(
                f"prompts.{name} must hold {needed} once each, got {wording!r}, which holds "
                f"{{{placeholder}}} {_times(count)}. {_WHY[name]}"
            )
        if placeholder not in needs and count > (placeholder == "instruction"):
            raise ValueError(
                f"prompts.{name} must hold {needed}, and {{instruction}} at most once, got "
                f"{wording!r}, which holds {{{placeholder}}} {_times(count)}. {_WHY[name]}"
            )


def check_plain(name: str, text: str) -> None:
    """Raises ValueError where a text that is put as it stands is empty, or holds a placeholder."""
    if not text.strip():
        raise ValueError(f"prompts.{name} is empty. Leave it out, or write a text.")
    found = _KNOWN.findall(text)
    if found:
        raise ValueError(
            f"prompts.{name} holds {{{found[0]}}}, and is put as it stands: the words would reach "
            "the model. Placeholders go into prompts.base, prompts.reference and prompts.teacher."
        )


def format_string(wording: str, instruction: str) -> str:
    """Returns the wording as a Python format string of `problem` and `reference`, with the
    instruction in its place and all other braces doubled.
    """
    parts = _KNOWN.split(wording)
    for index, part in enumerate(parts):
        is_text = index % 2 == 0
        if is_text:
            parts[index] = _escaped(part)
        elif part == "instruction":
            parts[index] = _escaped(instruction)
        else:
            parts[index] = f"{{{part}}}"
    return "".join(parts)


def wording_hash(*texts: str) -> str:
    """Returns what identifies a wording in records."""
    return sha256("\0".join(texts).encode()).hexdigest()[:16]


_WHY = {
    "base": "The student sees the problem, and never the reference.",
    "reference": "The probe sees the reference without the problem.",
    "teacher": "The teacher sees both.",
}


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _times(count: int) -> str:
    return "not at all" if count == 0 else "once" if count == 1 else f"{count} times"
