r"""What two answers may mean, where their notation leaves it open.

`100,200` is a number or a list of two; `2e-3` is a small number or has Euler's e in it; `x < 1 or
x > 2` is two parts or one set of numbers.
"""

from collections.abc import Iterator

from .boxed_answer import may_be_list, parts, region, ungrouped
from .notation import read_powers_of_ten

Reading = tuple[list[str], list[str]]
"""The parts of the gold answer and those of the other."""


def readings(gold: str, answer: str) -> Iterator[Reading]:
    """The readings of a gold answer and of an answer under which they may be the same, each once.

    The gold answer's form decides: what is no list in it is none in the answer.
    """
    seen: list[Reading] = []
    for reading in _all_readings(gold, answer):
        if len(reading[0]) == len(reading[1]) and reading not in seen:
            seen.append(reading)
            yield reading


def _all_readings(gold: str, answer: str) -> Iterator[Reading]:
    for one in dict.fromkeys((gold, read_powers_of_ten(gold))):
        for other in dict.fromkeys((answer, read_powers_of_ten(answer))):
            yield from _grouped_readings(one, other)
    gold_region = region(gold)
    if gold_region or (region(answer) and len(parts(gold)) == 1):
        yield [gold_region or gold], [region(answer) or answer]


def _grouped_readings(gold: str, answer: str) -> Iterator[Reading]:
    """With commas between thousands, and with commas between parts."""
    gold_parts = parts(ungrouped(gold))
    yield gold_parts, parts(ungrouped(answer))
    if len(gold_parts) > 1:
        yield gold_parts, parts(answer)
    elif may_be_list(gold):
        yield parts(gold), parts(answer)
