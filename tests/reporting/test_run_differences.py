"""What two runs of a report differ by: of the questions that both have, as `compare` says it."""

import re
import shutil

import pytest

from purified_opsd.cli.main import run_command
from purified_opsd.evaluation.comparison import compare_candidates
from purified_opsd.evaluation.comparison_notes import difference_text
from purified_opsd.reporting.run_differences import run_differences
from purified_opsd.reporting.runs import read_runs


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """A run of each arm on the miniature, one asked four questions and the other three."""
    folder = tmp_path_factory.mktemp("runs")
    short = ["--sampling.max-new-tokens", "60"]
    for arm, limit in (("pmi", "4"), ("standard", "3")):
        run = str(folder / arm)
        words = [f"miniature.{arm}", "--output-dir", run, "--steps", "1", "--batch-size", "2"]
        run_command(["train", *words, *short])
        asked = ["--benchmarks", "countdown", "--runs", "1", "--limit", limit]
        run_command(["evaluate", run, *asked, *short])
    return [folder / "pmi", folder / "standard"]


def test_the_page_says_what_the_runs_differ_by_on_shared_questions(arms, tmp_path):
    page = tmp_path / "page.html"
    run_command(["report", *map(str, arms), "--output", str(page)])
    text = " ".join(re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", page.read_text()).split())
    expected = compare_candidates(
        (arms[0] / "evaluation", "step-000001"), (arms[1] / "evaluation", "step-000001")
    )
    both = expected.shared["countdown"]
    ours, theirs = (100 * sum(each.values()) / 3 for each in (both.first, both.second))
    row = f"pmi, step 1 − standard, step 1 countdown 3 {ours:.1f} {theirs:.1f}"
    assert f"{row} {difference_text(expected.overall)}" in text
    assert "countdown: 3 questions shared; left out: 1 that only pmi/step-000001 has." in text


def test_what_cannot_be_compared_is_said_with_the_reason(arms, tmp_path):
    warmer = shutil.copytree(arms[1], tmp_path / "warmer")
    for file in (warmer / "evaluation/countdown").glob("*/settings.json"):
        file.write_text(re.sub(r'"temperature": [\d.]+', '"temperature": 7.5', file.read_text()))
    table = run_differences(read_runs([arms[0], warmer]))
    assert table.rows == []
    assert "warmer is not compared: On countdown the arms were not asked alike: tempera" in (
        table.caption
    )


def test_one_run_alone_differs_from_nothing(arms):
    assert run_differences(read_runs(arms[:1])) is None
