"""`diagnose` prints what it measured: Fig. 3 for each model, with the errors of the files."""

import json

import pytest

from purified_opsd.training.run import start_run

WEIGHINGS = {"every row alike": "", "by probability": "weighted_", "64 likeliest": "top64_"}
NUMBERS = ["cos_ref", "cos_it", "norm_fraction_ref", "norm_fraction_it"]


@pytest.fixture
def trained(tiny_run):
    start_run(tiny_run)
    return tiny_run.output_dir


def table_of(output):
    """The cells of each row, and the lines of the table."""
    lines = [line for line in output.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]], lines


def test_the_table_has_every_model_and_weighing_with_the_errors_of_the_files(command, trained):
    code, output, errors = command("diagnose", trained, "--samples", "3")
    assert code == 0, errors
    rows, lines = table_of(output)
    models = ["base", "step-000002", "step-000004"]
    assert [row[:2] for row in rows] == [[name, each] for name in models for each in WEIGHINGS]
    for name, weighing, *cells in rows:
        summary = json.loads((trained / f"diagnosis/{name}.json").read_text())["summary"]
        found = [summary[WEIGHINGS[weighing] + number] for number in NUMBERS]
        assert cells == [f"{one['mean']:.3f} ± {one['standard_error']:.3f}" for one in found]
    assert len({len(line) for line in lines}) == 1  # aligned
    assert "Means over completions ± one standard error." in output
    assert output.endswith(f"\nEverything is in {trained / 'diagnosis'}.\n")
    assert "%|" not in output  # the bar is on stderr, so that the table can be piped
    again = command("diagnose", trained, "--samples", "3")[1]
    assert again == output


def test_of_one_completion_no_error_is_told(command, trained):
    _, output, _ = command("diagnose", trained, "--samples", "1")
    rows, _ = table_of(output)
    assert len(rows) == 9
    assert not any("±" in cell for row in rows for cell in row)
