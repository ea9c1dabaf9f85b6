"""What ends a completion is part of how samples were drawn."""

import json
from dataclasses import replace

import pytest

from purified_opsd.errors import RunError
from purified_opsd.evaluation.evaluate import evaluate

from ..policy.test_turn_end import CHATML, Case
from .conftest import Scripted, candidate


def test_samples_with_other_ends_do_not_mix(sums, prompts, eval_request, tmp_path):
    before = replace(candidate("a", Scripted()), ends=(1,))
    evaluate([before], [sums], prompts, eval_request, tmp_path)
    now = replace(before, ends=(1, 2))
    with pytest.raises(
        RunError, match=r"sums/a holds samples drawn with ends = \[1\], and \[1, 2\]"
    ):
        evaluate([now], [sums], prompts, eval_request, tmp_path)
    other_model = replace(candidate("b", Scripted()), ends=(7,))
    results = evaluate([other_model], [sums], prompts, eval_request, tmp_path)
    assert results.score("b", "sums").accuracy == 1


def test_samples_of_a_version_that_recorded_no_ends_are_gone_on_with(
    sums, prompts, eval_request, tmp_path
):
    evaluate([candidate("a", Scripted())], [sums], prompts, eval_request, tmp_path)
    file = tmp_path / "sums" / "a" / "settings.json"
    record = json.loads(file.read_text())
    del record["ends"]
    file.write_text(json.dumps(record))
    sampler = Scripted()
    now = replace(candidate("a", sampler), ends=(1,))
    evaluate([now], [sums], prompts, replace(eval_request, runs=4), tmp_path)
    assert sampler.seen  # of the fourth run


def test_no_text_of_an_invented_turn_is_graded(command, tmp_path, caplog):
    """The configs name only <|endoftext|>, and the model goes on after <|im_end|>."""
    model = Case(tmp_path / "model", CHATML)
    end_of_text, end_of_turn = model.id("<|endoftext|>"), model.id("<|im_end|>")
    model.name(generation=end_of_text, config=end_of_text, tokenizer="<|im_end|>")
    rows = [{"id": str(i), "problem": f"What is {i}?", "answer": str(i)} for i in range(12)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--benchmarks", tmp_path / "own.jsonl", "--output-dir", tmp_path / "out", "--runs", 2)
    sampling = ("--sampling.temperature", 5, "--sampling.top-p", 1, "--sampling.max-new-tokens", 99)
    code, _, errors = command("evaluate", model.folder, *words, *sampling)
    assert code == 0, errors
    assert f"<|im_end|> ({end_of_turn}), by the tokenizer and the chat template" in caplog.text
    (file,) = (tmp_path / "out").glob("own/*/samples.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    stopped = [row["completion_ids"] for row in samples if row["finish_reason"] == "stop"]
    assert any(ids[-1] == end_of_turn for ids in stopped)
    assert not any(end_of_turn in row["completion_ids"][:-1] for row in samples)
