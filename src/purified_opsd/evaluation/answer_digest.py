"""What tells a set of answers from all others."""

import json
from collections.abc import Iterable
from hashlib import sha256


def digest_of(answers: Iterable[str]) -> str:
    """Identifies a set by its answers in order; leading zeros and spaces, in which copies of a set
    differ, do not count.
    """
    plain = ["".join(answer.split()).lstrip("0") or "0" for answer in answers]
    return sha256(json.dumps(plain).encode()).hexdigest()[:16]
