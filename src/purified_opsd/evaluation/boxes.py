"""The final answer in a model's text: what stands in its last box."""

import re
from typing import NamedTuple

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox|framebox)\s*(?:\[[^\[\]{}]*\]\s*)*\{)|\\boxed\s+(?P<bare>-?[0-9]+)|\\.|[{}]", re.DOTALL
)


class Boxes(NamedTuple):
    """What was found in a text."""

    answer: str | None
    """What stands in the last box whose braces close; None if there is none."""
    cut_off: bool
    """The last box that was opened never closed."""


def find_boxes(text: str) -> Boxes:
    r"""Looks for `\boxed{}`, `\fbox{}` and `\framebox{}`, and for `\boxed 5`, in one pass; of a box in a box, the outer one
    is the answer."""
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
