"""One rule of significance: every place that speaks of the same two candidates says the same."""

import json

import pytest
import yaml

from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.comparison import compare_candidates
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.evaluation.summary import comparison_table, table
from purified_opsd.reporting.runs import read_runs
from purified_opsd.reporting.tables import table_1

from .conftest import Scripted, candidate


def first_sums(folder, count):
    """A benchmark of the first `count` sums."""
    file = folder / "first.jsonl"
    rows = [
        {"id": f"f{i}", "problem": f"What is {i} + {i}?", "answer": str(2 * i)}
        for i in range(count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(str(file))


def said_of(results, run, name):
    """What table, results.json, comparison and report say of a checkpoint beside the base: the sign
    of a significant difference, else 0.
    """
    folder = run / "evaluation"
    row = next(line for line in table(results).splitlines() if line.startswith(f"| {name} "))
    record = json.loads((folder / "results.json").read_text())["differences_to_base"]
    (difference,) = [one for one in record if one["candidate"] == name]
    sides = comparison_table(compare_candidates((folder, name), (folder, "base"))).splitlines()
    cells = {cells[0]: cells[1] for cells in table_1(read_runs([run])).rows}
    (cell,) = [text for label, text in cells.items() if label.endswith(str(int(name[5:])))]
    return {
        "results.json": difference["significant"] * (1 if difference["value"] > 0 else -1),
        "compare": ("**" in sides[2]) - ("**" in sides[3]),
        "report": ("▲" in cell) - ("▼" in cell),
    }, "**" in row


@pytest.mark.parametrize(
    ("problems", "base", "checkpoint", "sign"),
    [
        # Five of six problems differ in the same direction, and the interval does not hold 0; but
        # one way of flipping signs in 16 gives as much: p = 0.0625.
        (6, 0.2, 1.0, 0),
        (7, 0.2, 1.0, 1),  # six of seven: p = 0.031
        (6, 1.0, 0.2, 0),
        (7, 1.0, 0.2, -1),
    ],
)
def test_all_say_the_same_of_a_borderline_case(
    prompts, eval_request, tmp_path, problems, base, checkpoint, sign
):
    run = tmp_path / "run"
    folder = run / "evaluation"
    results = evaluate(
        [candidate("base", Scripted(base)), candidate("step-000002", Scripted(checkpoint))],
        [first_sums(tmp_path, problems)],
        prompts,
        eval_request,
        folder,
    )
    settings = {"model": {"path": "m"}, "data": {"path": "d"}, "target": {"kind": "pmi"}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "data.json").write_text("{}")
    comparison = compare_candidates((folder, "step-000002"), (folder, "base"))
    assert comparison.overall.low * comparison.overall.high > 0
    assert 0 < comparison.overall.standard_error < abs(comparison.overall.value) / 1.96
    signs, bold = said_of(results, run, "step-000002")
    assert signs == dict.fromkeys(signs, sign)
    assert bold == (sign > 0)  # the table marks what is better only
