"""A tokenizer with more tokens than the model has rows: refused where such a token can occur."""

import logging
import shutil

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model

from .folders import edit_json

ROWS = 260


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def add(folder, *tokens: AddedToken, template: str | None = None) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens))
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def load(folder):
    model = Model(str(folder))
    return load_policy(model, LoRA(4, 8), load_tokenizer(model), 0, torch.device("cpu"))


def test_a_token_of_text_without_a_row_is_refused_before_the_weights(folder):
    add(folder, AddedToken("<think>"), AddedToken("</think>"))
    (folder / "model.safetensors").write_bytes(b"")  # they would be refused, too
    with pytest.raises(ModelError) as caught:
        load(folder)
    message = str(caught.value)
    assert f"has {ROWS + 2} tokens, up to id {ROWS + 1}, and the embedding of" in (message)
    assert f"'<think>' ({ROWS}), '</think>' ({ROWS + 1}) can occur in a prompt" in message


def test_a_token_that_the_template_writes_is_refused(folder):
    template = "{% for m in messages %}<|turn|>{{ m.content }}{% endfor %}<|assistant|>"
    add(folder, AddedToken("<|turn|>", special=True), template=template)
    with pytest.raises(ModelError, match=r"'<\|turn\|>' \(260\) can occur in a prompt"):
        load(folder)


def test_a_token_that_nothing_writes_is_a_warning(folder, caplog):
    add(folder, AddedToken("[PAD]", special=True), AddedToken("<|unused|>", special=True))
    with caplog.at_level(logging.WARNING):
        policy = load(folder)
    assert "'[PAD]' (260), '<|unused|>' (261) cannot be read by it" in caplog.text
    assert len(policy.tokenizer) == ROWS + 2


def test_an_embedding_with_rows_to_spare_is_no_ones_concern(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load(folder)
    assert caplog.text == ""


def test_a_tokenizer_of_another_model_is_said_to_be_one(folder, caplog):
    edit_json(folder / "config.json", bos_token_id=100)
    with caplog.at_level(logging.WARNING):
        load(folder)
    assert "names bos_token_id 100, which to its tokenizer is no special token" in caplog.text


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_the_commands_refuse_it(folder, settings, command, problems, name):
    add(folder, AddedToken("<think>"))
    words = {
        "train": ("train", settings, "--model", folder, "--output-dir", "run"),
        "evaluate": (
            *("evaluate", folder, "--benchmarks", problems, "--runs", 1),
            *("--sampling.max-new-tokens", 8),
        ),
    }
    code, _, errors = command(*words[name])
    assert code == 4
    assert f"has {ROWS + 1} tokens" in errors
    assert f"has {ROWS} rows" in errors
