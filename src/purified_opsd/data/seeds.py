"""Stateless randomness: each draw is a function of its purpose.

So neither a restart nor a world size changes it.
"""

from hashlib import blake2b


def seed_for(run_seed: int, purpose: str, *key: int | str) -> int:
    """A 63-bit seed for one draw.

    The same arguments give the same seed on every machine and in every process.
    """
    text = repr((run_seed, purpose, *key)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1
