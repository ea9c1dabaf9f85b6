"""`purified-opsd prepare` as a user meets it."""

import json
import shutil

import pyarrow.parquet
import pytest
import yaml

from purified_opsd.data.dataset import TrainingSet, load_examples

from ..data.test_dataset import write

NULL = ("--benchmarks", "null")
LONG = (
    "Find the sum of all positive integers below one hundred that are no multiple of seven or of "
    "eleven."
)


@pytest.fixture
def math_cot(tmp_path):
    """Rows with Math-CoT-20K's columns: one at odds with itself, one from a benchmark, one that is
    long.
    """
    rows = [
        {
            "question": f"What is {i} + 1?",
            "response": f"<think>hm</think> \\boxed{{{i + 1}}}",
            "answer": i + 1,
            "data_source": "x",
        }
        for i in range(20)
    ]
    rows[3]["answer"] = 99
    rows[5]["question"] = LONG
    rows[7]["response"] += " and so on" * 50
    return write(tmp_path / "cot.parquet", [{**row, "answer": str(row["answer"])} for row in rows])


@pytest.fixture
def bench(tmp_path):
    return write(tmp_path / "bench.jsonl", [{"id": 1, "problem": LONG, "answer": "7"}])


def test_a_named_preparation_from_a_file(command, math_cot, bench, tiny_model, tmp_path):
    code, output, errors = command(
        *(
            "prepare",
            f"math-cot-20k={math_cot}",
            "--output",
            "x.parquet",
            "--benchmarks",
            bench,
            "countdown",
        ),
        *("--tokenizer", tiny_model, "--max-reference-tokens", "100"),
    )
    assert code == 0, errors
    assert "x.parquet: 18 rows of 20; 20 looked at" in output
    assert "1 dropped: answer disagrees with the last box" in output
    assert "1 dropped: reference longer than 100 tokens" in output
    assert "1 kept with a remark: overlap with a benchmark" in output
    assert "looked for with bench, countdown." in output
    table = pyarrow.parquet.read_table("x.parquet").to_pylist()
    assert {row["id"]: row["remark"] for row in table}[
        "row-6"
    ] == "overlap with a benchmark: bench 1 (100% of its 8-grams)"
    reasons = [json.loads(line) for line in (tmp_path / "x.report.jsonl").read_text().splitlines()]
    assert [(row["id"], row["dropped"]) for row in reasons] == [
        ("row-4", True),
        ("row-6", False),
        ("row-8", True),
    ]
    manifest = json.loads((tmp_path / "x.manifest.json").read_text())
    assert manifest["fingerprint"] == load_examples(TrainingSet("x.parquet")).fingerprint
    assert (manifest["max_reference_tokens"], manifest["overlap_threshold"]) == (100, 0.5)
    assert manifest["set"]["columns"]["problem"] == "question"


def test_drop_overlap(command, math_cot, bench):
    code, output, errors = command(
        "prepare",
        f"math-cot-20k={math_cot}",
        "--output",
        "x.parquet",
        "--benchmarks",
        bench,
        "--drop-overlap",
    )
    assert code == 0, errors
    assert "1 dropped: overlap with a benchmark" in output
    assert LONG not in {
        row["problem"] for row in pyarrow.parquet.read_table("x.parquet").to_pylist()
    }


def test_dasd_takes_mathematics_and_its_own_number_of_rows(command, tmp_path):
    rows = [
        {
            "uuid": f"u{i}",
            "input": f"q{i}",
            "output": "<think>a</think>b",
            "domain": "math" if i % 4 else "code",
            "meta": {"k": 1},
        }
        for i in range(20)
    ]
    file = write(tmp_path / "dasd.parquet", rows)
    code, _, errors = command("prepare", f"dasd-10k={file}", "--output", "x.parquet", *NULL)
    assert code == 3
    assert "has 15 usable rows, but a sample of 10000 is asked for" in errors
    code, output, errors = command(
        "prepare", f"dasd-10k={file}", "--output", "x.parquet", "--subset", 5, "--seed", 1, *NULL
    )
    assert code == 0, errors
    assert "Overlap with benchmarks was not looked for." in output
    manifest = json.loads((tmp_path / "x.manifest.json").read_text())
    assert len(manifest["ids"]) == 5
    assert all(int(id[1:]) % 4 for id in manifest["ids"])
    code, _, _ = command(
        "prepare", f"dasd-10k={file}", "--output", "y.parquet", "--subset", 5, "--seed", 1, *NULL
    )
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()
    assert (tmp_path / "x.manifest.json").read_bytes() == (
        tmp_path / "y.manifest.json"
    ).read_bytes()


