"""The shipped weights: they load as any Hugging Face model, they answer, and their card tells the
truth about them.
"""

import json
import math

import pytest
import torch
import transformers

from purified_opsd import miniature
from purified_opsd.miniature.build.measurement import NO_MARKERS, CardSampling, complete, measure
from purified_opsd.miniature.build.reflection import reflect
from purified_opsd.miniature.build.tokenizer import build_tokenizer
from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import Split, problems

FRESH_SEED = 1  # other questions and other draws than the card's


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(miniature.BASE)


@pytest.fixture(scope="module")
def base():
    return transformers.AutoModelForCausalLM.from_pretrained(
        miniature.BASE, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def card():
    return json.loads((miniature.BASE / "card.json").read_text())


def line(card, context, manner="free"):
    key = {"context": context, "temperature": 1.0, "manner": manner}
    return next(m for m in card["measurements"] if key.items() <= m.items())


def test_the_folder_is_small_and_holds_what_loading_needs():
    files = {file.name: file.stat().st_size for file in miniature.BASE.iterdir()}
    assert sum(files.values()) < 6e6
    assert files.keys() >= {
        "CARD.md",
        "card.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(tokenizer):
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert tokenizer.chat_template == build_tokenizer().chat_template


def test_the_base_is_an_ordinary_qwen3_in_finite_float32(base, card):
    assert base.config.model_type == "qwen3"
    assert {parameter.dtype for parameter in base.parameters()} == {torch.float32}
    assert all(parameter.isfinite().all() for parameter in base.parameters())
    assert base.num_parameters() == card["parameters"]


def test_sampling_settings_cut_nothing_off(base, tokenizer):
    settings = base.generation_config
    assert (settings.do_sample, settings.temperature, settings.top_k, settings.top_p) == (
        True,
        1.0,
        0,
        1.0,
    )
    assert (settings.eos_token_id, settings.pad_token_id) == (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )


@pytest.mark.parametrize(("context", "count"), [("base", 48), ("teacher", 32), ("reference", 24)])
def test_the_card_agrees_with_a_fresh_measurement(base, tokenizer, card, context, count):
    carded = line(card, context)
    fresh = measure(
        base,
        tokenizer,
        draw_rows(Split.EVALUATION, FRESH_SEED, count),
        context,
        CardSampling(1.0, seed=FRESH_SEED),
    )
    error = math.hypot(
        carded["standard_error"], math.sqrt(carded["accuracy"] * (1 - carded["accuracy"]) / count)
    )
    assert abs(fresh.accuracy - carded["accuracy"]) < 3.5 * error


def test_the_card_leaves_room_both_ways(card):
    base, teacher = line(card, "base"), line(card, "teacher")
    assert 0.5 <= base["accuracy"] <= 0.8
    assert teacher["accuracy"] - base["accuracy"] >= 0.15
    assert base["ended"] > 0.6
    assert base["markers"] > 2 * teacher["markers"]


def test_losing_checks_costs_accuracy(card):
    free, curbed = line(card, "base"), line(card, "base", "no checks")
    error = math.hypot(free["standard_error"], curbed["standard_error"])
    assert free["accuracy"] - curbed["accuracy"] > 2 * error


def test_retries_find_what_the_first_try_missed(card):
    free = line(card, "base")
    assert free["accuracy"] > 2 * free["right_at_first"]


def test_the_shipped_training_set_is_the_whole_split_for_distillation():
    shipped = [json.loads(line) for line in miniature.TRAINING_SET.read_text().splitlines()]
    assert shipped == draw_rows(Split.DISTILLATION, 0, len(problems(Split.DISTILLATION)))


def test_completions_are_a_function_of_the_seed(base, tokenizer):
    prompts = [row["problem"] for row in draw_rows(Split.EVALUATION, FRESH_SEED, 4)]
    short = CardSampling(1.0, new_tokens=12, seed=3)
    assert list(complete(base, tokenizer, prompts, short)) == list(
        complete(base, tokenizer, prompts, short)
    )
    other = CardSampling(1.0, new_tokens=12, seed=4)
    assert list(complete(base, tokenizer, prompts, short)) != list(
        complete(base, tokenizer, prompts, other)
    )


def test_forbidden_markers_are_not_written(base, tokenizer):
    prompts = [row["problem"] for row in draw_rows(Split.EVALUATION, FRESH_SEED, 8)]
    bare = complete(base, tokenizer, prompts, CardSampling(1.0, new_tokens=40, manner=NO_MARKERS))
    assert sum(reflect(completion.text).markers for completion in bare) == 0
