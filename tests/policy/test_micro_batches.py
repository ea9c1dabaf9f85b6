import random

from purified_opsd.policy.scoring import MOST_PADDING, micro_batches


def realistic_lengths(n: int) -> list[int]:
    """Completions of up to 1,024 tokens behind prompts whose references run to thousands: a
    log-normal mix.
    """
    draw = random.Random(0)
    return [int(min(20_000, draw.lognormvariate(7, 0.8))) for _ in range(n)]


def test_every_sequence_once_within_the_budget_and_little_padding():
    lengths = realistic_lengths(96)
    groups = micro_batches(lengths, 16_384)
    assert sorted(i for group in groups for i in group) == list(range(96))
    for group in groups:
        padded = len(group) * max(lengths[i] for i in group)
        assert padded <= 16_384 or len(group) == 1
        assert sum(lengths[i] for i in group) >= (1 - MOST_PADDING) * padded
    assert len(groups) < 48  # and they are batches, not single sequences


def test_equal_lengths_fill_the_budget():
    assert micro_batches([10] * 7, 30) == [[0, 1, 2], [3, 4, 5], [6]]


def test_one_that_is_longer_than_the_budget_goes_alone():
    assert micro_batches([5, 100, 5], 20) == [[0, 2], [1]]


def test_nothing_gives_nothing():
    assert micro_batches([], 10) == []
