"""Which part of a reference is cut, and what is refused instead."""

import pytest

from purified_opsd.data.dataset import Example
from purified_opsd.errors import DataError

from .test_prompts import EXAMPLE, builder

LONG = Example("a", "What is 1 + 1?", "é" * 300 + "END", "2", "set.jsonl:1")


@pytest.mark.parametrize("short_by", [1, 2, 17, 400])
def test_only_the_reference_is_cut_and_as_little_as_fits(short_by):
    full = builder().contexts(LONG)
    limit = len(full.teacher) - short_by
    cut = builder(max_tokens=limit).contexts(LONG)
    assert cut.cut
    assert cut.base == full.base
    assert limit - 1 <= len(cut.teacher) <= limit  # é is two tokens
    decode = builder().tokenizer.decode
    kept = decode(cut.teacher).split("Begin ===\n")[1].split("\n=== Reference Solution End")[0]
    assert LONG.reference.startswith(kept)
    assert decode(cut.teacher) == decode(full.teacher).replace(LONG.reference, kept)
    # The probe sees the same.
    assert decode(cut.reference) == decode(full.reference).replace(LONG.reference, kept)


def test_the_models_context_counts_as_well_as_the_setting():
    full = builder().contexts(LONG)
    assert len(builder(room=len(full.teacher) - 3).contexts(LONG).teacher) <= len(full.teacher) - 3
    assert not builder(room=len(full.teacher)).contexts(LONG).cut


def test_a_question_that_cannot_fit_is_refused_by_row():
    made = builder(max_tokens=60)
    for refuse in (made.check, made.contexts):
        with pytest.raises(
            DataError,
            match=r"set.jsonl:1: its question does not fit: .* more than 60 tokens .*never cut",
        ):
            refuse(EXAMPLE)


def test_a_long_reference_can_be_refused_instead():
    limit = len(builder().contexts(LONG).teacher) - 1
    with pytest.raises(
        DataError,
        match=f"set.jsonl:1: its reference does not fit: .* more than {limit} "
        "tokens.*long-reference cut",
    ):
        builder(max_tokens=limit, long_reference="refuse").check(LONG)
    builder(max_tokens=limit, long_reference="cut").check(LONG)
    builder(max_tokens=limit + 1, long_reference="refuse").check(LONG)
