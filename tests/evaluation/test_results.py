"""Scores, tables and comparisons of evaluations whose truth is known, and grades made again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from purified_opsd.errors import DataError, RunError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.comparison import compare_candidates, newest_candidate
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.evaluation.regrade import regrade
from purified_opsd.evaluation.results import read_results
from purified_opsd.evaluation.summary import comparison_table, table

from .conftest import Scripted, candidate


@pytest.fixture
def many(tmp_path):
    """Forty sums."""
    file = tmp_path / "many.jsonl"
    rows = [
        {"id": f"m{i}", "problem": f"What is {i} + {i * i}?", "answer": str(i + i * i)}
        for i in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(str(file))


@pytest.fixture
def evaluated(many, sums, prompts, eval_request, tmp_path):
    """A base that is right half the time, a checkpoint that is hardly ever wrong and one that is
    like the base.
    """
    folder = tmp_path / "run" / "evaluation"
    arms = [
        candidate("base", Scripted(0.5)),
        candidate("step-000002", Scripted(0.97)),
        candidate("step-000004", Scripted(0.52)),
    ]
    evaluate(arms, [many, sums], prompts, eval_request, folder)
    return folder


def test_the_table_is_bold_only_where_the_difference_is_significant(evaluated):
    written = (evaluated / "table.md").read_text()
    assert written == table(read_results(evaluated))
    head, _, base, good, same, *rest = written.splitlines()
    assert head == "| candidate | many | sums | mean |"
    assert "**" not in base + same
    assert good.count("**") >= 4  # many and the mean
    assert " ± " in base
    assert "PARTIAL" not in written
    best = next(line for line in rest if line.startswith("many, of 2 checkpoints"))
    assert "as chosen on other problems (cross-fitted)" in best


def test_markers_are_counted_from_the_samples_with_ones_own(many, prompts, eval_request, tmp_path):
    for own in ((), ("by",)):
        evaluate(
            [candidate("base", Scripted())],
            [many],
            prompts,
            replace(eval_request, markers=own),
            tmp_path,
        )
        (score,) = json.loads((tmp_path / "results.json").read_text())["scores"]
        counts = score["marker_counts"]["word"]
        assert {name: count for name, count in counts["by_marker"].items() if count} == {
            "hmm": 120
        } | dict.fromkeys(own, 120)
        assert (counts["total"], counts["per_response"]) == (120, 1.0)
        assert counts["per_1000_tokens"] == pytest.approx(1000 / score["mean_tokens"])
    before = (tmp_path / "results.json").read_bytes()
    regrade(tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before


def test_results_json_holds_every_number(evaluated, many):
    record = json.loads((evaluated / "results.json").read_text())
    differences = {(d["candidate"], *d["benchmarks"]): d for d in record["differences_to_base"]}
    assert len(differences) == 6
    expected = compare_candidates((evaluated, "step-000002"), (evaluated, "base"))
    for key, difference in [
        (("many",), expected.by_benchmark["many"]),
        (("many", "sums"), expected.overall),
    ]:
        written = differences["step-000002", *key]
        assert (written["value"], written["low"], written["p_value"]) == (
            difference.value,
            difference.low,
            difference.p_value,
        )
        assert written["significant"]
    best = record["best_of_checkpoints"]["many"]
    assert best["best"] > best["last"]
    assert best["cross_fitted"] == pytest.approx(
        best["best"]
    )  # no part of the problems would choose the other one
    scores = {(s["candidate"], s["benchmark"]): s for s in record["scores"]}
    score = scores["base", "many"]
    assert len(score["by_problem"]) == 40
    assert score["accuracy"] == pytest.approx(np.mean(list(score["by_problem"].values())))
    assert score["interval"]["low"] < score["accuracy"] < score["interval"]["high"]
    assert set(score["pass_at"]) == {"1", "2", "3"}
    assert score["pass_at"]["1"] == pytest.approx(score["accuracy"])
    assert score["pass_at"]["3"] == pytest.approx(
        np.mean([mean > 0 for mean in score["by_problem"].values()])
    )
    assert score["run_error"] > 0
    majority = np.mean(
        [round(3 * mean) >= 2 for mean in score["by_problem"].values()]
    )  # wrong answers agree with each other here
    assert score["majority"] == pytest.approx(majority)


def test_a_partial_evaluation_says_so_everywhere(sums, prompts, eval_request, tmp_path):
    def die(progress):
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate([candidate("base", Scripted(0.5))], [sums], prompts, eval_request, tmp_path, die)
    assert json.loads((tmp_path / "results.json").read_text())["scores"][0]["partial"] is True
    written = (tmp_path / "table.md").read_text()
    assert "| base | " in written
    assert "4/30 PARTIAL" in written
    assert written.count("PARTIAL") == 3
    arm = (tmp_path, "base")
    assert "PARTIAL" in comparison_table(compare_candidates(arm, arm))


def test_an_adapter_is_newer_than_its_base(sums, prompts, eval_request, tmp_path):
    evaluate(
        [candidate("base", Scripted()), candidate("an_adapter", Scripted(0.5))],
        [sums],
        prompts,
        eval_request,
        tmp_path,
    )
    assert newest_candidate(tmp_path) == "an_adapter"


def test_two_arms_are_compared_problem_by_problem(evaluated):
    good, same = (evaluated, "step-000002"), (evaluated, "step-000004")
    assert newest_candidate(evaluated) == "step-000004"
    comparison = compare_candidates(good, same)
    many = comparison.by_benchmark["many"]
    assert many.significant
    assert many.value == pytest.approx(
        read_results(evaluated).score("step-000002", "many").accuracy
        - read_results(evaluated).score("step-000004", "many").accuracy
    )
    assert comparison.overall.low < comparison.overall.value < comparison.overall.high
    back = compare_candidates(same, good)
    assert back.overall.value == pytest.approx(-comparison.overall.value)
    assert back.overall.p_value == pytest.approx(comparison.overall.p_value)
    written = comparison_table(comparison).splitlines()
    assert written[2].startswith("| run/step-000002 | **")
    assert "**" not in written[3]
    assert "p = 0.000" in written[4]


def test_arms_that_were_not_asked_alike_are_not_compared(
    evaluated, many, sums, prompts, eval_request, tmp_path
):
    cooler = replace(eval_request, sampling=replace(eval_request.sampling, temperature=0.5))
    evaluate([candidate("base", Scripted())], [many], prompts, cooler, tmp_path / "cool")
    with pytest.raises(
        RunError,
        match="On many the arms were not asked alike: temperature is 1.0 for base and 0.5 for base",
    ):
        compare_candidates((evaluated, "base"), (tmp_path / "cool", "base"))
    with pytest.raises(
        RunError, match=r"has no samples of step-000009; it has base, step-000002, step-000004"
    ):
        compare_candidates((evaluated, "base"), (evaluated, "step-000009"))
    evaluate([candidate("base", Scripted())], [sums], prompts, eval_request, tmp_path / "other")
    with pytest.raises(RunError, match="no benchmark in common"):
        compare_candidates((tmp_path / "cool", "base"), (tmp_path / "other", "base"))
    with pytest.raises(RunError, match="holds no evaluation"):
        read_results(tmp_path / "nothing")


def test_grades_are_made_again_from_the_samples(sums, prompts, eval_request, tmp_path):
    folder = tmp_path / "e"
    evaluate([candidate("base", Scripted(1.0))], [sums], prompts, eval_request, folder)
    samples = (folder / "sums/base/samples.jsonl").read_bytes()
    assert not regrade(folder).changes
    file = tmp_path / "sums.jsonl"
    file.write_text(
        file.read_text().replace('"answer": "12"', '"answer": "13"')
    )  # s3: a gold answer is put right
    with pytest.raises(RunError, match="drawn with answers = .* is asked for"):
        evaluate(
            [candidate("base", Scripted(1.0))],
            [load_benchmark(str(file))],
            prompts,
            eval_request,
            folder,
        )
    assert regrade(folder).changes == {("correct", "incorrect"): 3}
    assert read_results(folder).score("base", "sums").by_problem["s3"] == 0
    assert (folder / "sums/base/samples.jsonl").read_bytes() == samples
    evaluate(
        [candidate("base", Scripted(1.0))],
        [load_benchmark(str(file))],
        prompts,
        eval_request,
        folder,
    )  # in step again
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    with pytest.raises(DataError, match="sums has no question s0, to which .* holds completions"):
        regrade(folder)
