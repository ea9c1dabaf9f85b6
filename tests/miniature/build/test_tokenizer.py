"""Text comes back from its ids as it went in, in every context, and the chat template is what
training saw.
"""

import pytest
import transformers

from purified_opsd.data.prompts import BASE_TEMPLATE, REFERENCE_TEMPLATE, TEACHER_TEMPLATE
from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import Split


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_documents_come_back_as_they_went_in(tokenizer, documents):
    for text in (text for document in documents for text in (document.prompt, document.completion)):
        encoded = ids(tokenizer, text)
        assert tokenizer.unk_token_id not in encoded
        assert tokenizer.decode(encoded) == text


@pytest.mark.parametrize("context", [BASE_TEMPLATE, TEACHER_TEMPLATE, REFERENCE_TEMPLATE])
@pytest.mark.parametrize("shown", ["solution", "answer"])
def test_every_context_of_every_row_comes_back_as_it_went_in(tokenizer, context, shown):
    for row in draw_rows(Split.DISTILLATION, seed=0, count=100):
        text = context.format(problem=row["problem"], reference=row[shown])
        encoded = ids(tokenizer, text)
        assert tokenizer.unk_token_id not in encoded
        assert tokenizer.decode(encoded) == text


def test_constant_sentences_are_one_token_each(tokenizer):
    row = draw_rows(Split.DISTILLATION, seed=0, count=1)[0]
    assert len(ids(tokenizer, BASE_TEMPLATE.format(problem=row["problem"]))) == 11
    assert len(ids(tokenizer, REFERENCE_TEMPLATE.format(reference=""))) == 3


def test_the_template_writes_one_user_turn_and_opens_the_answer(tokenizer):
    turn = [{"role": "user", "content": "Try 3"}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>Try 3<|assistant|>"
    assert text == tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, tokenize=False, enable_thinking=True
    )
    answered = [*turn, {"role": "assistant", "content": "So 3"}]
    assert (
        tokenizer.apply_chat_template(answered, tokenize=False)
        == "<|user|>Try 3<|assistant|>So 3<|end|>"
    )


def test_the_template_refuses_a_role_it_was_never_trained_on(tokenizer):
    with pytest.raises(Exception, match="user and assistant turns only, got role system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Try 3"}], tokenize=False)


def test_padding_and_end_differ_and_text_cannot_be_confused_with_them(tokenizer):
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3
    assert (
        tokenizer.decode(
            [tokenizer.eos_token_id, *ids(tokenizer, "So 3")], skip_special_tokens=True
        )
        == "So 3"
    )


def test_foreign_text_is_unknown_and_no_error(tokenizer):
    encoded = ids(tokenizer, "What is ∫ 130 dx?")
    assert tokenizer.unk_token_id in encoded


def test_a_saved_tokenizer_loads_as_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = BASE_TEMPLATE.format(problem=draw_rows(Split.BASE, seed=0, count=1)[0]["problem"])
    assert ids(loaded, text) == ids(tokenizer, text)
    assert loaded.decode(ids(loaded, text)) == text
    assert (loaded.pad_token_id, loaded.eos_token_id) == (
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
    )
    assert loaded.chat_template == tokenizer.chat_template
