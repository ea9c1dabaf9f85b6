"""A grader of one's own: found by its Python path, asked for every answer, written down."""

import json
import sys

import pytest

from purified_opsd.errors import SettingsError
from purified_opsd.evaluation.benchmarks import load_benchmark, reload_benchmark
from purified_opsd.evaluation.graded_benchmarks import load_benchmarks
from purified_opsd.evaluation.grading.custom_grader import load_grader
from purified_opsd.evaluation.grading.graders import grade_all

MODULE = '''
from purified_opsd.evaluation.grading.graders import Grade

def says_gold(problem, gold, text):
    """Right where the gold answer stands anywhere."""
    return gold in text

def always(problem, gold, text):
    return True

def explains(problem, gold, text):
    return Grade("correct", "by hand", gold)

def raises(problem, gold, text):
    raise KeyError(text)

def scores(problem, gold, text):
    return 0.5

def takes_two(gold, text):
    return True

class Lengths:
    def __init__(self, least):
        self.least = least

    def __call__(self, problem, gold, text):
        return len(text) >= self.least

long_enough = Lengths(5)
table = {"a": 1}
'''


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a module in the working directory, one for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = "grader_of_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.fixture
def own_set(tmp_path):
    rows = [{"problem": f"What is {i}?", "answer": f"the number {i}"} for i in range(3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "own.jsonl"


@pytest.mark.parametrize(
    ("name", "text", "verdict", "reason"),
    [
        ("says_gold", "it is seven", "correct", ""),
        ("says_gold", "it is eight", "incorrect", ""),
        ("explains", "anything", "correct", "by hand"),
        ("long_enough", "12345", "correct", ""),
        ("long_enough", "1234", "incorrect", ""),
        ("raises", "odd", "ungraded", "KeyError: 'odd'"),
        ("scores", "odd", "ungraded", "the grader returned a float"),
    ],
)
def test_verdicts(module, name, text, verdict, reason):
    grade = load_grader(f"{module}:{name}")("problem", "seven", text)
    assert (grade.verdict, grade.reason) == (verdict, reason)


def test_one_that_raises_costs_only_its_own_grade(module):
    attempts = [("", "7", text) for text in ("7", "8", "7")]
    grades = grade_all(load_grader(f"{module}:raises"), attempts)
    assert [grade.verdict for grade in grades] == ["ungraded"] * 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}", r"The grader '{}' is no Python path. Write MODULE:NAME, such as my_module:my_"),
        ("{}.says_gold", r"is no Python path. Write MODULE:NAME"),
        ("{}:", r"is no Python path. Write MODULE:NAME"),
        (
            "{}:nothing",
            r"cannot be imported from .* \(AttributeError: .*nothing.*\). Write MODULE:",
        ),
        ("no_{}:says_gold", r"cannot be imported from .* \(ModuleNotFoundError: No module named "),
        ("{}.py:says_gold", r"cannot be imported from .* \(ModuleNotFoundError"),
        ("graders/mine.py:f", r"The grader graders/mine.py:f cannot be imported .*ValueError"),
        ("{}:table", r"The grader {}:table is a dict and cannot be called. Write MODULE:NAME"),
        ("{}:takes_two", r"does not take problem, gold and text, in this order: too many pos"),
        ("{}:Lengths", r"is a class. Name an instance of it: write `grader = Lengths\(\)` in "),
    ],
)
def test_what_is_no_grader(module, path, message):
    with pytest.raises(SettingsError, match=message.replace("{}", module)):
        load_grader(path.replace("{}", module))


def test_a_module_that_fails_says_why(module, tmp_path):
    (tmp_path / f"{module}_broken.py").write_text("1 / 0")
    with pytest.raises(SettingsError, match=r"\(ZeroDivisionError: division by zero\)"):
        load_grader(f"{module}_broken:f")


def test_it_grades_sets_by_path_and_is_recorded(module, own_set):
    path = f"{module}:always"
    own, countdown = load_benchmarks([own_set, "countdown"], grader=path)
    assert own.grader("", "1", "no box").correct
    assert own.record["grader"] == path
    assert not countdown.grader(countdown.questions[0].problem, "", "no box").correct
    assert reload_benchmark(own.record) == own
    assert load_benchmark(own_set).record["grader"] is None
    with pytest.raises(SettingsError, match=r"always would grade nothing: countdown has a grader"):
        load_benchmarks(["countdown"], grader=path)


def test_evaluate_and_regrade_with_it(command, module, tiny_model, own_set, tmp_path):
    words = ("evaluate", tiny_model, "--benchmarks", own_set, "--output-dir", "here")
    small = ("--runs", "1", "--sampling.temperature", "1", "--sampling.max-new-tokens", "4")
    always, explains = f"{module}:always", f"{module}:explains"

    code, _, errors = command(*words, *small, "--grader", f"{module}:nothing")
    assert code == 2
    assert f"The grader {module}:nothing cannot be imported" in errors
    assert not (tmp_path / "here").exists()

    code, output, errors = command(*words, *small, "--grader", always)
    assert code == 0, errors
    assert "| base | 100.0" in output
    assert f"own is graded by {always}." in output
    results = json.loads((tmp_path / "here/results.json").read_text())
    assert results["graders"] == {"own": always}

    code, _, errors = command(*words, *small)
    assert code == 2
    assert f"graded by {always}, and the grader that goes with the benchmark is asked for" in errors
    assert "purified-opsd regrade RUN --grader MODULE:NAME" in errors

    code, output, errors = command("regrade", "here")
    assert code == 0, errors
    assert "0 grades changed." in output
    code, output, errors = command("regrade", "here", "--grader", f"{module}:says_gold")
    assert code == 0, errors
    assert "3 from correct to incorrect" in output
    code, output, errors = command("regrade", "here", "--grader", explains)
    assert "3 from incorrect to correct" in output
    code, _, errors = command(*words, *small, "--grader", explains)
    assert code == 0, errors  # in step again
    request = json.loads((tmp_path / "here/own/request.json").read_text())
    assert request["benchmark"]["grader"] == explains


def test_train_refuses_a_wrong_one_before_it_loads_anything(command, settings, own_set, tmp_path):
    words = ("--evaluation.every", "1", "--evaluation.benchmarks", own_set)
    code, _, errors = command("train", settings, *words, "--evaluation.grader", "no_such:grader")
    assert code == 2
    assert "The grader no_such:grader cannot be imported" in errors
    assert not (tmp_path / "runs").exists()
