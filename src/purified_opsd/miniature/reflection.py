"""What reflection a completion shows, and what of it does work: markers, checks, slips mended and slips left standing."""

import re
from dataclasses import dataclass

from .task import Step

MARKERS = ("wait", "hmm", "perhaps", "maybe", "actually", "alternatively", "check")  # those of Kim et al. that the task writes

_RESULT = re.compile(r"(\d+) ([-+×]) (\d+) = (\d+)(?=[.,])")
_CHECK = re.compile(r"let me check: (\d+) ([-+×]) (\d+) = (\d+), (?:not (\d+)|right)\.")
_WHOLE_CHECK = re.compile(r"Let me check: (\d+ [-+×] \d+ = \d+\.) (\d+ [-+×] \d+ = (\d+)\.)(?: Not (\d+)\.)?")


@dataclass(frozen=True)
class Reflection:
    """Counts over one or many completions."""

    markers: int = 0
    checks: int = 0  # of one result or of a whole derivation
    catches: int = 0  # checks that put a right result for a wrong one, or rightly reject a derivation
    slips: int = 0  # wrong results of written operations, mended or not
    mended: int = 0  # slips whose very next words are a check that catches them

    def __add__(self, other: "Reflection") -> "Reflection":
        return Reflection(
            self.markers + other.markers,
            self.checks + other.checks,
            self.catches + other.catches,
            self.slips + other.slips,
            self.mended + other.mended,
        )


def reflect(completion: str) -> Reflection:
    """Counts the reflection in one completion's text."""
    lowered = completion.lower()
    checks, whole = list(_CHECK.finditer(completion)), list(_WHOLE_CHECK.finditer(completion))
    slips = [result for result in _RESULT.finditer(completion) if not _is_right(result)]
    return Reflection(
        markers=sum(lowered.count(marker) for marker in MARKERS),
        checks=len(checks) + len(whole),
        catches=sum(_catches(check) for check in checks) + sum(_rejects(check) for check in whole),
        slips=len(slips),
        mended=sum(_is_mended(slip, completion) for slip in slips),
    )


def _is_right(result: re.Match[str]) -> bool:
    left, operator, right, value = result.group(1, 2, 3, 4)
    return Step(int(left), operator, int(right)).value == int(value)


def _catches(check: re.Match[str]) -> bool:
    return check.group(5) is not None and check.group(5) != check.group(4) and _is_right(check)


def _rejects(check: re.Match[str]) -> bool:
    """Does the check of a whole derivation reckon rightly and find that it misses the target?"""
    reckoned = all(_is_right(result) for part in check.group(1, 2) for result in _RESULT.finditer(part))
    return reckoned and check.group(4) is not None and check.group(3) != check.group(4)


def _is_mended(slip: re.Match[str], completion: str) -> bool:
    following = completion[slip.end() + 2 :]
    whole = _WHOLE_CHECK.match(following)
    if whole is not None:
        return _rejects(whole)
    check = _CHECK.match(re.sub(r"^(Wait|Hmm|Actually), ", "", following))
    return check is not None and _catches(check)
