"""Preparing a set: the sample is training's own, the checks see every row that is drawn, the files
are whole or not there.
"""

import json
import random
import resource

import pyarrow
import pyarrow.parquet
import pytest

from purified_opsd.data.dataset import AfterThink, Columns, TrainingSet, load_examples
from purified_opsd.errors import DataError
from purified_opsd.preparation import prepare
from purified_opsd.preparation.prepare import Finding, LongReference, prepare_rows
from purified_opsd.preparation.write import beside, write_prepared

from ..conftest import byte_tokenizer
from ..data.test_dataset import write

ROWS = [
    {"problem": f"q{i}", "solution": "s" * (i + 1), "answer": str(i), "id": f"id{i}"}
    for i in range(40)
]


def drops(*ids):
    """A check that drops these rows and remarks on id0."""

    def check(examples):
        return [
            Finding("unwanted", e.problem, True)
            if e.id in ids
            else Finding("first", "here", False)
            if e.id == "id0"
            else None
            for e in examples
        ]

    return check


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "set.jsonl", ROWS)


@pytest.mark.parametrize("held", [3, 10_000])
def test_the_sample_is_the_one_that_training_takes(source, monkeypatch, held):
    monkeypatch.setattr(prepare, "ROWS_HELD", held)
    for subset in (None, 7, 40):
        settings = TrainingSet(source, subset=subset, subset_seed=3)
        assert prepare_rows(settings, []).rows == load_examples(settings).rows


@pytest.mark.parametrize("held", [3, 10_000])
def test_a_dropped_row_makes_room_for_the_next_draw(source, tmp_path, monkeypatch, held):
    monkeypatch.setattr(prepare, "ROWS_HELD", held)
    settings = TrainingSet(source, subset=7)
    first = [e.id for e in load_examples(settings).rows]
    prepared = prepare_rows(settings, [drops(*first)])
    rest = write(tmp_path / "rest.jsonl", [row for row in ROWS if row["id"] not in first])
    assert [e.id for e in prepared.rows] == [
        e.id for e in load_examples(TrainingSet(rest, subset=7)).rows
    ]
    assert (prepared.usable, prepared.looked_at) == (40, 14)
    assert prepared.counts(drops=True) == {"unwanted": 7}


def test_what_is_written_opens_in_training_as_it_is(source, tmp_path):
    prepared = prepare_rows(TrainingSet(source, subset=30), [drops("id3", "id4")])
    output = tmp_path / "x.parquet"
    write_prepared(prepared, {"set": source}, output)
    examples = load_examples(TrainingSet(str(output)))
    assert [(e.id, e.problem, e.reference, e.answer) for e in examples.rows] == [
        (e.id, e.problem, e.reference, e.answer) for e in prepared.rows
    ]
    manifest, report = beside(output)
    record = json.loads(manifest.read_text())
    assert record["fingerprint"] == examples.fingerprint
    assert record["ids"] == [e.id for e in prepared.rows]
    assert (record["rows"], record["set"]) == (30, source)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    dropped = {line["id"]: line for line in lines if line["dropped"]}
    assert dropped["id3"] == {
        "id": "id3",
        "where": f"{source}:4",
        "dropped": True,
        "reason": "unwanted",
        "detail": "q3",
    }
    assert record["dropped"] == {"unwanted": len(dropped)}
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "set.jsonl",
        "x.manifest.json",
        "x.parquet",
        "x.report.jsonl",
    ]


def test_a_remark_stays_with_its_row(source, tmp_path):
    prepared = prepare_rows(TrainingSet(source), [drops("id1")])
    write_prepared(prepared, {}, tmp_path / "x.parquet")
    remarks = {
        row["id"]: row["remark"]
        for row in pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    }
    assert (remarks["id0"], remarks["id2"], len(remarks)) == ("first: here", None, 39)
    assert prepared.counts(drops=False) == {"first": 1}


def test_rows_without_answers_stay_without(tmp_path):
    source = write(
        tmp_path / "set.jsonl", [{"input": "q", "output": "<think>hm</think>s", "uuid": "u"}]
    )
    settings = TrainingSet(
        source, columns=Columns("input", "output", id="uuid"), reference=AfterThink()
    )
    write_prepared(prepare_rows(settings, []), {}, tmp_path / "x.parquet")
    (example,) = load_examples(TrainingSet(str(tmp_path / "x.parquet"))).rows
    assert (example.id, example.problem, example.reference, example.answer) == ("u", "q", "s", None)


def test_references_are_counted_in_tokens(source):
    rows = prepare_rows(TrainingSet(source), [LongReference(byte_tokenizer(), 12)])
    assert [e.id for e in rows.rows] == [f"id{i}" for i in range(12)]
    assert rows.findings[0][1] == Finding("reference longer than 12 tokens", "13 tokens", True)
    # what is few tokens, but many bytes, stays
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["ssss"])
    assert len(prepare_rows(TrainingSet(source), [LongReference(tokenizer, 5)]).rows) > 5


def test_too_few_rows_pass(source):
    with pytest.raises(
        DataError, match="has 40 usable rows, but a sample of 41 is asked for. .*--subset"
    ):
        prepare_rows(TrainingSet(source, subset=41), [])
    with pytest.raises(DataError, match="has 40 usable rows, but a sample of 0 is asked for"):
        prepare_rows(TrainingSet(source, subset=0), [])
    with pytest.raises(
        DataError,
        match="38 of the 40 usable rows of .* pass, but a sample of 39 .* unwanted \\(2\\); the "
        "first, .*set.jsonl:",
    ):
        prepare_rows(TrainingSet(source, subset=39), [drops("id5", "id6")])
    with pytest.raises(
        DataError, match="0 of the 40 usable rows of .* pass. Dropped: unwanted \\(40\\)"
    ):
        prepare_rows(TrainingSet(source), [drops(*(row["id"] for row in ROWS))])


def test_bad_rows_are_refused_as_in_training(tmp_path):
    source = write(tmp_path / "set.jsonl", [ROWS[0], {"problem": "q"}, ROWS[0]])
    with pytest.raises(
        DataError,
        match="2 of 3 rows of .*\n.*set.jsonl:2: .*\n.*set.jsonl:3: its id 'id0' already stands",
    ):
        prepare_rows(TrainingSet(source), [])
    assert prepare_rows(TrainingSet(source, on_bad_row="skip"), []).skipped == 2


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path):
    noise = [{"problem": "q", "solution": random.Random(0).randbytes(100_000).hex()}]
    prepared = prepare_rows(TrainingSet(write(tmp_path / "set.jsonl", noise)), [])
    folder = tmp_path / "out"
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (50_000, before[1])
    )  # room for manifest and report, not for the rows
    try:
        with pytest.raises(OSError, match="File too large"):
            write_prepared(prepared, {}, folder / "x.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []
    write_prepared(prepared, {}, folder / "x.parquet")
    assert len(list(folder.iterdir())) == 3
