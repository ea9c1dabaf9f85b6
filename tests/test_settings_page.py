"""The page of settings, the table of recipes and a recipe's YAML: made from the classes."""

from pathlib import Path

import pytest

from purified_opsd.recipes import RECIPES
from purified_opsd.settings.build import build, override
from purified_opsd.settings.classes import all_names, sections_of
from purified_opsd.settings.meanings import section_docs
from purified_opsd.settings.page import commented_yaml
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.training.config import TrainingConfig

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
SECTIONS = list(section_docs(TrainingConfig))
SETTINGS = {setting.name: setting for section in SECTIONS for setting in section.settings}
SOURCES = {"the paper", "upstream", "the models' cards", "ours"}


def test_every_setting_is_on_the_page_with_a_meaning_and_a_source():
    sections = {section.name for section in SECTIONS}
    assert set(SETTINGS) | sections - {""} == set(all_names(TrainingConfig))
    for setting in SETTINGS.values():
        assert setting.meaning.endswith("."), f"{setting.name} has no text under its field"
        assert setting.source in SOURCES or setting.default == "required", setting
    for section in SECTIONS:
        assert section.meaning, f"the class of {section.name} has no text"


@pytest.mark.parametrize(
    ("name", "kind", "default", "source"),
    [
        ("adapter.rank", "whole number", "64", "the paper"),
        ("adapter.alpha", "whole number", "128", "upstream"),
        ("optimizer.learning_rate", "number", "5e-06", "the paper"),
        ("target.clip", "number", "10", "the paper"),
        ("model.path", "text", "required", ""),
        ("model.dtype", "auto, bfloat16 or float32", "auto", "ours"),
        ("chunk_rows", "whole number or null", "null", "ours"),
        ("sampler.urls", "list of text", "required", ""),
        ("data.where", "section of text", "{}", "ours"),
        ("prompts.thinking", "true or false", "true", "ours"),
        ("evaluation.sampling.top_k", "whole number or null", "null", "ours"),
    ],
)
def test_type_default_and_source_are_in_the_users_words(name, kind, default, source):
    setting = SETTINGS[name]
    assert (setting.type, setting.default, setting.source) == (kind, default, source)


def test_a_default_on_the_page_is_the_default():
    bare = {"model": "m", "data": "d", "output_dir": "x"}
    for setting in SETTINGS.values():
        parent = setting.name.rpartition(".")[0]
        one_class = all(
            len(choices) == 1 for choices in _on_the_way(parent)
        )  # of the others, some are not in a run with the default kinds
        if setting.default in ("required", "[]", "{}") or not one_class:
            continue
        if parent.endswith("columns") or setting.default[0] == '"':  # null itself; long text
            continue
        words = (f"--{setting.name}", setting.default.strip("[]").replace(", ", ","))
        assert build(TrainingConfig, override(TrainingConfig, bare, words)) == build(
            TrainingConfig, bare
        ), setting.name


def _on_the_way(path):
    cls = TrainingConfig
    for name in filter(None, path.split(".")):
        choices = sections_of(cls)[name]
        yield choices
        cls = choices[0]


def test_the_page_is_what_the_command_prints(command):
    code, output, _ = command("settings", "--markdown")
    assert code == 0
    assert output == PAGE.read_text(encoding="utf-8")


def test_every_kind_is_shown_with_its_own_settings(command):
    code, output, _ = command("settings")
    assert code == 0
    assert "target: pmi, the default\n" in output
    assert "\ntarget: teacher\n" in output
    assert "sampler: vllm-server\n" in output
    assert max(map(len, output.splitlines())) <= 100


def test_a_section_or_a_setting_alone(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = command("settings", "evaluation")
    assert "evaluation.every = 0" in output
    assert "evaluation.sampling.preset = null" in output
    assert "optimizer" not in output
    assert max(map(len, output.splitlines())) <= 80
    _, output, _ = command("settings", "optimizer.max-grad-norm")
    assert output.startswith("optimizer\n")
    assert "optimizer.max_grad_norm = 0.1  (upstream)" in output
    assert "learning_rate" not in output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("optimiser", "no setting optimiser. Did you mean optimizer "),
        ("optimiser.learning_rate", "no setting optimiser. Did you mean optimizer "),
        ("lr", "no setting lr. Did you mean optimizer.learning_rate "),
        ("sampling.temp", "no setting sampling.temp. Did you mean sampling.temperature "),
        ("target.bet", "no setting target.bet. Did you mean target.beta "),
    ],
)
def test_an_unknown_section_names_the_nearest(command, name, said):
    code, _, errors = command("settings", name)
    assert code == 2
    assert said in errors
    suggested = errors.partition("Did you mean ")[2].partition(" ")[0]
    assert command("settings", suggested)[0] == 0


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_with_comments_loads_back_to_itself(tmp_path, name):
    text = commented_yaml(RECIPES[name], 100)
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    assert build(TrainingConfig, read_yaml(tmp_path / "run.yaml")) == RECIPES[name]
    assert all(len(line) <= 100 for line in text.splitlines() if line.lstrip().startswith("#"))


def test_a_recipe_says_what_its_settings_mean(command):
    code, output, _ = command("recipes", "qwen3-8b.dasd.standard")
    assert code == 0
    assert "  # Rank r of the two matrices.\n  rank: 64\n" in output
    assert "# Optimizer steps.\nsteps: 200\n" in output
    assert "Other kinds: pmi.\ntarget:\n  kind: teacher" in output.replace("\n# ", " ")
    assert "  where: {domain: math}\n" in output


def test_recipes_are_a_table(command):
    _, output, _ = command("recipes")
    header, *lines = output.splitlines()
    assert header.split() == ["recipe", "model", "data", "arm", "differs", "in"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[: len(RECIPES)]}
    assert set(rows) == set(RECIPES)
    assert rows["qwen3-8b.dasd.pmi"] == ["Qwen3-8B", "dasd", RECIPES["qwen3-8b.dasd.pmi"].arm]
    assert rows["qwen3-8b.math-cot.pmi-clip-5"][-2:] == ["target.clip", "5.0"]
    upstream = " ".join(rows["qwen3-8b.openthoughts.upstream"])
    assert upstream.endswith("divergence forward-kl, loss_temperature 1.1")
    assert rows["miniature.pmi"][0] == "miniature"
    assert "(" not in output  # no Python values
    assert "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B" in output
    assert "dasd: Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b, stage1, domain = " in output
