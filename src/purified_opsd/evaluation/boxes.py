"""The final answer in a model's text: what stands in its last box."""

import re

_OPENINGS = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\[[^\]]*\]\s*)*\{")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`, `\fbox{}` or `\framebox{}` whose braces close; None if there is none.

    A box within a box is not looked at: the outer one is the answer.
    """
    found = None
    place = 0
    while opening := _OPENINGS.search(text, place):
        end = _closing(text, opening.end())
        if end is None:
            place = opening.end()
        else:
            found, place = text[opening.end() : end], end
    return found.strip() if found is not None else None


def ends_in_a_box(text: str) -> bool:
    """Is there a box, the last of which was cut off before its brace closed?"""
    openings = list(_OPENINGS.finditer(text))
    return bool(openings) and _closing(text, openings[-1].end()) is None


def _closing(text: str, start: int) -> int | None:
    """The place of the brace that closes what opened just before `start`; escaped braces do not count."""
    depth = 1
    for brace in _BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return brace.start()
    return None
