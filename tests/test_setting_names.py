"""What a mistaken setting, kind or command is answered with; every way out is tried."""

import re

import pytest

from purified_opsd.errors import SettingsError
from purified_opsd.evaluation.config import EvaluationConfig
from purified_opsd.planning.estimate import GPUS, find_gpu
from purified_opsd.recipes import RECIPES, find_recipe
from purified_opsd.settings.build import build, override
from purified_opsd.settings.classes import all_kinds, all_names, sections_of
from purified_opsd.settings.names_elsewhere import (
    KINDS_ELSEWHERE,
    SECTIONS_ELSEWHERE,
    SETTINGS_ELSEWHERE,
)
from purified_opsd.training.config import TrainingConfig

BARE = {"model": "some/model", "data": "file.jsonl", "output_dir": "runs/x"}
NEEDED = {"vllm-server": ("--sampler.urls", "http://a:1")}
"""What a kind cannot do without."""


def config_with(*words):
    return build(TrainingConfig, override(TrainingConfig, BARE, words))


def refusal(*words, cls=TrainingConfig, start=BARE):
    with pytest.raises(SettingsError) as caught:
        build(cls, override(cls, start, words))
    return str(caught.value)


def test_what_other_trainers_say_leads_to_settings_that_exist():
    names = set(all_names(TrainingConfig))
    kinds = {kind for _, kind, _ in all_kinds(TrainingConfig)}
    for elsewhere, here in SETTINGS_ELSEWHERE.items():
        assert elsewhere not in names
        assert here.settings or here.remark
        assert set(here.settings) <= names, elsewhere
        for named in re.findall(r"\b[a-z]+\.[a-z_]+\b", here.remark):
            assert named in names | {"metrics.jsonl"}, elsewhere
    assert set(KINDS_ELSEWHERE.values()) <= kinds
    assert not set(KINDS_ELSEWHERE) & kinds
    assert set(SECTIONS_ELSEWHERE) <= set(sections_of(TrainingConfig))


@pytest.mark.parametrize("elsewhere", list(SETTINGS_ELSEWHERE))
def test_each_is_answered_with_the_setting_here_or_with_why_there_is_none(elsewhere):
    here = SETTINGS_ELSEWHERE[elsewhere]
    said = refusal(f"--{elsewhere.replace('_', '-')}", "1")
    assert said.startswith(f"There is no setting {elsewhere}.")
    assert here.remark in said
    for setting in here.settings:
        assert f"{setting} (--{setting.replace('_', '-')})" in said


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (("--lr", "1e-4"), "optimizer.learning_rate"),
        (("--optimizer.lr", "1e-4"), "optimizer.learning_rate"),
        (("--learning-rate", "1e-4"), "optimizer.learning_rate"),
        (("--beta", "2"), "target.beta"),
        (("--temperature", "1"), "sampling.temperature"),
        (("--adapter.r", "8"), "adapter.rank"),
        (("--lora_r", "8"), "adapter.rank"),
        (("--gradient-checkpointing", "true"), "model.gradient_checkpointing"),
        (("--max-prompt-length", "2000"), "prompts.max_tokens"),
        (("--batchsize", "8"), "batch_size"),
        (("--sampling.max-tokens", "8"), "prompts.max_tokens"),
        (("--optimizer.learning-rat", "1e-4"), "optimizer.learning_rate"),
    ],
)
def test_a_suggested_setting_takes_the_value(words, suggested):
    said = refusal(*words)
    [option] = re.findall(rf"Did you mean .*{re.escape(suggested)} \((--\S+)\)", said)
    config_with(option, words[1])
    assert "All settings" not in said


@pytest.mark.parametrize(
    ("section", "kind", "suggested"),
    [
        ("target", "kl", "--divergence forward-kl"),
        ("target", "forward-kl", "--divergence forward-kl"),
        ("target", "jsd", "--divergence jsd"),
        ("target", "standard", "--target teacher"),
        ("target", "opsd", "--target teacher"),
        ("target", "purified", "--target pmi"),
        ("target", "opsd-pmi", "--target pmi"),
        ("target", "pmii", None),
        ("divergence", "kl", "--divergence forward-kl"),
        ("divergence", "reverse_kl", "--divergence reverse-kl"),
        ("divergence", "RKL", "--divergence reverse-kl"),
        ("divergence", "teacher", "--target teacher"),
        ("sharding", "fsdp", "--sharding fsdp2"),
        ("sharding", "ddp", "--sharding replicated"),
        ("schedule", "cosine-with-warmup", "--schedule cosine"),
        ("schedule", "cosine_with_warmup", "--schedule cosine"),
        ("kernels", "torch-compile", "--kernels compiled"),
        ("averaging", "token", "--averaging token-mean"),
        ("sampler", "server", "--sampler vllm-server"),
        ("sampler", "transformers", "--sampler hf"),
    ],
)
def test_a_suggested_kind_is_taken(section, kind, suggested):
    said = refusal(f"--{section}", kind)
    assert f"{section}.kind must be one of " in said
    assert f"got {kind!r}. Did you mean " in said
    if suggested:
        assert suggested in said
        option, word = suggested.split()
        config_with(f"{option}.kind", word, *NEEDED.get(word, ()))


