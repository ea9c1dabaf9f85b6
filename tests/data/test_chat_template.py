"""Templates are checked before a prompt is made of them: what cannot be used is refused."""

import datetime

import pytest

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import DataError, SettingsError, TemplateError

from ..conftest import CHAT_TEMPLATE, byte_tokenizer
from .tokenizers_of_families import CHATML, GEMMA, families

EXAMPLE = Example("a", "What is 1 + 1?", "1 + 1 = 2.", "2", "set.jsonl:1")
PARTS = (  # as models that see images have it
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DATED = "Today is {{ strftime_now('%d %B %Y, %H:%M') }}.\n" + CHAT_TEMPLATE


def builder(template, /, **settings) -> PromptBuilder:
    return PromptBuilder(byte_tokenizer(template), Prompts(**settings), room=10_000)


def prompt(template, problem="Why?", /, **settings) -> str:
    prompts = builder(template, **settings)
    return prompts.tokenizer.decode(prompts.base_context(problem))


NO_HEADER = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
REFUSED = {
    "does not parse": (
        "{% for m in messages %}{{ m.content }",
        r"^The chat template of .* cannot be read as Jinja: line 1: .*--prompts.template FILE\.$",
    ),
    "has no end": ("{% if x %}", "cannot be read as Jinja: line 1: Unexpected end of template"),
    "raises": (
        "{{ raise_exception('Roles must alternate!') }}",
        "cannot be rendered: TemplateError: Roles must alternate!",
    ),
    "fails on its own": ("{{ messages[0].content + 1 }}", "cannot be rendered: TypeError"),
    "wants what nobody gives": (
        "{{ tools[0].name }}" + CHAT_TEMPLATE,
        "cannot be rendered: UndefinedError: 'None' has no attribute 0|UndefinedError",
    ),
    "calls a clock that is not there": (
        "{{ now() }}" + CHAT_TEMPLATE,
        "cannot be rendered: UndefinedError: 'now' is undefined",
    ),
    "draws at random": (
        "{{ ['Hi', 'Hello'] | random }}" + CHAT_TEMPLATE,
        "cannot be read as Jinja: line 1: No filter named 'random'",
    ),
    "leaves the question out": (
        "<|user|><|end|>{% if add_generation_prompt %}<|assistant|>{% endif %}",
        r"prints a user's words 0 times: of the turn 'Zebra .*' it makes '<\|user\|>.* teach "
        "nothing",
    ),
    "takes roles of its own": (
        CHAT_TEMPLATE.replace("in messages", "in messages if message.role == 'human'"),
        "prints a user's words 0 times",
    ),
    "says everything twice": (CHAT_TEMPLATE + "{{ messages[0].content }}", "words 2 times"),
    "rewrites the question": (
        CHAT_TEMPLATE.replace("message.content", "(message.content | upper)"),
        "words 0 times",
    ),
    "prints a list as Python does": (
        CHAT_TEMPLATE.replace("message.content", "(message.content if message.content is not "
        "string else '')"),
        "words 0 times",
    ),
    "opens no turn of the model": (
        NO_HEADER,
        r"opens no turn of the model's: the prompt ends with .*<\|end\|>'. The model would go on "
        r"with the user's words .* Let add_generation_prompt print the header",
    ),
    "opens a turn with a line break": (
        NO_HEADER + "{% if add_generation_prompt %}\n\n{% endif %}",
        "opens no turn of the model's",
    ),
    "prints one turn only": (
        "<|user|>{{ messages[0].content }}<|end|>",
        "opens no turn of the model's",
    ),
    "opens a turn of the user's": (
        NO_HEADER + "{% if add_generation_prompt %}<|user|>{% endif %}",
        r"opens another turn of the user's with '<\|user\|>'",
    ),
    "asks before the question": (
        "{% if add_generation_prompt %}<|assistant|>{% endif %}" + NO_HEADER,
        "prints the user's words after the header of the model's turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_template_that_cannot_be_used_is_refused(case):
    template, says = REFUSED[case]
    with pytest.raises(TemplateError, match=says) as caught:
        builder(template)
    assert str(caught.value).endswith("name a template of your own with --prompts.template FILE.")


@pytest.mark.parametrize("family", families())
def test_templates_of_the_field_are_rendered_as_the_library_does(family):
    tokenizer = families()[family]
    turn = {"role": "user", "content": Prompts().format_strings[0].format(problem="Why?")}
    ids = PromptBuilder(tokenizer, Prompts(), 10_000).base_context("Why?")
    text = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


WHITESPACE = (
    "{% for message in messages %}\n    {% generation %}\n  {{ message.content }}\n"
    "    {% endgeneration %}\n    {% if loop.first %}{% continue %}{% endif %}\n{% endfor %}\n"
    "{{ {'a': 'é<'} | tojson }}{{ {'b': [1]} | tojson(indent=2) }}{% if add_generation_prompt %}"
    "<|assistant|>{{ eos_token }}{% endif %}"
)


def test_what_the_library_adds_to_jinja_is_there():
    """Trimmed blocks, loop controls, `tojson`, `generation`, the named special tokens."""
    tokenizer = byte_tokenizer(WHITESPACE)
    turn = {"role": "user", "content": Prompts().format_strings[0].format(problem="Why?")}
    expected = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    assert prompt(WHITESPACE) == expected


def test_a_template_that_takes_parts_is_given_parts():
    assert prompt(PARTS) == prompt(CHAT_TEMPLATE)
    contexts = builder(PARTS).contexts(EXAMPLE)
    assert len({tuple(ids) for ids in contexts[:3]}) == 3
    either = "{% if m.content is string %}{{ m.content }}{% else %}IMAGES"
    both = PARTS.replace("{% for part", either + "{% for part")
    both = both.replace("{% endfor %}<", "{% endfor %}{% endif %}<")
    assert prompt(both) == prompt(CHAT_TEMPLATE)  # text, where a template takes either
    assert prompt(PARTS, system="Be brief.") == prompt(CHAT_TEMPLATE, system="Be brief.")


def test_text_that_looks_like_jinja_is_not_run():
    problem = "{{ 7 * 7 }} {% for x in messages %} {# no #} {{ raise_exception('x') }}"
    assert problem in prompt(CHAT_TEMPLATE, problem)
    assert "{{ 7 * 7 }}" in prompt(CHAT_TEMPLATE, instruction="Answer {{ 7 * 7 }}.")


def test_the_clock_stands_at_the_date_of_the_settings():
    assert prompt(DATED).startswith("Today is 01 January 2025, 00:00.\n<|user|>")
    later = datetime.date(2026, 2, 3)
    assert prompt(DATED, date=later).startswith("Today is 03 February 2026, 00:00.")
    [remark] = builder(DATED).remarks()
    assert "can print the date: prompts.date tells it 2025-01-01" in remark
    assert builder(CHAT_TEMPLATE).remarks() == []


def test_a_thinking_flag_that_does_nothing_is_said():
    [remark] = builder(CHAT_TEMPLATE, thinking=False).remarks()
    assert remark.endswith("knows no flag for thinking: prompts.thinking false changes nothing.")
    for flag in ("enable_thinking", "thinking"):
        knows = CHAT_TEMPLATE + f"{{% if {flag} is false %}}<think></think>{{% endif %}}"
        assert builder(knows, thinking=False).remarks() == []
        assert builder(knows, thinking=True).remarks() == []


def test_a_system_prompt_is_put_before_the_question():
    text = prompt(CHATML, system="  Be brief.\n")
    assert text.startswith("<|im_start|>system\n  Be brief.\n<|im_end|>\n<|im_start|>user\nWhy?")


@pytest.mark.parametrize(
    "template",
    [GEMMA, CHAT_TEMPLATE.replace("in messages", "in messages if message.role != 'system'")],
    ids=["refuses it", "leaves it out"],
)
def test_a_template_without_a_place_for_a_system_prompt(template):
    tokenizer = byte_tokenizer(template)
    tokenizer.add_special_tokens({"bos_token": "<|pad|>"})
    PromptBuilder(tokenizer, Prompts(), 10_000)
    with pytest.raises(
        TemplateError,
        match="takes no system prompt, and prompts.system is set: .* put its words into "
        "prompts.base, prompts.reference and prompts.teacher",
    ):
        PromptBuilder(tokenizer, Prompts(system="Be brief."), 10_000)


def test_of_several_templates_the_default_is_taken():
    tokenizer = byte_tokenizer(None)
    tokenizer.chat_template = {"default": CHAT_TEMPLATE, "tool_use": "{{ tools[0] }}"}
    assert PromptBuilder(tokenizer, Prompts(), 10_000).template.source == CHAT_TEMPLATE
    tokenizer.chat_template = {"rag": CHAT_TEMPLATE, "tool_use": "{{ tools[0] }}"}
    with pytest.raises(TemplateError, match=r"has several chat templates \(rag, tool_use\), and"):
        PromptBuilder(tokenizer, Prompts(), 10_000)


def test_a_template_of_ones_own(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("Q: {{ messages[0].content }}\n{% if add_generation_prompt %}A:{% endif %}")
    for tokenizers_own in (None, CHAT_TEMPLATE, "{% broken"):
        assert prompt(tokenizers_own, template=file).startswith("Q: Why?\n\nPlease")
        assert prompt(tokenizers_own, template=file).endswith(".\nA:")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))  # an editor's
    assert prompt(None, template=file).startswith("Q: Why?\n\nPlease")
    assert prompt(None, template=file).endswith(".\nA:")
    file.write_text("{{ oops")
    with pytest.raises(TemplateError, match=rf"^prompts.template {file} cannot be read as Jinja"):
        builder(CHAT_TEMPLATE, template=file)
    with pytest.raises(
        SettingsError, match="prompts.template .*none.jinja cannot be read: No such"
    ):
        builder(CHAT_TEMPLATE, template=tmp_path / "none.jinja")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read: it is not UTF-8 text"):
        builder(CHAT_TEMPLATE, template=file)


def test_a_row_that_its_template_refuses_is_named():
    picky = "{% if 'tool' in messages[0].content %}{{ raise_exception('No tools') }}{% endif %}"
    prompts = builder(picky + CHAT_TEMPLATE)
    example = Example("a", "Why?", "It is the tool.", None, "set.jsonl:7")
    for use in (prompts.check, prompts.contexts):
        with pytest.raises(
            DataError, match=r"^set\.jsonl:7: The chat template .*: TemplateError: No tools\. "
        ):
            use(example)
