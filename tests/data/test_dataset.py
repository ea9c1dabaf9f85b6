"""Reading training sets: every format, and every way in which a row can be wrong."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from purified_opsd.data.dataset import (
    READY_COLUMNS,
    AfterThink,
    AnswerOnly,
    Columns,
    TrainingSet,
    epoch_order,
    load_examples,
)
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import DataError

ROWS = [
    {"problem": f"q{i}", "solution": f"s{i}", "answer": str(i), "id": f"id{i}"} for i in range(7)
]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_format_gives_the_same_examples(tmp_path, suffix):
    examples = load_examples(TrainingSet(write(tmp_path / f"set{suffix}", ROWS)))
    assert [(e.id, e.problem, e.reference, e.answer) for e in examples.rows] == [
        (r["id"], r["problem"], r["solution"], r["answer"]) for r in ROWS
    ]
    assert examples.rows[2].where == f"{tmp_path}/set{suffix}:3"
    assert (
        examples.fingerprint
        == load_examples(TrainingSet(write(tmp_path / "same.jsonl", ROWS))).fingerprint
    )


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    write(tmp_path / "b.jsonl", ROWS[3:])
    write(tmp_path / "a.parquet", ROWS[:3])
    (tmp_path / "notes.txt").write_text("not data")
    assert [e.id for e in load_examples(TrainingSet(str(tmp_path))).rows] == [r["id"] for r in ROWS]


def test_columns_can_be_named(tmp_path):
    rows = [{"question": "q", "response": "<think>hm</think>s", "final": 7, "key": 3}]
    columns = Columns(problem="question", solution="response", answer="final", id="key")
    (example,) = load_examples(TrainingSet(write(tmp_path / "x.jsonl", rows), columns=columns)).rows
    assert (example.id, example.problem, example.reference, example.answer) == (
        "3",
        "q",
        "<think>hm</think>s",
        "7",
    )


def test_known_sets_bring_their_columns():
    assert READY_COLUMNS["jasonrqh/Math-CoT-20k"].problem == "question"
    assert READY_COLUMNS["Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b"].solution == "output"


def test_rows_without_ids_are_numbered(tmp_path):
    rows = [{"problem": "q", "solution": "s"}] * 2
    assert [e.id for e in load_examples(TrainingSet(write(tmp_path / "x.jsonl", rows))).rows] == [
        "row-1",
        "row-2",
    ]


def test_what_of_a_row_is_the_reference(tmp_path):
    file = write(
        tmp_path / "x.jsonl",
        [{"problem": "q", "solution": "<think>so</think>\nIt is 4.", "answer": 4}],
    )
    assert load_examples(TrainingSet(file)).rows[0].reference == "<think>so</think>\nIt is 4."
    assert load_examples(TrainingSet(file, reference=AfterThink())).rows[0].reference == "It is 4."
    assert (
        load_examples(TrainingSet(file, reference=AnswerOnly())).rows[0].reference
        == "The final answer is \\boxed{4}."
    )


def test_where_and_subset(tmp_path):
    rows = [{**row, "domain": "math" if i % 2 else "code"} for i, row in enumerate(ROWS)]
    file = write(tmp_path / "x.jsonl", rows)
    assert [e.id for e in load_examples(TrainingSet(file, where={"domain": "math"})).rows] == [
        "id1",
        "id3",
        "id5",
    ]
    (tmp_path / "torn.jsonl").write_text(
        '{"problem": "q", "solution": "s", "domain": "math"}\n{"problem"\n[1]\n'
    )
    with pytest.raises(DataError, match="2 of 3 rows"):
        load_examples(TrainingSet(str(tmp_path / "torn.jsonl"), where={"domain": "math"}))
    first, again, other = (
        load_examples(TrainingSet(file, subset=4, subset_seed=seed)).rows for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(first) == 4
    draws = {e.id: seed_for(0, "subset", e.id) for e in load_examples(TrainingSet(file)).rows}
    two = load_examples(TrainingSet(file, subset=2)).rows  # read in rounds of four rows
    assert sorted(e.id for e in two) == sorted(sorted(draws, key=draws.__getitem__)[:2])
    with pytest.raises(DataError, match="has 7 usable rows, but data.subset asks for 8"):
        load_examples(TrainingSet(file, subset=8))


BAD_ROWS = {
    "a column that is not there": (
        '{"question": "q", "solution": "s"}',
        "has no column 'problem' for the problem; it has question",
    ),
    "null": (
        '{"problem": null, "solution": "s"}',
        r"'problem' \(problem\) is null, not text; write a string",
    ),
    "a number for text": (
        '{"problem": "q", "solution": 5}',
        r"'solution' \(solution\) is a int, not text",
    ),
    "empty text": (
        '{"problem": "q", "solution": "  "}',
        r"'solution' \(solution\) is empty; fill it in",
    ),
    "broken JSON": (
        '{"problem": "q", "solution"',
        "it is not JSON: .* at column 28; write one JSON object a line",
    ),
    "a list": ('["q", "s"]', "it holds a list, not an object"),
    "an answer of no use": (
        '{"problem": "q", "solution": "s", "answer": [1]}',
        r"'answer' \(answer\) is a list",
    ),
    "half a character": ('{"problem": "\\ud83d", "solution": "s"}', "holds half a character"),
    "an id twice": (
        '{"problem": "q", "solution": "s", "id": "id0"}',
        "id 'id0' already stands at .*x.jsonl:1; give each row its own",
    ),
}


@pytest.mark.parametrize("name", list(BAD_ROWS))
def test_a_bad_row_is_named_with_its_place_and_the_way_out(tmp_path, name):
    line, message = BAD_ROWS[name]
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n" + json.dumps(ROWS[1]) + "\n")
    with pytest.raises(
        DataError, match=f"1 of 3 rows of .*x.jsonl cannot be used:\n.*x.jsonl:2: .*{message}"
    ) as caught:
        load_examples(TrainingSet(str(file)))
    assert "--data.on-bad-row skip" in str(caught.value)
    skipped = load_examples(TrainingSet(str(file), on_bad_row="skip"))
    assert ([e.id for e in skipped.rows], skipped.skipped) == (["id0", "id1"], 1)


def test_text_that_is_not_utf8_is_named_by_its_byte(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"problem": "caf\xe9", "solution": "s"}\n')
    with pytest.raises(
        DataError,
        match=r"x.jsonl:1: it is not UTF-8 at byte 17 of the line; save the file as UTF-8",
    ):
        load_examples(TrainingSet(str(file)))


def test_only_the_first_five_bad_rows_are_printed(tmp_path):
    file = write(tmp_path / "x.jsonl", [{"problem": "q", "solution": ""}] * 9)
    with pytest.raises(
        DataError, match=r"9 of 9 rows.*\n(.*x.jsonl:\d.*\n){5}\.\.\. and 4 more\.\n"
    ):
        load_examples(TrainingSet(file))


def test_skipping_every_row_is_an_error_that_says_why(tmp_path):
    file = write(tmp_path / "x.jsonl", [{"problem": "q"}])
    with pytest.raises(
        DataError,
        match="no row is left to train on. All 1 were skipped; the first: .*no column 'solution'",
    ):
        load_examples(TrainingSet(file, on_bad_row="skip"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, r"There is no data set at .*gone.jsonl \(looked for .*Give a .jsonl"),
        ("empty.jsonl", b"", "is empty: 0 bytes"),
        ("blank.jsonl", b"\n\n", "It holds no rows"),
        ("x.txt", b"a,b", "is a '.txt' file; data sets are .jsonl, .json, .parquet, .csv, .tsv"),
        ("x.json", b'{"a": 1}', "holds a dict; a .json data set is a list"),
        ("x.json", b"[1,", "it is not JSON"),
        ("x.parquet", b"PAR1 no", "cannot be read as Parquet"),
    ],
)
def test_files_that_are_no_training_set(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_examples(TrainingSet(str(tmp_path / name)))


def test_a_folder_without_data(tmp_path):
    with pytest.raises(DataError, match="holds no .jsonl, .json, .parquet file"):
        load_examples(TrainingSet(str(tmp_path)))


def test_a_hub_set_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError,
        match="nobody/nothing is no file or folder here, and loading it as a hub data set failed",
    ):
        load_examples(TrainingSet("nobody/nothing"))


def test_order_is_a_function_of_seed_and_epoch():
    assert epoch_order(50, 0, 0) == epoch_order(50, 0, 0)
    assert sorted(epoch_order(50, 0, 0)) == list(range(50))
    assert len({epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_batches_walk_through_every_epoch_once(tmp_path):
    examples = load_examples(TrainingSet(write(tmp_path / "x.jsonl", ROWS)))
    seen = [
        e.id for step in range(7) for e in examples.batch(step, 3, seed=5)
    ]  # 21 draws, three epochs of 7
    assert all(sorted(seen[k : k + 7]) == [r["id"] for r in ROWS] for k in (0, 7, 14))
    assert seen[:7] != seen[7:14]
    assert examples.batch(4, 3, seed=5) == examples.batch(4, 3, seed=5)


def test_fingerprint_sees_every_field_and_the_order(tmp_path):
    def fingerprint(rows):
        return load_examples(TrainingSet(write(tmp_path / "x.jsonl", rows))).fingerprint

    same = fingerprint(ROWS)
    changed = [
        [{**ROWS[0], key: "other"}, *ROWS[1:]] for key in ("id", "problem", "solution", "answer")
    ]
    assert len({same, fingerprint(ROWS[::-1]), *map(fingerprint, changed)}) == 6


SHARED = [("aime_1983_2023.jsonl", 975), ("aime_2024.jsonl", 30), ("aime_2025.jsonl", 30)]


@pytest.mark.parametrize(("name", "rows"), SHARED)
def test_real_problems(shared_data, name, rows):
    assert len(load_examples(TrainingSet(str(shared_data / name))).rows) == rows


def test_real_parquet(shared_data):
    settings = TrainingSet(
        str(shared_data / "hmmt_feb_2025.parquet"),
        columns=READY_COLUMNS["MathArena/hmmt_feb_2025"],
        reference=AnswerOnly(),
    )
    assert len(load_examples(settings).rows) == 30
