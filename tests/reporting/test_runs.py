import json

from purified_opsd.reporting.runs import Estimate, read_outcomes
from purified_opsd.reporting.terminal import markdown_table


def put(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def score(candidate, accuracy):
    return {
        "candidate": candidate,
        "benchmark": "countdown",
        "accuracy": accuracy,
        "interval": {"standard_error": 0.1},
    }


def test_outcomes_go_from_base_to_the_last_checkpoint_and_tell_what_was_not_measured(tmp_path):
    scores = [
        score("step-000100", 0.7),
        score("base", 0.5),
        {**score("base", 0.1), "benchmark": "aime25"},
    ]
    put(tmp_path / "evaluation" / "results.json", {"scores": scores})
    put(
        tmp_path / "diagnosis" / "step-000020.json",
        {"summary": {"cos_ref": {"mean": 0.8, "standard_error": 0.01}}},
    )
    found = read_outcomes(tmp_path, "countdown")
    assert [outcome.step for outcome in found] == [0, 20, 100]
    assert found[0].scored("accuracy", "interval") == Estimate(0.5, 0.1)
    assert found[1].scored("accuracy") is None
    assert found[1].diagnosis == {"cos_ref": Estimate(0.8, 0.01)}
    assert found[2].diagnosis == {}


def test_a_run_without_evaluation_or_diagnosis_has_no_outcomes(tmp_path):
    assert read_outcomes(tmp_path, "countdown") == []


def test_an_estimate_reads_with_its_error_or_without():
    assert Estimate(0.6543, 0.021).text(100) == "65.4 ± 2.1"
    assert Estimate(113.5, None).text(digits=0) == "114"


def test_a_table_is_markdown_in_columns():
    assert (
        markdown_table(("", "x"), [["base", "1"], ["b", "22"]])
        == "|      |  x |\n|------|---:|\n| base |  1 |\n| b    | 22 |\n"
    )
