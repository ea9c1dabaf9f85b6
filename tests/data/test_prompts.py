"""Contexts under the chat templates of the paper's models, in miniature: what each template does
that others do not.
"""

import pytest

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import (
    BASE_TEMPLATE,
    REFERENCE_TEMPLATE,
    TEACHER_TEMPLATE,
    PromptBuilder,
    Prompts,
)
from purified_opsd.errors import DataError, TemplateError

from ..conftest import CHAT_TEMPLATE, byte_tokenizer

EXAMPLE = Example("a", "What is 1 + 1?", "1 + 1 = 2, {braces} and <b>all</b>.", "2", "set.jsonl:1")

QWEN3 = (
    "{% for m in messages %}<|user|>\n{{ m.content }}<|end|>\n{% endfor %}{% if "
    "add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% "
    "endif %}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
OLMO3 = (
    "{% if messages[0].role != 'system' %}<|system|>\nYou are OLMo.<|end|>\n{% endif %}"
    "{% for m in messages %}<|user|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n<think>{% endif %}"
)
TEMPLATES = {"qwen3": QWEN3, "r1": R1, "olmo3": OLMO3, "plain": CHAT_TEMPLATE}


def builder(template=CHAT_TEMPLATE, room=10_000, tokenizer=None, **settings) -> PromptBuilder:
    return PromptBuilder(tokenizer or byte_tokenizer(template), Prompts(**settings), room)


@pytest.fixture(params=list(TEMPLATES))
def template(request):
    return TEMPLATES[request.param]


def test_the_probe_is_the_teacher_without_the_problem():
    assert TEACHER_TEMPLATE == "{problem}\n\n" + REFERENCE_TEMPLATE
    assert not {"problem", "question"} & set(
        REFERENCE_TEMPLATE.replace("{reference}", "").lower().split()
    )
    assert (
        BASE_TEMPLATE.removeprefix("{problem}\n\n")
        == REFERENCE_TEMPLATE[-len(BASE_TEMPLATE) + len("{problem}\n\n") :]
    )


def test_contexts_hold_what_they_should_and_nothing_else(template):
    made = builder(template)
    decode = made.tokenizer.decode
    contexts = made.contexts(EXAMPLE)
    question, teacher, reference = (decode(ids) for ids in contexts[:3])
    assert EXAMPLE.problem in question
    assert EXAMPLE.problem in teacher
    assert EXAMPLE.problem not in reference
    assert EXAMPLE.reference not in question
    assert EXAMPLE.reference in teacher
    assert EXAMPLE.reference in reference
    assert not contexts.cut
    endings = {text[text.rindex("<|assistant|>") :] for text in (question, teacher, reference)}
    assert len(endings) == 1  # every context ends alike, so the same completion fits each
    assert builder(template).base_context(EXAMPLE.problem) == contexts.base


def test_thinking_is_switched_the_same_way_for_every_context():
    thinking, not_thinking = (
        builder(QWEN3, thinking=flag).contexts(EXAMPLE) for flag in (True, False)
    )
    empty = builder(QWEN3).tokenizer("<think>\n\n</think>\n\n", add_special_tokens=False)[
        "input_ids"
    ]
    for on, off in zip(thinking[:3], not_thinking[:3], strict=True):
        assert off == on + empty


def test_templates_that_know_no_thinking_flag_ignore_it(template):
    if template is not QWEN3:
        assert builder(template, thinking=True).contexts(EXAMPLE) == builder(
            template, thinking=False
        ).contexts(EXAMPLE)


@pytest.mark.parametrize(
    "template",
    ["{{ bos_token }}" + CHAT_TEMPLATE, "{{ bos_token }}{{ bos_token }}" + CHAT_TEMPLATE],
)
def test_exactly_one_beginning_of_sequence(template):
    """The template writes it, and so does the tokenizer when it is asked to add special tokens."""
    tokenizer = byte_tokenizer(template)
    tokenizer.add_special_tokens({"bos_token": "<|pad|>"})
    tokenizer.add_bos_token = True
    for ids in builder(tokenizer=tokenizer).contexts(EXAMPLE)[:3]:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


LONG = Example("a", "What is 1 + 1?", "é" * 300 + "END", "2", "set.jsonl:1")


@pytest.mark.parametrize("short_by", [1, 2, 17, 400])
def test_only_the_reference_is_cut_and_as_little_as_fits(short_by):
    full = builder().contexts(LONG)
    cut = builder(max_tokens=len(full.teacher) - short_by).contexts(LONG)
    assert cut.cut
    assert cut.base == full.base
    assert (
        len(full.teacher) - short_by - 1 <= len(cut.teacher) <= len(full.teacher) - short_by
    )  # é is two tokens
    decode = builder().tokenizer.decode
    kept = decode(cut.teacher).split("Begin ===\n")[1].split("\n=== Reference Solution End")[0]
    assert LONG.reference.startswith(kept)
    assert decode(cut.teacher) == decode(full.teacher).replace(LONG.reference, kept)
    assert decode(cut.reference) == decode(full.reference).replace(
        LONG.reference, kept
    )  # the probe sees the same


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


def test_a_tokenizer_without_a_chat_template():
    with pytest.raises(
        TemplateError,
        match="has no chat template, so a question cannot be put .* put a chat_template.jinja",
    ):
        builder(template=None)
