"""The evaluation loop: what is drawn, what is kept, what is refused, and what an interruption
costs.
"""

import json
import resource
from dataclasses import replace
from functools import partial

import pytest

from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import DataError, RunError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.comparison import Arm
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.evaluation.regrade import regrade
from purified_opsd.evaluation.results import read_results
from purified_opsd.sampling.sampler import Sampling

from ..conftest import byte_tokenizer
from .conftest import Scripted, candidate


def files(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*.json*"))
        if file.is_file()
    }


def test_the_score_is_that_of_what_was_drawn(sums, prompts, plan, tmp_path):
    half, full = Scripted(0.5), Scripted(1.0)
    seen = []
    results = evaluate(
        [candidate("half", half), candidate("full", full)],
        [sums],
        prompts,
        plan,
        tmp_path / "e",
        seen.append,
    )
    assert results.score("full", "sums").accuracy == 1
    right = sum(seed % 1000 < 500 for seed in half.seen)
    score = results.score("half", "sums")
    assert 0 < right < 30
    assert score.accuracy == pytest.approx(right / 30)
    assert (score.problems, score.runs, score.samples, score.partial) == (10, 3, 30, False)
    assert (score.truncation_rate, score.no_box_rate, score.markers) == (0, 0, 1)
    assert half.seen == full.seen  # the same random numbers for every candidate
    assert len(set(half.seen)) == 30
    assert (seen[0].done, seen[0].total, seen[0].accuracy) == (0, 60, None)
    assert (seen[-1].done, seen[-1].total, seen[-1].accuracy) == (60, 60, 1)


def test_what_is_there_is_not_drawn_again(sums, prompts, plan, tmp_path):
    first, second, third = Scripted(), Scripted(), Scripted()
    evaluate([candidate("a", first)], [sums], prompts, plan, tmp_path)
    before = files(tmp_path)
    evaluate([candidate("a", second)], [sums], prompts, plan, tmp_path)
    assert second.seen == []
    assert files(tmp_path) == before
    more = evaluate([candidate("a", third)], [sums], prompts, replace(plan, runs=4), tmp_path)
    assert (more.score("a", "sums").samples, more.partial) == (40, False)
    assert set(third.seen) - set(first.seen) >= set(third.seen[-10:])


class Killed(Exception):
    pass


@pytest.mark.parametrize("torn", ["", '{"id": "s3", "run": 1, "se'])
def test_an_interrupted_evaluation_is_completed_to_the_same_bytes(
    sums, prompts, plan, tmp_path, torn
):
    def die(progress):
        if progress.done >= 16:
            raise Killed

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, whole)
    with pytest.raises(Killed):
        evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, cut, die)
    assert read_results(cut).partial
    assert json.loads((cut / "results.json").read_text())["partial"] is True
    for name in ("samples.jsonl", "grades.jsonl"):
        with (cut / "sums/a" / name).open("a") as file:
            file.write(torn)
    rest = Scripted(0.5)
    evaluate([candidate("a", rest)], [sums], prompts, plan, cut)
    assert len(rest.seen) == 14
    assert files(cut) == files(whole)


def test_what_is_owed_is_marked_from_the_beginning(sums, prompts, plan, tmp_path):
    """A candidate that was not begun is owed too; a process that is killed leaves what it wrote
    before.
    """

    def die(progress):
        assert json.loads((tmp_path / "results.json").read_text())["partial"] is True
        if progress.candidate == "b":
            raise Killed

    with pytest.raises(Killed):
        evaluate(
            [candidate("a", Scripted()), candidate("b", Scripted(0.5))],
            [sums],
            prompts,
            plan,
            tmp_path,
            die,
        )
    results = read_results(tmp_path)
    assert [(score.candidate, score.partial) for score in results.scores] == [("a", False)]
    assert results.partial
    assert json.loads((tmp_path / "results.json").read_text())["partial"] is True
    assert "PARTIAL: samples are still owed" in (tmp_path / "table.md").read_text()
    assert not evaluate(
        [candidate("a", Scripted()), candidate("b", Scripted(0.5))], [sums], prompts, plan, tmp_path
    ).partial
    assert "PARTIAL" not in (tmp_path / "table.md").read_text()


def test_a_full_disk_loses_nothing(sums, prompts, plan, tmp_path):
    whole, full = tmp_path / "whole", tmp_path / "full"
    evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, whole)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1500, limits[1])
    )  # bytes of a file: the disk is full in the middle of a line
    try:
        with pytest.raises(OSError, match="File too large: '.*/sums/a/samples.jsonl'"):
            evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (full / "sums/a/samples.jsonl").stat().st_size == 1500
    evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, full)
    assert files(full) == files(whole)


