"""A finished quickstart, asked for again: it answers from what is there, and makes anew only what
is missing, damaged or of other weights.
"""

import json
import shutil

import pytest

from purified_opsd.evaluation.comparison import compare_candidates
from purified_opsd.quickstart.arm import ARMS, BENCHMARK, Arm, Quickstart

from .conftest import SMALL

SETTINGS = Quickstart(steps=3, questions=4, samples=2)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it, with the times of its files, that a test may spoil."""
    return shutil.copytree(finished[0], tmp_path / "quick")


def logs(folder):
    return [(folder / f"{arm}.log").read_bytes() for arm in ARMS]


def left(folder, arm="pmi"):
    return [command[0] for command in Arm(arm, SETTINGS, folder / arm).left]


def pages(folder):
    """Every page and figure, and when it was written."""
    files = [*folder.glob("summary.*"), folder / "report.html", *folder.glob("report_files/*")]
    return {file: file.stat().st_mtime_ns for file in files}


def test_it_answers_with_the_same_table_and_does_nothing(command, folder, finished):
    before, written = logs(folder), pages(folder)
    code, output, errors = command("quickstart", "--output-dir", folder, *SMALL)
    assert code == 0, errors
    assert f"{folder} is finished: every number in it is of the weights beside it." in output
    assert (folder / "summary.md").read_text() in output
    assert (folder / "summary.md").read_text() in finished[1]
    assert "%|" not in errors  # no bar
    assert (logs(folder), pages(folder)) == (before, written)


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("report.html", "summary.png"),
        ("report_files/accuracy.csv", "summary.png"),
        ("summary.svg", "report.html"),
        ("summary.md", "report.html"),
    ],
)
def test_a_page_that_is_gone_is_made_again_and_no_other(command, folder, page, kept):
    before, written = logs(folder), pages(folder)
    (folder / page).unlink()
    code, output, _ = command("quickstart", "--output-dir", folder, *SMALL)
    assert code == 0
    assert "| standard, step 3 |" in output
    assert (folder / page).exists()
    assert pages(folder)[folder / kept] == written[folder / kept]
    assert logs(folder) == before


def test_pages_older_than_what_they_show_are_made_again(command, folder):
    results = folder / "pmi/evaluation/results.json"
    text = results.read_text()
    record = json.loads(text)
    for score in record["scores"]:
        score["mean_tokens"] = 12345.0
    results.write_text(json.dumps(record))
    _, output, _ = command("quickstart", "--output-dir", folder, *SMALL)
    assert " 12345 " in output
    assert "12345" in (folder / "report.html").read_text()


def edited(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def other_weights(run):
    """As where a checkpoint was trained anew."""
    file = run / "checkpoints/step-000003/manifest.json"
    manifest = json.loads(file.read_text())
    manifest["adapter/adapter_model.safetensors"]["sha256"] = "0" * 64
    file.write_text(json.dumps(manifest))


ALL = ["evaluate", "diagnose", "microscope"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda run: None, []),
        (lambda run: (run / "evaluation/results.json").unlink(), ALL[:1]),
        (lambda run: (run / "evaluation/results.json").write_text("{"), ALL[:1]),
        (
            lambda run: edited(run / "evaluation/results.json", '"samples": 4', '"samples": 3'),
            ALL[:1],
        ),
        (lambda run: shutil.rmtree(run / "evaluation"), ALL[:1]),
        (lambda run: (run / "diagnosis/base.json").unlink(), ALL[1:2]),
        (lambda run: (run / "diagnosis/step-000003.json").unlink(), ALL[1:2]),
        (lambda run: (run / "diagnosis/step-000003.jsonl").write_text(""), ALL[1:2]),
        (lambda run: (run / "microscope.html").unlink(), ALL[2:]),
        (lambda run: (run / "microscope/step-000003/001.json").unlink(), ALL[2:]),
        (lambda run: (run / "microscope/step-000003/001.json").write_text("[]"), ALL[2:]),
        (other_weights, ALL),
        (
            lambda run: shutil.copytree(
                run / "checkpoints/step-000003", run / "checkpoints/step-000004"
            ),
            ALL,
        ),
        (lambda run: shutil.rmtree(run / "checkpoints/step-000003"), ["resume", *ALL]),
    ],
)
def test_only_what_is_missing_or_of_other_weights_is_left(folder, spoil, expected):
    spoil(folder / "pmi")
    assert left(folder) == expected
    assert left(folder, "standard") == []


def test_what_is_missing_is_measured_again(command, folder):
    (folder / "standard/diagnosis/step-000002.json").unlink()
    before = logs(folder)
    code, output, errors = command("quickstart", "--output-dir", folder, *SMALL)
    assert code == 0, errors
    assert "It goes on; what is left of pmi: nothing; of standard: diagnose." in output
    assert logs(folder)[0] == before[0]
    new = (folder / "standard.log").read_text()[len(before[1].decode()) :]
    assert new.count("$ purified-opsd ") == 1
    assert (folder / "standard/diagnosis/step-000002.json").exists()


def test_another_number_of_steps_is_refused(command, folder):
    words = ["--steps", "6", *SMALL[2:]]
    code, _, errors = command("quickstart", "--output-dir", folder, *words)
    assert code != 0
    assert "was begun with {'steps': 3, " in " ".join(errors.split())


def test_the_summary_says_what_the_arms_differ_by_as_compare_does(folder):
    text = (folder / "summary.md").read_text()
    pmi, standard = ((folder / arm / "evaluation", "step-000003") for arm in ARMS)
    difference = compare_candidates(pmi, standard).by_benchmark[BENCHMARK]
    said = (
        f"* pmi/step-000003 minus standard/step-000003 on countdown: {100 * difference.value:+.1f} "
    )
    assert f"{said}points" in text
    assert f"p = {difference.p_value:.3f}, paired by question" in text.split(said)[1].split("\n")[0]
    assert "* standard/step-000003 minus standard/base on countdown: " in text


def test_it_says_before_its_bar_what_it_does_how_long_and_where(finished):
    folder, out = finished
    opening = out.split("%|")[0]
    assert "3 steps" in opening
    assert "3 checkpoints are then evaluated on 4 questions" in opening
    assert "about 1 minute on two idle processor cores" in opening
    assert f"Everything goes to {folder}" in opening
    assert "Ctrl-C stops and saves; the same command goes on." in opening
