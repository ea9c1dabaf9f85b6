"""docs/library.md: its blocks run as they stand, in order, and what they and the page say is so."""

import inspect
import json
import math
import re
from pathlib import Path

import pytest
import torch

import purified_opsd

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The names after every block has run, in one namespace and an empty folder; and a copy of the
    adapter's parameters from before and after the first step.
    """
    folder = tmp_path_factory.mktemp("notebook")
    values = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        for block in BLOCKS:
            exec(block, values)
            if "optimizer = " in block:
                values["after_one_step"] = values["policy"].adapter_fingerprint()
                values["first_loss"] = values["loss"].item()
            elif "load_policy(" in block:
                values["untrained"] = values["policy"].adapter_fingerprint()
                values["base_before"] = values["policy"].fingerprint()
    return folder, values


def test_no_block_is_long():
    lengths = [len([line for line in block.splitlines() if line.strip()]) for block in BLOCKS]
    assert max(lengths) <= 14
    assert sum(length > 12 for length in lengths) <= 1


def test_the_completions_are_reasoning_about_the_questions(notebook):
    _, values = notebook
    assert len(values["texts"]) == 8
    assert any("\\boxed{" in text for text in values["texts"])
    assert values["markers"] > 3


def test_a_row_is_the_same_token_in_all_four(notebook):
    _, values = notebook
    N = sum(map(len, values["completions"]))
    assert {len(hidden) for hidden in values["hidden"].values()} == {N}
    assert values["student"].requires_grad
    assert not any(states.requires_grad for states in values["contexts"].values())


def test_the_weights_sum_to_one_and_the_loss_is_a_jsd(notebook):
    _, values = notebook
    assert values["weights"].sum().item() == pytest.approx(1)
    assert len(values["losses"]) == 3
    assert all(0 < loss < math.log(2) for loss in [values["first_loss"], *values["losses"]])


def test_a_step_moves_the_adapter_and_nothing_else(notebook):
    _, values = notebook
    policy = values["policy"]
    digests = {values["untrained"], values["after_one_step"], policy.adapter_fingerprint()}
    assert len(digests) == 3
    assert policy.fingerprint() == values["base_before"]
    assert not policy.head.weight.requires_grad


def test_the_loss_is_that_of_the_full_logits(notebook):
    _, values = notebook
    assert values["same"].item() == pytest.approx(values["first_loss"], rel=1e-3)


def test_the_pull_points_where_the_page_says(notebook):
    _, values = notebook
    for name, tolerance in (("cos_ref", 0.06), ("cos_it", 0.15), ("size_ref", 0.3)):
        (said,) = re.findall(rf"^{name} = .*# about (-?[\d.]+)$", TEXT, re.MULTILINE)
        assert values[name] == pytest.approx(float(said), abs=tolerance)


def test_the_teacher_goes_with_the_reference_and_the_target_with_the_base(notebook):
    _, values = notebook
    doubted = values["doubted"]
    assert len(values["readouts"]) == len(values["completions"][0])
    assert doubted.numbers["jsd_teacher"] > 10 * doubted.numbers["jsd_target"]
    likeliest = {name: entries[0] for name, entries in doubted.top.items()}
    assert likeliest["teacher"][0] == likeliest["reference"][0] != likeliest["base"][0]
    assert likeliest["teacher"][1] > 0.8
    assert likeliest["target"][0] == likeliest["base"][0]
    said = [line.split(":")[0].strip() for line in TEXT.splitlines() if "' 0." in line]
    assert said == list(doubted.top)


def test_the_answer_is_graded_as_mathematics(notebook):
    assert notebook[1]["grade"].verdict == "correct"


def test_the_adapter_is_in_pefts_format(notebook):
    folder, _ = notebook
    assert (folder / "my_adapter" / "adapter_model.safetensors").exists()
    config = json.loads((folder / "my_adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16)


def test_every_public_name_is_used_on_the_page_or_is_one_of_another_choice():
    """The other divergences, averagings and the whole run are values like those that are shown."""
    elsewhere = {"ForwardKL", "ReverseKL", "TokenMean", "resume_run"}
    missing = {name for name in purified_opsd.__all__ if not re.search(rf"\b{name}\b", TEXT)}
    assert missing == elsewhere


# What a docstring has to say of each name, beside what it is.
TENSORS = {
    "chunked_loss", "loss_from_logits", "PMITarget", "TeacherTarget", "JSD", "ForwardKL",
    "ReverseKL", "SequenceMean", "TokenMean", "token_weights", "decompose", "alignment",
    "norm_fraction", "completion_hidden", "read_tokens",
}  # fmt: skip
RAISES = {
    "chunked_loss", "loss_from_logits", "PMITarget", "JSD", "LoRA", "Sampling", "PromptBuilder",
    "load_policy", "load_examples", "read_tokens", "start_run", "resume_run", "evaluate",
    "TrainingConfig", "completion_hidden",
}  # fmt: skip
SOURCES = r"Eqs?\. |Section |Figs?\. |arXiv|PEFT|Hugging Face|docs/|upstream|paper|Kim et al"


@pytest.mark.parametrize("name", purified_opsd.__all__)
def test_a_docstring_says_what_shapes_errors_and_source(name):
    thing = getattr(purified_opsd, name)
    text = inspect.cleandoc(thing.__doc__ or "")
    assert text.endswith((".", ":"))
    assert not text.startswith(f"{name}(")  # dataclasses write that one themselves
    assert re.search(SOURCES, text), text
    if name in TENSORS:
        assert re.search(r"\[[BNVD]", text), text
    if name in RAISES:
        assert "Raises" in text, text