@pytest.mark.parametrize(
    "part", [{"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 3}, {"max_new_tokens": 9}]
)
def test_other_sampling_does_not_mix(sums, prompts, plan, tmp_path, part):
    evaluate([candidate("a", Scripted())], [sums], prompts, plan, tmp_path)
    other = replace(plan, sampling=replace(plan.sampling, **part))
    with pytest.raises(RunError, match=f"samples drawn with {next(iter(part))} = .* is asked for"):
        evaluate([candidate("a", Scripted())], [sums], prompts, other, tmp_path)


def test_other_weights_questions_and_seeds_do_not_mix(sums, prompts, plan, tmp_path):
    evaluate([candidate("a", Scripted())], [sums], prompts, plan, tmp_path)
    again = candidate("a", Scripted())
    with pytest.raises(RunError, match="drawn with weights = weights of a, and others is asked"):
        evaluate([replace(again, identity="others")], [sums], prompts, plan, tmp_path)
    with pytest.raises(RunError, match="drawn with questions"):
        evaluate([again], [replace(sums, fingerprint="changed")], prompts, plan, tmp_path)
    with pytest.raises(RunError, match="drawn with seed = 0"):
        evaluate([again], [sums], prompts, replace(plan, seed=1), tmp_path)
    rows = replace(
        plan, sampling=replace(plan.sampling, batch_size=7)
    )  # how many side by side is no matter
    evaluate([again], [sums], prompts, rows, tmp_path)


def test_what_stands_beside_each_other_is_drawn_alike(sums, prompts, plan, tmp_path):
    evaluate([candidate("base", Scripted())], [sums], prompts, plan, tmp_path)
    step, cooler = (
        candidate("step-000001", Scripted()),
        replace(plan, sampling=replace(plan.sampling, temperature=0.3)),
    )
    for other, said in (
        (cooler, "temperature = 1.0, and 0.3"),
        (replace(plan, seed=5), "seed = 0, and 5"),
    ):
        with pytest.raises(
            RunError, match=f"sums/base holds samples drawn with {said} is asked for"
        ):
            evaluate([step], [sums], prompts, other, tmp_path)
    more, another = (
        replace(sums, name="more"),
        replace(candidate("base", Scripted()), identity="others"),
    )
    with pytest.raises(
        RunError,
        match="sums/base holds samples drawn with weights = weights of base, and others is asked "
        "for",
    ):
        evaluate([another], [more], prompts, plan, tmp_path)
    assert [file.parent.name for file in tmp_path.glob("*/*/settings.json")] == ["base"]
    evaluate([step, candidate("base", Scripted())], [sums, more], prompts, plan, tmp_path)
    drawn = {
        "engine": "transformers",
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "max_new_tokens": 64,
        "seed": 0,
    }
    assert json.loads((tmp_path / "results.json").read_text())["sampling"] == {
        "more": drawn,
        "sums": drawn,
    }
    assert (
        "Drawn: engine = transformers, temperature = 1.0, top_p = 1.0"
        in (tmp_path / "table.md").read_text()
    )


def test_two_of_one_name_are_refused_and_leave_nothing(sums, prompts, plan, tmp_path):
    one, other = candidate("base", Scripted()), candidate("base", Scripted())
    with pytest.raises(RunError, match="2 candidates are called base"):
        evaluate([one, other], [sums], prompts, plan, tmp_path / "e")
    with pytest.raises(RunError, match="2 benchmarks are called sums"):
        evaluate([one], [sums, replace(sums, fingerprint="others")], prompts, plan, tmp_path / "e")
    assert not (tmp_path / "e").exists()


class Broken(Scripted):
    def generate(self, prompts, seeds):
        raise Killed


def test_settings_count_from_the_first_sample_on(sums, prompts, plan, tmp_path):
    with pytest.raises(Killed):
        evaluate([candidate("base", Broken())], [sums], prompts, plan, tmp_path)
    evaluate([candidate("base", Scripted())], [sums], prompts, replace(plan, seed=1), tmp_path)
    assert json.loads((tmp_path / "sums/base/settings.json").read_text())["seed"] == 1


class Deaf(Scripted):
    """Takes no notice of its seeds."""

    def generate(self, prompts, seeds):
        return super().generate(prompts, [1] * len(seeds))


def test_runs_that_repeat_each_other_are_refused(sums, prompts, plan, tmp_path):
    with pytest.raises(
        RunError,
        match="Runs 0 and 1 gave the same completion.*each of 10 problems.*takes no notice of the "
        "seeds",
    ):
        evaluate([candidate("deaf", Deaf())], [sums], prompts, plan, tmp_path)
    assert (
        len((tmp_path / "sums/deaf/samples.jsonl").read_text().splitlines()) == 20
    )  # no third run was drawn


def test_one_greedy_run_is_fine_and_several_are_refused(sums, prompts, plan, tmp_path):
    greedy = replace(plan, sampling=Sampling(temperature=0.0, max_new_tokens=64), runs=1)
    assert (
        evaluate([candidate("a", Deaf())], [sums], prompts, greedy, tmp_path)
        .score("a", "sums")
        .accuracy
        == 1
    )
    with pytest.raises(ValueError, match="3 runs at temperature 0 would be one run 3 times over"):
        replace(greedy, runs=3)


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"limit": 0}])
def test_nothing_to_do_is_an_error(plan, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be at least 1, got 0"):
        replace(plan, **wrong)


def test_a_question_that_does_not_fit_is_named(sums, plan, tmp_path):
    tight = PromptBuilder(byte_tokenizer(), Prompts(), room=60)
    with pytest.raises(
        DataError, match=r"sums.jsonl:1: its question takes \d+ tokens, and 60 are left"
    ):
        evaluate([candidate("a", Scripted())], [sums], tight, plan, tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("a/samples.jsonl", 5, "{oops"),
        ("a/samples.jsonl", 5, '{"id": "s1", "run": 0}'),
        ("a/grades.jsonl", 5, '["s1"]'),
        ("a/settings.json", 0, '{"weights": "weights o'),
        ("a/settings.json", 0, "[1]"),
        ("asked.json", 0, '{"questions": ["s1"]}'),
    ],
)
def test_what_is_damaged_is_named(sums, prompts, plan, tmp_path, name, line, text):
    evaluate([candidate("a", Scripted())], [sums], prompts, plan, tmp_path)
    file = tmp_path / "sums" / name
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[: line - 1], text + "\n", *lines[line:]]) if line else text)
    where = f"{file}{f':{line}' if line else ''} is damaged"
    evaluating = partial(
        evaluate,
        [candidate("a", Scripted())],
        [replace(sums, name="more")],
        prompts,
        plan,
        tmp_path,
    )
    for work in (evaluating, partial(regrade, tmp_path), Arm(tmp_path, "a").graded):
        with pytest.raises(RunError, match=where):
            work()


