"""The grader's file of pairs, the golds of the paper's sets, and answers that end a process."""

import os
import re
import signal
import threading
import time
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from purified_opsd.errors import WorkerError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.grading.boxed_answer import find_boxes, integer, parts
from purified_opsd.evaluation.grading.graders import CountdownGrader, MathGrader, grade, grade_all
from purified_opsd.evaluation.grading.pool import Limits, Worker, Workers
from purified_opsd.miniature import Split, draw_rows


def spelled_out(field):
    """The field with each character that is not seen in its place."""
    return re.sub(r"\\N\{([^}]+)\}", lambda name: unicodedata.lookup(name[1]), field)


PAIRS = [
    tuple(spelled_out(field.removeprefix(" ")) for field in line.removesuffix("\n").split("|"))
    for line in (Path(__file__).parents[1] / "graded_pairs.txt")
    .read_text()
    .splitlines(keepends=True)
    if not line.startswith("#")
]


def test_there_are_enough_pairs():
    assert len(PAIRS) == len(set(PAIRS)) >= 150


@pytest.mark.parametrize(("verdict", "gold", "answer"), PAIRS)
def test_pair(verdict, gold, answer):
    text = answer[1:-1] if answer.startswith("<") else f"So the answer is \\boxed{{{answer}}}."
    found = grade(text, gold.strip())
    assert f"{found.verdict}: {found.reason}".removesuffix(": ") == verdict.strip()


@pytest.mark.parametrize(
    "name", ["aime24=aime_2024.jsonl", "aime25=aime_2025.jsonl", "hmmt25=hmmt_feb_2025.parquet"]
)
def test_the_golds_of_the_papers_sets(shared_data, name):
    known, _, file = name.partition("=")
    questions = load_benchmark(f"{known}={shared_data / file}").questions
    golds = [question.answer for question in questions]
    as_maths = [
        f"\\boxed{{ 0 + {gold} }}" if "," not in gold else f"\\boxed{{{gold}}}" for gold in golds
    ]
    for written in ([f"\\boxed{{{gold}}}" for gold in golds], as_maths):
        found = grade_all(
            MathGrader(), [("", gold, text) for gold, text in zip(golds, written, strict=True)]
        )
        assert [(gold, f.verdict) for gold, f in zip(golds, found, strict=True)] == [
            (gold, "correct") for gold in golds
        ]
    others = grade_all(
        MathGrader(), [("", gold, f"\\boxed{{{other}}}") for gold, other in pairwise(golds)]
    )
    same = [integer(a) == integer(b) and integer(a) is not None for a, b in pairwise(golds)]
    assert [f.correct for f in others] == same


def test_what_is_too_long_or_too_deep_reaches_no_worker():
    nested = "(" * 1000 + "5" + ")" * 1000
    assert grade(f"\\boxed{{{nested}}}", "5").reason == "too deep"
    found = grade(f"\\boxed{{{'5' * 10**6}}}", "5")
    assert found.reason == "too long"
    assert found.answer is not None
    assert len(found.answer) < 10_000
    assert grade("\\boxed{" * 100 + "5" + "}" * 100, "5").reason == "too deep"
    assert grade("\\boxed{" * 20_000, "5").reason == "cut off"
    assert grade("\\boxed{" + "(A) " * 900 + "5}", "5").correct


def test_numbers_of_five_thousand_digits_are_graded():
    gold = "7" * 5_000
    grouped = ",".join(["77", *["777"] * 1_666])
    repunit = "\\frac{10^{5000}-1}{9}"
    for answer, verdict in [
        (gold, "correct"),
        (f"00{gold}", "correct"),
        (grouped, "correct"),
        (f"{gold} + 0", "correct"),
        (f"7 \\cdot {repunit}", "correct"),
        (f"-{gold}", "incorrect"),
        (f"{gold[:-1]}8", "incorrect"),
        (gold[:-1], "incorrect"),
        (f"7 \\cdot {repunit} + 1", "incorrect"),
        ("7", "incorrect"),
    ]:
        assert grade(f"\\boxed{{{answer}}}", gold).verdict == verdict, answer[:20]
    assert grade("\\boxed{\\frac{1}{3}}", "0." + "3" * 5_000).correct
    assert grade(f"\\boxed{{{'7' * 10_001}}}", gold).reason == "too long"


