"""Files that are no JSON end in the project's own error, however they are damaged."""

import pytest

from purified_opsd.errors import RunError
from purified_opsd.storage.files import parse_json, read_jsonl

DAMAGED = ["{", "1" * 5000, "[" * 100_000 + "]" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=["cut off", "5,000 digits", "100,000 brackets"])
def test_what_is_no_json_is_said(tmp_path, text):
    file = tmp_path / "x.jsonl"
    file.write_text(f"{text}\n")
    with pytest.raises(RunError, match="x.jsonl is damaged: it is no JSON"):
        parse_json(file)
    with pytest.raises(RunError, match="x.jsonl:1 is damaged: it is no JSON"):
        list(read_jsonl(file))
