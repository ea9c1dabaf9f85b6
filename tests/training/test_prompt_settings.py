"""Templates, wording and control tokens in a run: checked first, recorded, and kept to."""

import json
import shutil

import pytest
import yaml

from ..conftest import CHAT_TEMPLATE, PROBLEMS

OWN = "Q: {{ messages[-1].content }}\n{% if add_generation_prompt %}A:{% endif %}"


def read(run, name):
    return json.loads((run / name).read_text())


@pytest.fixture
def own_template(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(OWN)
    return file


@pytest.fixture
def run(command, settings, own_template, tmp_path):
    """A run with a template, named by a relative path, and a wording of its own."""
    words = ("--prompts.template", own_template.name, "--prompts.instruction=--\nIn one word.")
    code, _, errors = command("train", settings, *words)
    assert code == 0, errors
    return tmp_path / "runs/my_run"


def test_a_run_keeps_its_template_and_wording(command, run, own_template, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())["prompts"]
    assert config["template"] == str(own_template)
    assert config["instruction"] == "--\nIn one word."
    wording = read(run, "data.json")["wording"]
    assert wording != "0c1d4c4a3457cda3"
    # 1. Evaluation asks as the run did.
    words = ("--benchmarks", "countdown", "--limit", "1", "--runs", "1", "--step", "0")
    code, _, errors = command("evaluate", run, *words, "--sampling.max-new-tokens", "4")
    assert code == 0, errors
    assert read(run, "evaluation/countdown/base/settings.json")["wording"] == wording
    code, _, errors = command("evaluate", run, *words, "--prompts.system", "Be brief.")
    assert code == 2
    assert "is asked with the prompts it was trained on. Leave --prompts out" in errors
    # 2. The same words in another place are the same run.
    moved = tmp_path / "moved.jinja"
    own_template.rename(moved)
    code, _, errors = command("resume", run, "--steps", "3")
    assert code == 2
    assert f"The chat template prompts.template {own_template} cannot be read: No such" in errors
    code, _, errors = command("resume", run, "--steps", "3", "--prompts.template", moved)
    assert code == 0, errors
    # 3. Other words are another.
    moved.write_text(OWN.replace("Q:", "Question:"))
    code, _, errors = command("resume", run, "--steps", "4")
    assert code == 3
    assert "the run was made with prompts.chat_template=" in errors
    assert f"prompts.wording={wording}, and" in errors


def test_a_run_from_before_there_were_such_settings_goes_on(command, settings, tmp_path):
    code, _, errors = command("train", settings)
    assert code == 0, errors
    file = tmp_path / "runs/my_run/config.yaml"
    config = yaml.safe_load(file.read_text())
    config["prompts"] = {
        name: config["prompts"][name] for name in ("thinking", "max_tokens", "long_reference")
    }
    file.write_text(yaml.safe_dump(config))
    record = read(file.parent, "checkpoints/step-000002/state.json")["settings"]
    assert record["prompts.wording"] == "0c1d4c4a3457cda3"
    assert record["prompts.thinking"] == "true"
    code, _, errors = command("resume", file.parent, "--steps", "3")
    assert code == 0, errors


@pytest.mark.parametrize(
    ("file", "before", "after", "says"),
    [
        ("chat_template.jinja", "<|assistant|>", "<|assistant|> ", "prompts.chat_template="),
        ("generation_config.json", '"eos_token_id": 1', '"eos_token_id": [1, 2]', "sampling.ends="),
    ],
)
def test_a_model_whose_files_ask_or_end_otherwise_is_another(
    command, settings, tiny_model, tmp_path, file, before, after, says
):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    own = model / file
    code, _, errors = command("train", settings, "--model.path", model)
    assert code == 0, errors
    assert before in own.read_text()
    own.write_text(own.read_text().replace(before, after, 1))
    code, _, errors = command("resume", tmp_path / "runs/my_run", "--steps", "3")
    assert code == 3, errors
    assert says in errors


@pytest.mark.parametrize(
    ("words", "expected", "says"),
    [
        (("--prompts.template", "bad.jinja"), 4, "prompts.template .*bad.jinja cannot be read as"),
        (("--prompts.template", "none.jinja"), 2, "none.jinja cannot be read: No such file"),
        (("--prompts.base", "Answer."), 2, "prompts.base must hold {problem} once each"),
        (
            ("--prompts.template", "picky.jinja"),
            3,
            "problems.jsonl:4: .*: No threes. Mend it.*Mend the row, or",
        ),
    ],
)
def test_mistakes_are_found_before_the_weights(
    command, settings, tiny_model, tmp_path, words, expected, says
):
    (tmp_path / "bad.jinja").write_text("{% for")
    (tmp_path / "picky.jinja").write_text(
        "{% if '3 + 4' in messages[0].content %}{{ raise_exception('No threes') }}{% endif %}" + OWN
    )
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    code, _, errors = command("train", settings, "--model.path", broken, *words)
    assert code == expected, errors
    assert "Traceback" not in errors
    text = " ".join(errors.split())
    assert all(part in text for part in says.split(".*")), text
    assert not (tmp_path / "runs").exists()


def test_rows_that_spell_control_tokens_are_counted(command, settings, problems, tmp_path):
    rows = [dict(row) for row in PROBLEMS]
    rows[0]["problem"] += " Not `<|end|>`."
    rows[1]["solution"] += "<|user|>"
    rows[2]["solution"] += "<think>"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, output, errors = command("train", settings, "--batch-size", "6")
    assert code == 0, errors
    assert "2 of 6 rows spell a control token, such as <|im_end|>: in their prompts" in output
    assert read(tmp_path / "runs/my_run", "data.json")["control_text"] == 2


def test_a_dated_template_is_remarked_on(command, settings, tmp_path):
    (tmp_path / "dated.jinja").write_text("{{ strftime_now('%Y') }}" + CHAT_TEMPLATE)
    words = ("--prompts.template", "dated.jinja", "--prompts.date", "2026-03-04", "--steps", "1")
    code, output, errors = command("train", settings, *words, "--prompts.thinking", "false")
    assert code == 0, errors
    assert "dated.jinja can print the date: prompts.date tells it 2026-03-04" in output
    assert "knows no flag for thinking" in output


def test_a_model_that_is_no_run_is_asked_as_one_says(command, tiny_model, own_template, tmp_path):
    file = tmp_path / "marks.jsonl"
    file.write_text(json.dumps({"problem": "What is <|end|>?", "answer": "2"}) + "\n")
    words = ("--runs", "1", "--sampling.max-new-tokens", "4", "--dtype", "float32")
    prompts = ("--prompts.template", own_template, "--prompts.system", "Be brief.")
    command_words = ("evaluate", tiny_model, "--benchmarks", file, *words)
    code, _, errors = command(*command_words, *prompts)
    assert code == 4
    assert "takes no system prompt, and prompts.system is set" in " ".join(errors.split())
    code, output, errors = command(*command_words, *prompts[:2])
    assert code == 0, errors
    assert "1 of 1 questions spell a control token" in output
    recorded = read(tmp_path, f"evaluations/{tiny_model.name}/marks/base/settings.json")
    assert recorded["wording"] != "0c1d4c4a3457cda3"
