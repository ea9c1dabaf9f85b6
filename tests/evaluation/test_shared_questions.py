"""Arms on unlike questions: every number of a comparison is of those that both have, and what is
left out is said.
"""

import re
from dataclasses import replace

import pytest

from purified_opsd.errors import RunError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.comparison import compare_candidates
from purified_opsd.evaluation.comparison_notes import difference_sentences
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.evaluation.summary import comparison_table

from .conftest import Scripted, candidate

STUDENT = "step-000002"


@pytest.fixture
def ask(prompts, eval_request, tmp_path):
    """Evaluates a student of some accuracy as the arm of this name; gives the arm."""

    def ask(name, accuracy, benchmarks, **changes):
        folder = tmp_path / name / "evaluation"
        request = replace(eval_request, **changes)
        evaluate([candidate(STUDENT, Scripted(accuracy))], benchmarks, prompts, request, folder)
        return folder, STUDENT

    return ask


def columns(comparison):
    """Of each row of the printed table, its numbers before the error."""
    rows = comparison_table(comparison).splitlines()[2:5]
    cells = [re.split(r" *\| *", row.replace("*", ""))[2:-1] for row in rows]
    return [[float(re.match(r"[-+\d.]+", cell).group()) for cell in row] for row in cells]


def assert_the_difference_is_of_the_columns(comparison):
    first, second, difference = columns(comparison)
    for ours, theirs, value in zip(first, second, difference, strict=True):
        assert value == pytest.approx(ours - theirs, abs=0.11)  # each is rounded to 0.1


def test_a_limit_of_six_beside_ten(ask, sums):
    """Both arms answer alike, so on the six that both have they do not differ."""
    first = ask("pmi", 0.55, [sums], limit=6)
    second = ask("standard", 0.55, [sums])
    comparison = compare_candidates(first, second)
    assert list(comparison.shared["sums"].first) == [f"s{i}" for i in range(6)]
    assert columns(comparison)[0] == columns(comparison)[1]
    assert_the_difference_is_of_the_columns(comparison)
    said = comparison_table(comparison)
    assert f"sums: 6 questions shared; left out: 4 that only standard/{STUDENT} has.\n" in said
    assert "+0.0 " in said
    back = comparison_table(compare_candidates(second, first))
    assert f"left out: 4 that only standard/{STUDENT} has." in back


def test_the_accuracies_are_of_the_shared_questions_where_the_arms_differ(ask, sums):
    comparison = compare_candidates(
        ask("pmi", 0.8, [sums], limit=7), ask("standard", 0.3, [sums], limit=9)
    )
    both = comparison.shared["sums"]
    assert len(both.first) == len(both.second) == 7
    assert (both.first_alone, both.second_alone) == (0, 2)
    assert comparison.overall.value == pytest.approx(
        sum(both.first.values()) / 7 - sum(both.second.values()) / 7
    )
    assert_the_difference_is_of_the_columns(comparison)


def test_arms_asked_alike_say_that_nothing_is_left_out(ask, sums):
    comparison = compare_candidates(ask("pmi", 0.8, [sums]), ask("standard", 0.3, [sums]))
    assert comparison_table(comparison).endswith("\nsums: 10 questions shared.\n")


def test_other_numbers_of_runs_are_said(ask, sums):
    comparison = compare_candidates(
        ask("pmi", 0.8, [sums], runs=4), ask("standard", 0.3, [sums], runs=1)
    )
    assert_the_difference_is_of_the_columns(comparison)
    said = comparison_table(comparison)
    assert "sums: 10 questions shared; samples of each question: 4 of pmi/" in said
    assert f", 1 of standard/{STUDENT}." in said


def test_a_benchmark_of_one_arm_alone_is_left_out_and_named(ask, sums, tmp_path):
    other = tmp_path / "more.jsonl"
    other.write_text((tmp_path / "sums.jsonl").read_text())
    more = load_benchmark(str(other))
    comparison = compare_candidates(
        ask("pmi", 0.8, [sums, more]), ask("standard", 0.3, [sums], limit=4)
    )
    assert list(comparison.by_benchmark) == ["sums"]
    said = comparison_table(comparison)
    assert f"Left out: more, on which only pmi/{STUDENT} was evaluated." in said
    assert f"sums: 4 questions shared; left out: 6 that only pmi/{STUDENT} has." in said