def test_columns_are_named_as_in_training_and_training_opens_the_result(
    command, settings, tmp_path
):
    file = write(
        tmp_path / "mine.jsonl",
        [{"q": f"What is {i} + 1?", "s": f"{i + 1}", "a": i + 1, "kind": i % 2} for i in range(8)],
    )
    code, _, errors = command(
        *("prepare", file, "--output", "x.parquet", *NULL),
        *(
            "--data.columns.problem",
            "q",
            "--data.columns.solution",
            "s",
            "--data.columns.answer",
            "a",
            "--data.where.kind",
            "1",
        ),
    )
    assert code == 0, errors
    code, _, errors = command("train", settings, "--data", "x.parquet", "--steps", "1")
    assert code == 0, errors
    manifest = json.loads((tmp_path / "x.manifest.json").read_text())
    assert (
        json.loads((tmp_path / "runs/my_run/data.json").read_text())["fingerprint"]
        == manifest["fingerprint"]
    )
    assert (
        yaml.safe_load((tmp_path / "runs/my_run/config.yaml").read_text())["data"]["columns"]
        is None
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("gone.jsonl", *NULL), 3, "There is no data set at gone.jsonl"),
        (("dasd-1k", *NULL), 2, "There is no preparation 'dasd-1k'. Did you mean dasd-10k?"),
        (
            ("problems.jsonl",),
            3,
            "Overlap is looked for with aime24, aime25, hmmt25: read them from files",
        ),
        (("problems.jsonl", "--benchmarks", "aime26"), 3, "There is no benchmark 'aime26'"),
        (
            ("problems.jsonl", "--subset", "7", *NULL),
            3,
            "has 6 usable rows, but a sample of 7 is asked for",
        ),
        (
            ("problems.jsonl", "--subset", "0", *NULL),
            3,
            "has 6 usable rows, but a sample of 0 is asked for",
        ),
        (
            ("problems.jsonl", "--data.columns.problem", "q", *NULL),
            3,
            "problems.jsonl:1: it has no column 'q' for the problem",
        ),
        (
            ("problems.jsonl", "--data.colums.problem", "q", *NULL),
            2,
            "There is no setting data.colums. Did you mean data.columns (--data.columns)?",
        ),
        (("problems.jsonl", "--sed", "1", *NULL), 2, "prepare takes no --sed"),
        (("problems.jsonl", "--data", "x.jsonl", *NULL), 2, "prepare takes no --data"),
        (("problems.jsonl", "--tokenizer", "x", *NULL), 2, "--max-reference-tokens is missing"),
        (("problems.jsonl", "--max-reference-tokens", "5", *NULL), 2, "--tokenizer is missing"),
        (
            ("problems.jsonl", "--tokenizer", "x", "--max-reference-tokens", "0", *NULL),
            2,
            "must be at least 1, got 0",
        ),
        (
            ("problems.jsonl", "--tokenizer", "gone", "--max-reference-tokens", "5", *NULL),
            4,
            "gone",
        ),
        (
            ("problems.jsonl", "--overlap-threshold", "2", "--benchmarks", "countdown"),
            2,
            "at most 1, got 2.0",
        ),
        (("problems.jsonl", "--drop-overlap", *NULL), 2, "say nothing with --benchmarks null"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    command, problems, tmp_path, words, code, said
):
    got, _, errors = command("prepare", *words, "--output", "x.parquet")
    assert (got, said in errors) == (code, True), errors
    assert [file.name for file in tmp_path.iterdir()] == ["problems.jsonl"]


def test_where_the_output_may_go(command, problems, tmp_path):
    code, _, errors = command("prepare", problems, "--output", "x.jsonl", *NULL)
    assert (code, "is no .parquet file. Name it x.parquet." in errors) == (2, True)
    code, _, errors = command("prepare", problems, "--output", "gone/x.parquet", *NULL)
    assert (code, "gone is no folder that can be written to" in errors) == (2, True)
    shutil.copy(problems, tmp_path / "x.manifest.json")
    code, _, errors = command("prepare", problems, "--output", "x.parquet", *NULL)
    assert (code, "x.manifest.json exists already; nothing was written" in errors) == (2, True)