def test_the_countdown_reads_past_an_empty_box():
    row = draw_rows(Split.EVALUATION, seed=0, count=1)[0]
    box = f"\\boxed{{{find_boxes(row['solution']).answer}}}"
    countdown = CountdownGrader()
    assert countdown(row["problem"], row["answer"], f"{box} as asked, in \\boxed{{}}.").correct
    assert countdown(row["problem"], row["answer"], "\\boxed{}").verdict == "incorrect"
    assert not countdown(row["problem"], row["answer"], f"{box}, no: \\boxed{{1}}").correct


def test_others_go_on_beside_answers_without_end():
    quick = MathGrader(Limits(cpu_seconds=1, wall_seconds=60, memory_bytes=2**29))
    endless = ["9^{9^{9}}", "2017^{2025!}", "10^{10^{10}} + 1"]
    good = [f"{n}/{2 * n}" for n in range(1, 9)]
    answers = [good[0], endless[0], *good[1:4], endless[1], *good[4:], endless[2]]
    found = grade_all(quick, [("", "\\frac{1}{2}", f"\\boxed{{{answer}}}") for answer in answers])
    for answer, grade_ in zip(answers, found, strict=True):
        assert grade_.verdict == ("ungraded" if answer in endless else "correct"), answer
        assert grade_.reason in (("timeout", "memory") if answer in endless else ("",))


def test_a_worker_that_is_killed_is_replaced():
    workers = Workers(1, Limits(wall_seconds=60))
    assert workers.same(["1/2"], ["0.5"])
    victim = workers._free.queue[-1]
    assert isinstance(victim, Worker)
    os.kill(victim.process.pid, signal.SIGKILL)
    victim.process.wait()
    with pytest.raises(Exception, match="crash"):
        workers.same(["1/2"], ["0.5"])
    assert workers.same(["1/2"], ["0.5"])


def test_a_worker_killed_while_it_thinks_is_a_crash():
    worker = Worker(Limits(cpu_seconds=60, wall_seconds=60))
    threading.Timer(0.5, worker.process.kill).start()
    with pytest.raises(Exception, match="crash"):
        worker.ask([["5"], ["9^{9^{9}}"]])
    worker.end()


def test_the_wall_limit_holds_where_no_time_is_used():
    worker = Worker(Limits(wall_seconds=0.3))
    os.kill(worker.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(Exception, match="timeout"):
        worker.ask([["1"], ["2"]])
    assert time.monotonic() - start < 30
    worker.end()
    assert worker.process.returncode == -signal.SIGKILL


def test_an_installation_without_the_library_says_so(monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        WorkerError, match=r"did not start \(crash\): .*not here.*pip install math-verify"
    ):
        Worker(Limits())


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("", None),
        ("\\boxed{a{b}c}", "a{b}c"),
        ("\\boxed{\\}}", "\\}"),
        ("\\boxed{1}\\boxed{2", "1"),
        ("\\boxed{1}\\boxed{}", "1"),
        ("\\boxed{1}\\boxed{\\text{ }\\,}", "1"),
        ("\\boxed{ }", ""),
        ("\\boxed{\\text{a}}", "\\text{a}"),
    ],
)
def test_the_last_box_whose_braces_close(text, box):
    assert find_boxes(text).answer == box


def test_parts_that_belong_together_stay_together():
    assert parts("(1, 2)") == ["(1, 2)"]
    assert parts("\\frac{1}{2}, f(1, 2)") == ["\\frac{1}{2}", "f(1, 2)"]
    assert [re.sub(r"\s", "", part) for part in parts("a \\pm b \\mp c")] == ["a+b-c", "a-b+c"]
    assert parts("\\pmod 3") == ["\\pmod 3"]