def test_the_mean_of_several_benchmarks_is_that_of_the_shared_questions(ask, sums, tmp_path):
    other = tmp_path / "more.jsonl"
    other.write_text((tmp_path / "sums.jsonl").read_text())
    both = [sums, load_benchmark(str(other))]
    comparison = compare_candidates(ask("pmi", 0.8, both), ask("standard", 0.3, both, limit=5))
    assert len(columns(comparison)[0]) == 3
    assert_the_difference_is_of_the_columns(comparison)
    assert [words.split(" on ")[1].split(":")[0] for words in difference_sentences(comparison)] == [
        "more",
        "sums",
        "the mean",
    ]


def test_other_questions_under_one_name_are_refused(ask, sums, tmp_path):
    first = ask("pmi", 0.8, [sums])
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:6]))
    second = ask("standard", 0.3, [load_benchmark(str(file))])
    said = r"Under the name sums the arms were asked two different sets.*on the same file\."
    with pytest.raises(RunError, match=said):
        compare_candidates(first, second)


def keep(arm, ids):
    """Leaves an arm the grades of these questions, as a stopped evaluation does."""
    file = arm[0] / "sums" / STUDENT / "grades.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if any(f'"{id}"' in line for id in ids)))


def test_a_partial_evaluation_is_compared_on_what_it_has(ask, sums):
    first, second = ask("pmi", 0.8, [sums]), ask("standard", 0.3, [sums])
    keep(second, ["s0", "s1", "s2"])
    comparison = compare_candidates(first, second)
    assert_the_difference_is_of_the_columns(comparison)
    said = comparison_table(comparison)
    assert f"sums: 3 questions shared; left out: 7 that only pmi/{STUDENT} has." in said
    assert "PARTIAL: samples are still owed" in said


def test_no_shared_question_is_an_error(ask, sums):
    first, second = ask("pmi", 0.8, [sums]), ask("standard", 0.3, [sums])
    keep(first, ["s0", "s1"])
    keep(second, ["s7", "s8", "s9"])
    said = r"On sums the arms share no question: .*of 2 and .*of 3 others.*the same --limit"
    with pytest.raises(RunError, match=said):
        compare_candidates(first, second)


def test_one_shared_question_tells_nothing_of_a_difference(ask, sums):
    comparison = compare_candidates(ask("pmi", 0.8, [sums], limit=1), ask("standard", 0.3, [sums]))
    assert "sums: 1 question shared; left out: 9 that" in comparison_table(comparison)
    assert difference_sentences(comparison) == [
        f"pmi/{STUDENT} minus standard/{STUDENT} on sums: too few shared questions to tell."
    ]


def test_a_sentence_says_what_the_difference_is_worth(ask, sums):
    alike = compare_candidates(ask("pmi", 0.5, [sums]), ask("standard", 0.5, [sums]))
    (said,) = difference_sentences(alike)
    assert said.startswith(f"pmi/{STUDENT} minus standard/{STUDENT} on sums: +0.0 points (95 % int")
    assert said.endswith("p = 1.000, paired by question): chance alone could give as much.")
    apart = compare_candidates(ask("all", 1.0, [sums]), ask("none", 0.0, [sums]))
    (said,) = difference_sentences(apart)
    assert ": +100.0 points " in said
    assert said.endswith("more than chance gives one time in twenty.")


def test_arms_of_one_name_are_told_apart(ask, sums):
    comparison = compare_candidates(ask("a/run", 0.8, [sums]), ask("b/run", 0.3, [sums]))
    names = [row.split("|")[1].strip() for row in comparison_table(comparison).splitlines()[2:4]]
    assert [name.split("/")[-3:] for name in names] == [
        ["a", "run", STUDENT],
        ["b", "run", STUDENT],
    ]
