"""The row of a completion: what is written is read, and what is damaged is named."""

import json

import pytest

from purified_opsd.errors import RunError
from purified_opsd.storage.completions import (
    CompletionRow,
    read_completion,
    read_completions,
    write_completion,
    write_completions,
)

ROWS = [
    CompletionRow("p1", "stop", "a\u2028b\n", [5, 6], seed=7, extras={"run": 0}),
    CompletionRow("p2", "length", "", [5], extras={"run": 1}),
]


def test_rows_are_read_as_they_were_written(tmp_path):
    write_completions(tmp_path / "rows.jsonl", ROWS)
    assert list(read_completions(tmp_path / "rows.jsonl", "run")) == ROWS
    write_completion(tmp_path / "row.json", ROWS[0])
    assert read_completion(tmp_path / "row.json", "run") == ROWS[0]
    assert list(read_completions(tmp_path / "nowhere.jsonl")) == []


def test_a_line_holds_the_common_fields_and_the_extras(tmp_path):
    write_completions(tmp_path / "rows.jsonl", ROWS)
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    first, second = (json.loads(line) for line in lines[:2])
    assert first == {
        "id": "p1",
        "seed": 7,
        "finish_reason": "stop",
        "text": "a\u2028b\n",
        "completion_ids": [5, 6],
        "run": 0,
    }
    assert "seed" not in second


def test_an_unfinished_last_line_is_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    write_completions(file, ROWS)
    file.write_bytes(file.read_bytes()[:-3])
    assert list(read_completions(file)) == ROWS[:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finish_reason": "end"}, 'its `finish_reason` is "end", not "stop" or "length"'),
        ({"finish_reason": ["stop"]}, r'its `finish_reason` is \["stop"\], not'),
        ({"completion_ids": "5, 6"}, "its `completion_ids` are no list of token ids"),
        ({"completion_ids": [5, 0.5]}, "its `completion_ids` are no list of token ids"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, change, message):
    file = tmp_path / "rows.jsonl"
    rows = [row.to_json() for row in ROWS]
    rows[1] |= change
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RunError, match=f"rows.jsonl:2 is damaged: {message}.*Delete that line"):
        list(read_completions(file, remedy="Delete that line."))


def test_a_missing_field_or_extra_is_named(tmp_path):
    write_completions(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(RunError, match=r"rows.jsonl:1 is damaged: it has no `step`\. Nothing"):
        list(read_completions(tmp_path / "rows.jsonl", "step"))
    (tmp_path / "row.json").write_text('{"id": "p1"}')
    with pytest.raises(RunError, match="row.json is damaged: it has no `finish_reason`"):
        read_completion(tmp_path / "row.json")
