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
from purified_opsd.errors import TemplateError

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


def test_a_tokenizer_without_a_chat_template():
    with pytest.raises(
        TemplateError,
        match="has no chat template, so a question cannot be put .* put a chat_template.jinja",
    ):
        builder(template=None)
