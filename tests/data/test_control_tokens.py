"""Text of a row is text: it never becomes a control token, under any template and tokenizer."""

from collections import Counter

import pytest

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import DataError, TemplateError

from .tokenizers_of_families import CHATML, DEEPSEEK, byte_level, families

FAMILIES = families()
CONTROL = {
    "qwen": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|fim_prefix|>"],
    "llama3": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "deepseek": ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<|EOT|>",
                 "<｜begin▁of▁sentence｜>"],
    "mistral": ["<s>", "</s>", "[INST]", "[/INST]"],
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "python": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
}  # fmt: skip
CASES = [(family, token) for family, tokens in CONTROL.items() for token in tokens]
HARMLESS = "Zq"
SURROUNDINGS = ["{}", "a {} b", "a{}b", "`{}`", '"{}"', "'{}'", "{0}{0}", "<{}>", "x\n{}\ny", "{} "]


def builder(family: str, **settings) -> PromptBuilder:
    return PromptBuilder(FAMILIES[family], Prompts(**settings), room=10_000)


def control_ids(family: str, ids: list[int]) -> Counter[int]:
    known = set(FAMILIES[family].convert_tokens_to_ids(CONTROL[family]))
    return Counter(id for id in ids if id in known)


def text_of(family: str, ids: list[int]) -> str:
    return FAMILIES[family].decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(("family", "token"), CASES)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_a_control_token_in_a_problem_is_text(family, token, surrounding):
    prompts = builder(family)
    text = surrounding.format(token)
    harmless, ids = prompts.base_context(HARMLESS), prompts.base_context(text)
    assert control_ids(family, ids) == control_ids(family, harmless)
    assert text_of(family, ids) == text_of(family, harmless).replace(HARMLESS, text)
    assert prompts.spells_control(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_context_holds_the_words_and_no_more_turns(family):
    prompts = builder(family)
    token, other = CONTROL[family][:2]
    example = Example("a", f"What is {token}?", f"It is `{other}`, \\boxed{{2}}", "2", "set:1")
    plain = Example("a", "What is it?", "It is here, \\boxed{2}", "2", "set:1")
    made, usual = prompts.contexts(example), prompts.contexts(plain)
    for ids, usual_ids in zip(made[:3], usual[:3], strict=True):
        assert control_ids(family, ids) == control_ids(family, usual_ids)
    assert example.problem in text_of(family, made.base)
    assert example.reference in text_of(family, made.reference)
    assert example.problem in text_of(family, made.teacher)
    assert example.reference in text_of(family, made.teacher)


@pytest.mark.parametrize("family", FAMILIES)
def test_ordinary_texts_are_tokenized_as_the_library_does(family):
    tokenizer = FAMILIES[family]
    text = "What is  1 < 2?\n\n    indented | [x] <b> \\[ y \\] </think> {{ 1 + 1 }} {% if %}"
    turn = {"role": "user", "content": Prompts().format_strings[0].format(problem=text)}
    library = tokenizer.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert builder(family).base_context(text) == library
    assert not builder(family).spells_control(text)


@pytest.mark.parametrize("family", ["qwen", "deepseek"])
def test_thinking_marks_stay_what_the_tokenizer_makes_of_them(family):
    tokenizer = FAMILIES[family]
    prompts = builder(family)
    opening, closing = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    usual = prompts.base_context("Hm, so.")
    for text in ("<think>Hm,</think> so.", "<think>Hm, <|EOT|><|im_end|></think> so."):
        ids = prompts.base_context(text)
        assert ids.count(opening) == usual.count(opening) + 1
        assert ids.count(closing) == usual.count(closing) + 1
    assert not prompts.spells_control("<think>Hm,</think> so.")


def test_a_mark_that_only_the_template_completes_is_cut_too():
    template = CHATML.replace("{{ m.content }}", "{{ m.content }}nd|>")
    template = template.replace("<|im_end|>", "<|im_start|>")
    tokenizer = byte_level(template, ["<|im_start|>", "<|end|>"], eos_token="<|end|>")
    wording = "{instruction} {problem}"
    prompts = PromptBuilder(tokenizer, Prompts(base=wording), room=10_000)
    ids = prompts.base_context("What <|e")
    assert tokenizer.convert_tokens_to_ids("<|end|>") not in ids
    assert "What <|end|>" in tokenizer.decode(ids)


def test_the_beginning_of_sequence_is_the_templates_alone():
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}"
    tokenizer = byte_level(
        template + "{% if add_generation_prompt %}Answer:{% endif %}",
        ["<|begin_of_text|>", "<|eot_id|>"],
        bos_token="<|begin_of_text|>",
    )
    ids = PromptBuilder(tokenizer, Prompts(), 10_000).base_context("<|begin_of_text|>Hi")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids).startswith("<|begin_of_text|><|begin_of_text|>Hi")


def test_a_system_prompt_and_an_instruction_are_text_too():
    settings = Prompts(system="Be <|im_end|> brief.", instruction="End with <|endoftext|>.")
    prompts = PromptBuilder(FAMILIES["qwen"], settings, room=10_000)
    ids = prompts.base_context("Why?")
    usual = PromptBuilder(FAMILIES["qwen"], Prompts(system="Be brief."), room=10_000)
    assert control_ids("qwen", ids) == control_ids("qwen", usual.base_context("Why?"))
    assert "Be <|im_end|> brief." in text_of("qwen", ids)
    assert "End with <|endoftext|>." in text_of("qwen", ids)


def test_a_reference_with_marks_is_cut_to_fit_and_stays_text():
    prompts = PromptBuilder(FAMILIES["qwen"], Prompts(), room=700)
    contexts = prompts.contexts(Example("a", "Why?", "So <|im_end|> " * 100, None, "set:1"))
    assert contexts.cut
    assert len(contexts.teacher) <= 700
    usual = prompts.base_context("Why?")
    assert control_ids("qwen", contexts.teacher) == control_ids("qwen", usual)


def test_a_control_token_of_one_character_cannot_be_text():
    tokenizer = byte_level(CHATML, ["<|im_start|>", "<|im_end|>", "§"], eos_token="<|im_end|>")
    prompts = PromptBuilder(tokenizer, Prompts(), room=10_000)
    example = Example("a", "What is § 5?", "It is this.", None, "set.jsonl:7")
    with pytest.raises(TemplateError, match="makes a control token of the text 'What is § 5"):
        prompts.base_context(example.problem)
    with pytest.raises(DataError, match=r"^set\.jsonl:7: .* Mend the row, or leave it out\.$"):
        prompts.contexts(example)


def test_a_template_that_changes_what_a_row_says_names_the_row():
    """DeepSeek's way with its own earlier answers, done to the user's words."""
    template = DEEPSEEK.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    tokenizer = byte_level(template, ["<｜User｜>", "<｜Assistant｜>"], eos_token="<｜User｜>")
    prompts = PromptBuilder(tokenizer, Prompts(), room=10_000)
    example = Example("a", "Why?", "<think>Hm.</think>So.", None, "set.jsonl:7")
    with pytest.raises(DataError, match=r"^set\.jsonl:7: .* changes a text: 'Why\?' is not in"):
        prompts.check(example)
