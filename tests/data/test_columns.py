"""A column that is not there: said once, with the words that name the right one."""

import re
import shlex

import pytest

from purified_opsd.data.dataset import AnswerOnly, Columns, TrainingSet, load_examples
from purified_opsd.errors import DataError
from purified_opsd.evaluation.benchmarks import load_benchmark

from .test_dataset import write

SETS = {
    "question, response": (
        {"question": "q", "response": "s"},
        "--data.columns.problem question --data.columns.solution response",
    ),
    "question, a short answer": (
        {"question": "q", "answer": "s"},
        "--data.columns.problem question --data.columns.solution answer",
    ),
    "Alpaca": (
        {"instruction": "q", "input": "", "output": "s"},
        "--data.columns.problem instruction --data.columns.solution output",
    ),
    "OpenMathInstruct": (
        {"problem": "q", "generated_solution": "s", "expected_answer": "5"},
        "--data.columns.solution generated_solution",
    ),
    "input, output": (
        {"uuid": "u", "input": "q", "output": "s", "domain": "math"},
        "--data.columns.problem input --data.columns.solution output",
    ),
    "other letters": (
        {"Problem": "q", "Solution": "s"},
        "--data.columns.problem Problem --data.columns.solution Solution",
    ),
    "slips": (
        {"probelm": "q", "soltuion": "s"},
        "--data.columns.problem probelm --data.columns.solution soltuion",
    ),
    "a name with a space": (
        {"Generated Solution": "s", "Question": "q"},
        "--data.columns.problem Question --data.columns.solution 'Generated Solution'",
    ),
}


@pytest.mark.parametrize("name", list(SETS))
def test_the_words_that_are_told_are_the_ones_to_write(command, tmp_path, name):
    row, words = SETS[name]
    write(tmp_path / "x.jsonl", [row] * 9)
    call = ("prepare", "x.jsonl", "--output", "y.parquet", "--benchmarks", "null")
    code, _, errors = command(*call)
    assert (code, errors.count("it has no column"), errors.count(words)) == (3, 1, 1), errors
    assert "9 of 9 rows of x.jsonl cannot be used:\nx.jsonl:1: it has no" in errors
    assert "The same in 8 more rows." in errors
    assert "on-bad-row skip" not in errors  # which would leave nothing
    code, output, errors = command(*call, *shlex.split(words))
    assert (code, "9 rows of 9" in output) == (0, True), errors
    (example, *_) = load_examples(TrainingSet(str(tmp_path / "y.parquet"))).rows
    assert (example.problem, example.reference) == ("q", "s")


def test_they_can_be_written_behind_the_file(command, settings, tmp_path):
    write(tmp_path / "x.jsonl", [{"question": f"q{i}", "response": "s"} for i in range(3)])
    call = ("train", settings, "--steps", "1", "--data", "x.jsonl")
    code, _, errors = command(*call)
    words = re.findall(r"--data.columns.\w+ \w+", errors)
    assert (code, len(words)) == (3, 2), errors
    code, _, errors = command(*call, *" ".join(words).split())
    assert code == 0, errors


def test_a_column_that_some_rows_lack_leaves_them_countable(tmp_path):
    whole, lacking = {"problem": "q", "solution": "s"}, {"problem": "q", "extra": "s"}
    file = write(tmp_path / "x.jsonl", [whole, lacking, whole, lacking, {**whole, "problem": ""}])
    with pytest.raises(DataError, match="3 of 5 rows of .*\n.*x.jsonl:2: it has no col") as caught:
        load_examples(TrainingSet(file))
    told = str(caught.value).splitlines()
    assert told[1].endswith("The same in 1 more row.")
    assert "x.jsonl:5: its column 'problem' (problem) is empty" in told[2]
    assert told[3] == "Mend them, or leave such rows out with --data.on-bad-row skip."


def test_a_named_answer_or_id_that_is_not_there_is_a_column_too(tmp_path):
    file = write(tmp_path / "x.jsonl", [{"problem": "q", "solution": "s", "final": "5"}] * 9)
    columns = Columns(answer="anser", id="uuid")
    with pytest.raises(DataError, match="no column 'anser' for the answer") as caught:
        load_examples(TrainingSet(file, columns=columns))
    assert str(caught.value).count("no column") == 1
    with pytest.raises(DataError, match="no column 'answer' for the answer; .* in 8 more rows"):
        load_examples(TrainingSet(file, reference=AnswerOnly()))


def test_columns_of_a_benchmark(command, tiny_model, tmp_path):
    rows = [{"Question": "q", "final_answer": i, "id": i} for i in range(9)]
    file = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match="x.jsonl:1: it has no column 'problem'") as caught:
        load_benchmark(file)
    told = str(caught.value)
    words = "--columns.problem Question --columns.answer final_answer"
    assert (told.count("no column"), told.count(words)) == (1, 1)
    assert told.endswith("In `train`, --columns is --evaluation.columns.")
    call = ("evaluate", tiny_model, "--benchmarks", "x.jsonl", "--limit", "1", "--runs", "1")
    sampling = ("--sampling.max-new-tokens", "4", "--output-dir", "results")
    code, _, errors = command(*call, *sampling)
    assert (code, words in errors) == (3, True)
    code, _, errors = command(*call, *sampling, *words.split())
    assert code == 0, errors
