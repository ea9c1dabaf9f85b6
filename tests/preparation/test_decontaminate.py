"""Which training problems are questions of a benchmark, and which rows contradict their own
solution.
"""

import json
import re

import pytest

from purified_opsd.data.dataset import Example, TrainingSet, load_examples
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.preparation.answer_check import AnswerMismatch
from purified_opsd.preparation.decontaminate import THRESHOLD, Overlap, grams

QUESTION = (
    "Find the number of ordered pairs $(a, b)$ of integers with $a \\le b$ and "
    "$\\frac{a}{b} = 7$ below ninety."
)


def benchmark(tmp_path, *problems):
    file = tmp_path / "bench.jsonl"
    file.write_text(
        "".join(
            json.dumps({"id": str(i), "problem": p, "answer": "1"}) + "\n"
            for i, p in enumerate(problems)
        )
    )
    return load_benchmark(str(file))


def test_the_ratio_is_of_the_questions_grams(tmp_path):
    words = [f"w{i}" for i in range(17)]  # ten 8-grams
    overlap = Overlap([benchmark(tmp_path, " ".join(words))])
    assert overlap.nearest(" ".join(words)) == ("bench 0", 1.0)
    assert overlap.nearest("before " * 50 + " ".join(words) + " after" * 50) == (
        "bench 0",
        1.0,
    )  # however long the problem
    assert overlap.nearest(" ".join(words[:12])) == ("bench 0", 0.5)
    assert overlap.nearest(" ".join(words[:8])) == ("bench 0", 0.1)
    assert overlap.nearest(" ".join(words[:7]) + " x " + " ".join(words[8:15])) == ("", 0.0)


def test_a_short_question_counts_whole(tmp_path):
    overlap = Overlap([benchmark(tmp_path, "What is two plus two?", QUESTION)])
    assert overlap.nearest("Tell me: what is two plus two, please") == ("bench 0", 1.0)
    assert overlap.nearest("What is two plus three?") == ("", 0.0)


def test_how_a_copy_is_written_does_not_count(tmp_path):
    overlap = Overlap([benchmark(tmp_path, QUESTION)])
    copy = (
        "find the number of  ordered pairs \\((a,b)\\) of integers, with a ≤ b and a/b=7 below "
        "ninety"
    )
    assert overlap.nearest(copy) == ("bench 0", 1.0)
    assert grams("\\omega ω \\text{a} x_{1}", 3) == {("a", "x", "1")}


def example(id, problem="q", answer=None, reference="r"):
    return Example(id, problem, reference, answer, f"x:{id}")


def test_flagged_or_dropped(tmp_path):
    set = benchmark(tmp_path, "unlike all", QUESTION)
    rows = [example("a", "another problem"), example("b", QUESTION)]
    nothing, found = Overlap([set])(rows)
    assert nothing is None
    assert found == ("overlap with a benchmark", "bench 1 (100% of its 8-grams)", False)
    assert Overlap([set], drops=True)(rows)[1].drops
    assert Overlap([set, set])(rows)[1] == found


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        Overlap([], threshold)


def test_the_threshold_on_real_problems(shared_data):
    """Old AIME problems are unlike new ones, though a third share some 8-gram; copies and lightly
    changed copies are found.
    """
    files = {
        "aime24": "aime_2024.jsonl",
        "aime25": "aime_2025.jsonl",
        "hmmt25": "hmmt_feb_2025.parquet",
    }
    benchmarks = [load_benchmark(f"{name}={shared_data / file}") for name, file in files.items()]
    overlap = Overlap(benchmarks)
    old = [
        overlap.nearest(e.problem)[1]
        for e in load_examples(TrainingSet(str(shared_data / "aime_1983_2023.jsonl"))).rows
    ]
    assert sum(share > 0 for share in old) > 300
    assert max(old) < 0.4 < THRESHOLD
    for change in (
        str.upper,
        lambda t: re.sub(r"\\[a-zA-Z]+", " ", t),
        lambda t: every_40th_word_changed(t),
    ):
        shares = [overlap.nearest(change(q.problem))[1] for b in benchmarks for q in b.questions]
        assert len(shares) == 90
        assert min(shares) > 0.6 > THRESHOLD


def every_40th_word_changed(text):
    return " ".join("other" if i % 40 == 39 else word for i, word in enumerate(text.split(" ")))


def test_a_row_is_dropped_where_its_answer_is_not_what_its_solution_comes_to():
    thought = "<think>\\boxed{3}, no</think> So \\boxed{%s}."
    rows = [
        example("same", answer="070", reference=thought % "70"),
        example("as mathematics", answer="\\frac12", reference=thought % "0.5"),
        example("boxed as well", answer="\\boxed{5}", reference=thought % "5"),
        example("no answer", reference=thought % "5"),
        example("other", answer="3", reference=thought % "70"),
        example("no box", answer="3"),
        example("cut off", answer="3", reference="\\boxed{3"),
    ]
    found = dict(zip([row.id for row in rows], AnswerMismatch()(rows), strict=True))
    assert [id for id, finding in found.items() if finding is None] == [
        "same",
        "as mathematics",
        "boxed as well",
        "no answer",
    ]
    assert found["other"] == (
        "answer disagrees with the last box",
        "the answer is 3, the last box of the solution holds 70",
        True,
    )
    assert found["no box"] == ("answer not compared with a box", "no box", False)
    assert found["cut off"] == ("answer not compared with a box", "cut off", False)
