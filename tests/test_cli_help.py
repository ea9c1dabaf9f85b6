"""Help: whole sentences in 80 columns, and what is asked for in other words."""

import subprocess
import sys

import pytest

from purified_opsd import __version__
from purified_opsd.cli.main import COMMANDS


@pytest.fixture
def help_of(command, monkeypatch):
    """The help of a command in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(*words):
        code, output, errors = command(*words, "--help")
        assert code == 0, errors
        return output

    return show


def entries(output):
    """The texts in the boxes of a help page: an entry begins where its name stands."""
    found = []
    for line in output.splitlines():
        inside = line.removeprefix("│").removesuffix("│")
        if inside == line or not inside.strip():
            continue
        name, _, text = inside.strip(" *").partition("  ")
        if inside.startswith(("  " * 6,)) and found:
            found[-1] += f" {inside.strip()}"
        elif text:
            found.append(text.strip())
        else:
            found.append(name)
    return found


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_whole_sentences_in_80_columns(help_of, name):
    output = help_of(*filter(None, [name]))
    assert max(map(len, output.splitlines())) <= 80
    assert "…" not in output
    assert "..." not in output.replace("ARGS...", "").replace("STR...", "").replace("INT...", "")
    for summary in COMMANDS.values():
        assert summary[0].isupper()
        assert summary.endswith(".")
        if not name:
            assert f" {summary} " in output
    prose = output.partition("╭")[0].split("\n\n", 1)[1].strip()
    assert prose.endswith(".")
    for entry in entries(output) if name else []:
        assert "." in entry, f"no sentence: {entry}"


def test_train_names_what_is_set_most_often_and_where_the_rest_is(help_of):
    output = " ".join(help_of("train").split())
    for option in ("--optimizer.learning-rate", "--target teacher", "--sampling.max-new-tokens"):
        assert option in output
    assert "purified-opsd settings" in output


def test_each_command_shows_settings_that_it_takes(help_of):
    words = help_of("evaluate").replace("│", " ").split()
    assert "--benchmarks aime24 aime25 --runs 12" in " ".join(words)
    assert "--optimizer" not in help_of("evaluate")
    assert "--optimizer" not in help_of("prepare")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["help"], "Train a LoRA adapter."),
        (["help", "compare"], "Usage: purified-opsd compare"),
        (["-V"], __version__),
        (["version"], __version__),
    ],
)
def test_help_and_version_in_other_words(command, words, said):
    code, output, _ = command(*words)
    assert code == 0
    assert said in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evalute"], "Did you mean evaluate?"),
        (["setting"], "Did you mean settings?"),
        (["frobnicate"], "There is no command 'frobnicate'. `purified-opsd --help`"),
        (["help", "evalute"], "Did you mean evaluate?"),
        (["report", "x", "--ouput", "y.html"], "Did you mean --output?"),
        (["quickstart", "--step", "3"], "Did you mean --steps?"),
        (["settings", "--markdwn"], "Did you mean --markdown?"),
    ],
)
def test_a_slip_names_the_nearest(command, words, said):
    code, _, errors = command(*words)
    assert code == 2
    assert said in errors
    assert errors.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    run = [sys.executable, "-m", "purified_opsd.cli", "settings"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait() == 141
    assert errors == b""
