"""A process that compares answers as mathematics and may die of it.

Reads one JSON line a question, [gold parts, answer parts], and writes one JSON line, what became of
it.
"""

import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any, TextIO

import sympy
from math_verify import LatexExtractionConfig, grader, parse, verify

from .exact_comparison import numbers_equal

BOXED = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]

grader.sympy_numeric_eq = numbers_equal
grader.sympy_symbolic_eq = lambda gold, answer: False
"""math-verify's own two compare at 1e-15, absolutely; `numbers_equal` has decided by then."""


def same(gold: list[str], answer: list[str]) -> bool:
    """Are the parts the same, each exactly once, in any order?"""
    if len(gold) != len(answer):
        return False
    left = [_parsed(part) for part in answer]
    for part in map(_parsed, gold):
        match = next((other for other in left if _verified(part, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _verified(gold: list[Any], answer: list[Any]) -> bool:
    """Does math-verify take one for the other, as sets where one of them is a set?  Raises
    MemoryError and RecursionError.
    """
    try:
        return verify(
            gold, answer, timeout_seconds=0, allow_set_relation_comp=True, raise_on_error=True
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:  # whatever else sympy makes of it: not the same
        return False


def _parsed(part: str) -> list[Any]:
    r"""What a part means, each way.  Inequalities joined by `\lor` and `\land` are one set."""
    alternatives = part.split("\\lor")
    if len(alternatives) > 1 or "\\land" in part:
        return _region(alternatives)
    return parse(f"\\boxed{{{part}}}", BOXED, parsing_timeout=0)


def _region(alternatives: list[str]) -> list[Any]:
    """The numbers for which one of the alternatives holds, each a conjunction of inequalities in
    one unknown; nothing where one is none.
    """
    try:
        sets = [
            sympy.Intersection(
                *(_parsed(relation)[0].as_set() for relation in alternative.split("\\land"))
            )
            for alternative in alternatives
        ]
    except (AttributeError, IndexError, NotImplementedError):
        return []
    return [sympy.Union(*sets)]


def main(cpu_seconds: int, memory_bytes: int) -> None:
    """Answers until nobody asks any more.  Ends itself where memory runs out, and is ended where
    its time does.
    """
    logging.disable()
    sys.set_int_max_str_digits(0)  # the limits below hold instead
    answers = _own_output()
    resource.setrlimit(resource.RLIMIT_AS, (_held() + memory_bytes, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used) + 1 + cpu_seconds, resource.RLIM_INFINITY)
        )
        try:
            print(json.dumps(same(*json.loads(line))), file=answers, flush=True)
        except (MemoryError, RecursionError) as error:
            print(
                json.dumps("memory" if isinstance(error, MemoryError) else "too deep"),
                file=answers,
                flush=True,
            )
            return


def _held() -> int:
    """Bytes of address space that the imports took, where the system says it."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * os.sysconf("SC_PAGESIZE") if statm.exists() else 0


def _own_output() -> TextIO:
    """The way to who asked; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