@pytest.mark.parametrize(
    "words",
    [
        ("--prompts.zzz", "x"),
        ("--prompts.wording_file_of_mine", "x"),
        ("--num-workers", "4"),
        ("--zzzz", "1"),
        ("--model.hidden", "4"),
    ],
)
def test_nothing_is_suggested_where_nothing_is_near(words):
    said = refusal(*words)
    assert "Did you mean" not in said
    assert "ettings" in said
    assert "`purified-opsd settings` says what they mean." in said


def test_a_template_is_not_taken_for_a_number_of_tokens():
    said = refusal("--prompts.chat-template", "x.jinja")
    assert "Did you mean prompts.template (--prompts.template)?" in said
    assert "max_tokens" not in said


@pytest.mark.parametrize("word", ["null", "none", "full", "ia3", "lora"])
def test_only_lora_is_trained_and_the_way_out_works(word):
    said = refusal("--adapter", word)
    assert "adapter is always LoRA" in said or "it is always LoRA" in said
    assert "Only LoRA is trained" in said
    assert "adapter.targets all-linear" in said
    assert config_with("--adapter.targets", "all-linear").adapter.targets == ("all-linear",)


def test_a_setting_of_another_kind_names_that_kind():
    said = refusal("--sampler.urls", "http://a:1")
    assert said == (
        "There is no setting sampler.urls. It belongs to sampler.kind vllm-server: give "
        "--sampler.kind vllm-server too."
    )
    config_with("--sampler.kind", "vllm-server", "--sampler.urls", "http://a:1")
    assert "belongs to target.kind pmi" in refusal("--target.kind", "teacher", "--target.clip", "5")


def test_one_dash_is_not_two():
    assert refusal("-steps", "4") == "-steps has one dash, and settings have two: --steps."
    assert "-lr has one dash" in refusal("--steps", "4", "-lr", "3")
    assert config_with("--seed", "-3").seed == -3


def test_settings_of_an_evaluation_are_suggested_without_those_of_a_run():
    said = refusal("--temperature", "1", cls=EvaluationConfig, start={})
    assert "Did you mean sampling.temperature (--sampling.temperature)?" in said
    assert "optimizer" not in refusal("--lr", "1", cls=EvaluationConfig, start={})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("h100", "h100-80gb"),
        ("H100", "h100-80gb"),
        ("nvidia-h100-sxm", "h100-80gb"),
        ("a100", "a100-80gb or a100-40gb"),
        ("4090", "rtx4090-24gb"),
        ("rtx_4090", "rtx4090-24gb"),
        ("h10-80gb", "h100-80gb"),
    ],
)
def test_a_gpu_is_known_by_a_part_of_its_name(name, meant):
    with pytest.raises(SettingsError, match=f"no GPU {name} .*Did you mean {meant}\\?"):
        find_gpu(name)
    for known in meant.split(" or "):
        assert find_gpu(known) == GPUS[known]


def test_a_gpu_that_nothing_is_like():
    with pytest.raises(SettingsError) as caught:
        find_gpu("v100")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("qwen3-8b.mathcot.pmi", "qwen3-8b.math-cot.pmi"),
        ("Qwen3-8B.dasd.pmi", "qwen3-8b.dasd.pmi"),
        ("miniature", "miniature.pmi or miniature.standard"),
        ("qwen3-8b.openthoughts", "qwen3-8b.openthoughts.upstream"),
    ],
)
def test_a_recipe_is_known_by_a_part_of_its_name(name, meant):
    with pytest.raises(SettingsError, match=f"Did you mean {meant}\\?"):
        find_recipe(name)
    for known in meant.split(" or "):
        assert find_recipe(known) == RECIPES[known]


def test_a_recipe_that_nothing_is_like():
    with pytest.raises(SettingsError) as caught:
        find_recipe("llama-70b")
    assert "Did you mean" not in str(caught.value)