def test_the_miniatures_questions_are_graded_by_its_own_grader():
    benchmark = load_benchmark("countdown")
    question = benchmark.questions[0]
    for text, verdict in [(question.answer, "correct"), ("1 + 1", "incorrect")]:
        assert (
            benchmark.grader(question.problem, question.answer, f"So \\boxed{{{text}}}").verdict
            == verdict
        )
    assert benchmark.grader(question.problem, question.answer, "no idea").reason == "no box"
    cut = f"So \\boxed{{{question.answer}}}. But \\boxed{{1 +"
    assert benchmark.grader(question.problem, question.answer, cut).reason == "cut off"
    assert len({q.id for q in benchmark.questions}) == len(benchmark.questions) > 1500
    assert [q.id for q in benchmark.first(5).questions] == [q.id for q in benchmark.questions][:5]


class Neighbourly(Scripted):
    """What a row writes depends on its batch, as rounding may."""

    def generate(self, prompts, seeds):
        return super().generate(prompts, [seed // 97 * 97 + sum(seeds) % 97 for seed in seeds])


def test_a_row_drawn_again_has_the_neighbours_it_had(sums, prompts, plan, tmp_path):
    evaluate([candidate("a", Neighbourly())], [sums], prompts, plan, tmp_path)
    file = tmp_path / "sums/a/samples.jsonl"
    before = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(before[:5] + before[6:]))
    evaluate([candidate("a", Neighbourly())], [sums], prompts, plan, tmp_path)
    assert sorted(file.read_bytes().splitlines(keepends=True)) == sorted(before)


class Alone(Scripted):
    """Its rows have no neighbours, and come from the last to the first, until it is killed."""

    left: int = 100

    def generate_missing(self, prompts, seeds, missing, on_done):
        for index in reversed(missing):
            if self.left == 0:
                raise Killed
            self.left -= 1
            (completion,) = super().generate([prompts[index]], [seeds[index]])
            on_done({index: completion})


def test_rows_without_neighbours_are_kept_as_they_come(sums, prompts, plan, tmp_path):
    killed, rest, whole = Alone(), Alone(), Scripted()
    killed.left = 6
    with pytest.raises(Killed):
        evaluate([candidate("a", killed)], [sums], prompts, plan, tmp_path / "cut")
    file = tmp_path / "cut/sums/a/samples.jsonl"
    assert len(file.read_text().splitlines()) == 6  # a batch has four
    evaluate([candidate("a", rest)], [sums], prompts, plan, tmp_path / "cut")
    assert len(rest.seen) == 24
    evaluate([candidate("a", whole)], [sums], prompts, plan, tmp_path / "whole")
    assert sorted(file.read_text().splitlines()) == sorted(
        (tmp_path / "whole/sums/a/samples.jsonl").read_text().splitlines()
    )


def test_only_what_was_last_asked_is_counted(sums, prompts, plan, tmp_path):
    evaluate([candidate("a", Scripted(0.5))], [sums], prompts, plan, tmp_path)
    fewer = evaluate(
        [candidate("a", Scripted(0.5))], [sums], prompts, replace(plan, runs=2, limit=5), tmp_path
    ).score("a", "sums")
    grades = [
        json.loads(line) for line in (tmp_path / "sums/a/grades.jsonl").read_text().splitlines()
    ]
    asked = [row["verdict"] == "correct" for row in grades if row["run"] < 2 and row["id"] < "s5"]
    assert (fewer.samples, fewer.partial, len(asked)) == (10, False, 10)
    assert fewer.accuracy == sum(asked) / 10
