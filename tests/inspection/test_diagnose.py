"""The diagnosis of a run: its files, its intervals, and the part of it that is taken on the way."""

import json
from dataclasses import replace
from math import sqrt

import pytest

from purified_opsd.analysis.teacher_signal import measure
from purified_opsd.errors import RunError
from purified_opsd.inspection.diagnose import diagnose_run, summary
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.run import start_run
from purified_opsd.training.train import sample_rollouts, training_step

from ..runs import assert_same_run


def test_a_summary_has_means_and_intervals_over_completions():
    found = summary([{"x": 1.0}, {"x": 3.0}])["x"]
    assert (found["mean"], found["standard_error"]) == (2.0, 1.0)
    assert (found["low"], found["high"]) == pytest.approx(
        (2 - 12.7062, 2 + 12.7062), abs=1e-4
    )  # Student's t of one degree
    five = summary([{"x": float(value)} for value in (1, 2, 3, 4, 5)])["x"]
    assert five["high"] - five["mean"] == pytest.approx(
        2.7764 * sqrt(2.5 / 5), rel=5e-3
    )  # of four degrees
    assert summary([{"x": 4.0}]) == {
        "x": {"mean": 4.0, "standard_error": None, "low": None, "high": None}
    }


def test_markers_are_counted_in_every_candidates_completions(tiny_run):
    start_run(tiny_run)
    folder = diagnose_run(tiny_run, 4, 0)
    before = {file.name: file.read_bytes() for file in folder.glob("*.json")}
    assert sorted(before) == ["base.json", "step-000002.json", "step-000004.json"]
    texts = [
        json.loads(line)["text"].lower()
        for line in (folder / "base.jsonl").read_text().splitlines()
    ]
    own = texts[0][3]
    diagnose_run(replace(tiny_run, markers=(own,)), 4, 0)
    record = json.loads((folder / "base.json").read_text())
    assert (
        record["marker_counts"]["substring"]["by_marker"][own]
        == sum(text.count(own) for text in texts)
        > 0
    )
    assert own not in json.loads(before["base.json"])["marker_counts"]["substring"]["by_marker"]
    diagnose_run(tiny_run, 4, 0)
    assert {file.name: file.read_bytes() for file in folder.glob("*.json")} == before
    for file, content, said in (
        ("base.jsonl", "3\n", "it holds int"),
        ("base.json", "{", "no JSON"),
        ("base.json", "{}", "no `settings`"),
    ):
        (folder / file).write_text(content)
        with pytest.raises(RunError, match=f"{file}.* is damaged: .*{said}"):
            diagnose_run(tiny_run, 4, 0)


def test_a_decomposition_on_the_way_changes_nothing_and_is_in_the_metrics(tiny_run, tmp_path):
    run = replace(tiny_run, adapter=replace(tiny_run.adapter, dropout=0.2))
    start_run(run)
    watched = replace(run, decompose_per_step=2, output_dir=tmp_path / "watched")
    start_run(watched)
    rows = RunReader(watched.output_dir).metrics()
    found = [row.pop("decomposition") for row in rows]
    (watched.output_dir / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    assert_same_run(run.output_dir, watched.output_dir)
    assert all("decomposition" in row["seconds"] for row in rows)
    assert (
        abs(found[0]["kl_to_base"]) < 1e-6 < found[1]["kl_to_base"]
    )  # the student begins as its base
    assert found[0]["weighted_norm_fraction_ref"] > 0


@pytest.mark.parametrize("target", [PMITarget(beta=2.0), TeacherTarget()])
def test_the_decomposition_is_of_the_student_before_its_update(adapted_setup, target):
    config = replace(adapted_setup.config, decompose_per_step=2, target=target)
    setup = replace(adapted_setup, config=config)
    rollouts = sample_rollouts(setup, 0)[:2]
    diagnosed_with = target if isinstance(target, PMITarget) else PMITarget()
    prompts, completions = (
        [rollout.prompts for rollout in rollouts],
        [rollout.completion for rollout in rollouts],
    )
    wanted = [
        found.numbers for found in measure(setup.policy, prompts, completions, diagnosed_with, 4096)
    ]
    found = training_step(setup, 0).decompositions
    assert len(found) == 2
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-9)
