"""What reflection a completion shows, and what of it does work.

Counted are markers, checks, slips mended and slips left standing.
"""

import re
from dataclasses import dataclass

from purified_opsd.miniature.task import Step

# those of Kim et al. that the task writes
MARKERS = ("wait", "hmm", "perhaps", "maybe", "actually", "alternatively", "check")

_RESULT = re.compile(r"(\d+) ([-+×]) (\d+) = (\d+)\.(?: (?:Wait|Hmm|Actually), check: (\d+)\.)?")


@dataclass(frozen=True)
class Reflection:
    """Counts over one or many completions."""

    markers: int = 0
    checks: int = 0
    catches: int = 0
    """Checks that put the right result for a wrong one."""
    slips: int = 0
    """Wrong results of written operations, mended or not."""

    def __add__(self, other: "Reflection") -> "Reflection":
        return Reflection(
            self.markers + other.markers,
            self.checks + other.checks,
            self.catches + other.catches,
            self.slips + other.slips,
        )


def reflect(completion: str) -> Reflection:
    """Counts the reflection in one completion's text."""
    lowered, results = completion.lower(), list(_RESULT.finditer(completion))
    return Reflection(
        markers=sum(lowered.count(marker) for marker in MARKERS),
        checks=sum(result[5] is not None for result in results),
        catches=sum(
            _slipped(result) and result[5] == str(_true_value(result)) for result in results
        ),
        slips=sum(map(_slipped, results)),
    )


def _slipped(result: re.Match[str]) -> bool:
    return int(result[4]) != _true_value(result)


def _true_value(result: re.Match[str]) -> int:
    return Step(int(result[1]), result[2], int(result[3])).value
