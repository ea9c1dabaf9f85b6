"""What is said once, however many processes a command has."""

import os
import sys


def is_first() -> bool:
    """Is this the only process, or the one of several that speaks for all?"""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Says on stderr what all processes have to say, in the first of them."""
    if is_first():
        print(line, file=sys.stderr)
