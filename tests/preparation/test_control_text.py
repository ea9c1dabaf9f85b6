"""A preparation counts control tokens in rows as the text they are, and remarks on them."""

import json

import pyarrow.parquet

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.preparation.prepare import LongReference, prepare_rows

from ..conftest import byte_tokenizer


def test_a_mark_in_a_reference_is_as_long_as_its_text(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"problem": "Why?", "solution": "So <|end|><|end|>"}) + "\n")
    kept = prepare_rows(TrainingSet(str(file)), [LongReference(byte_tokenizer(), 17)])
    assert len(kept.rows) == 1
    longer = json.dumps({"problem": "And?", "solution": "Short."}) + "\n"
    file.write_text(file.read_text() + longer)
    [(_, finding)] = prepare_rows(
        TrainingSet(str(file)), [LongReference(byte_tokenizer(), 16)]
    ).findings
    assert finding.detail == "17 tokens"


def test_rows_that_spell_control_tokens_are_remarked_on(command, tiny_model, tmp_path):
    rows = [
        {"problem": "What is 1?", "solution": "<think>It is.</think>", "id": "plain"},
        {"problem": "Is <|end|> it?", "solution": "It is.", "id": "problem"},
        {"problem": "What is 3?", "solution": "It is `<|user|>`.", "id": "reference"},
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokens = ("--tokenizer", tiny_model, "--max-reference-tokens", "100")
    words = ("set.jsonl", "--output", "x.parquet", "--benchmarks", "null")
    code, output, errors = command("prepare", *words, *tokens)
    assert code == 0, errors
    assert "2 kept with a remark: spells a control token, which stays text in prompts" in output
    written = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert {row["id"]: bool(row["remark"]) for row in written} == {
        "plain": False,
        "problem": True,
        "reference": True,
    }
    assert [row["problem"] for row in written] == [row["problem"] for row in rows]
    report = [json.loads(line) for line in (tmp_path / "x.report.jsonl").read_text().splitlines()]
    assert "<|user|>" in report[1]["detail"]
