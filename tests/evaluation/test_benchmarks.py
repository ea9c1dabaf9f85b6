"""Which benchmarks there are, and what is said of those that are not what they should be."""

import json

import datasets
import pytest

from purified_opsd.errors import DataError
from purified_opsd.evaluation.benchmarks import AnswerColumns, load_benchmark, reload_benchmark


def written(tmp_path, *rows):
    file = tmp_path / "set.jsonl"
    file.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return str(file)


def test_columns_ids_and_numbers(tmp_path):
    path = written(tmp_path, {"q": "a?", "n": 7, "k": "x"}, {"q": "b?", "n": "8", "k": 3})
    benchmark = load_benchmark(path, AnswerColumns(problem="q", answer="n", id="k"))
    assert [(q.id, q.problem, q.answer) for q in benchmark.questions] == [
        ("x", "a?", "7"),
        ("3", "b?", "8"),
    ]
    assert benchmark.name == "set"
    numbered = load_benchmark(path, AnswerColumns(problem="q", answer="n", id="none"))
    assert [q.id for q in numbered.questions] == ["row-1", "row-2"]
    assert numbered.answers == benchmark.answers
    assert numbered.fingerprint != benchmark.fingerprint


GOOD = {"id": 1, "problem": "q", "answer": "5"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"problem": "q"},
            "set.jsonl:2: it has no column 'answer' for the answer; it has problem. Name .* "
            "--columns.answer COLUMN",
        ),
        ({"problem": "q", "answer": None}, r"its column 'answer' \(answer\) is null, not text"),
        ({"problem": "q", "answer": 1.5}, r"its column 'answer' \(answer\) is a float, not text"),
        ({"problem": "q", "answer": True}, r"its column 'answer' \(answer\) is a bool, not text"),
        ({"problem": "q", "answer": ["5"]}, r"its column 'answer' \(answer\) is a list, not text"),
        ({"problem": "q", "answer": "  "}, r"its column 'answer' \(answer\) is empty"),
        ({"problem": 5, "answer": "5"}, r"its column 'problem' \(problem\) is a int, not text"),
        ({**GOOD, "id": [1]}, r"its column 'id' \(id\) is a list"),
        (GOOD, "its id '1' already stands at .*set.jsonl:1"),
        ("[1]", "it is a list, not an object"),
        ("{", "it is not JSON"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        load_benchmark(written(tmp_path, GOOD, row))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "aime26",
            "There is no benchmark 'aime26'. Did you mean aime2[45]\\? Named ones: aime24, aime25, "
            "hmmt25, countdown",
        ),
        ("gone.jsonl", "There is no benchmark 'gone.jsonl' and no file of that name"),
        (
            "mine=gone.jsonl",
            "There is no benchmark 'mine' to be read from gone.jsonl.*goes by its path alone: "
            "gone.jsonl",
        ),
    ],
)
def test_a_benchmark_that_is_not_there(name, message):
    with pytest.raises(DataError, match=message):
        load_benchmark(name)


def test_a_set_that_is_not_what_its_name_says(tmp_path):
    rows = [{"id": str(i), "problem": f"q{i}", "answer": str(i)} for i in range(30)]
    with pytest.raises(DataError, match="The answers in .*set.jsonl are not those of aime25"):
        load_benchmark(f"aime25={written(tmp_path, *rows)}")
    with pytest.raises(DataError, match="aime25 has 30 questions, but .*set.jsonl has 29 rows"):
        load_benchmark(f"aime25={written(tmp_path, *rows[:29])}")


@pytest.fixture
def hub(monkeypatch):
    """In place of a hub: a set of thirty rows under every name; what was asked for is kept."""
    asked = []

    def load_dataset(path, config, split, revision):
        asked.append((path, config, split, revision))
        return datasets.Dataset.from_list(
            [{"id": i, "problem": f"q{i}", "answer": str(i)} for i in range(30)]
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_split_and_revision_of_a_hub_set_are_taken_and_recorded(hub):
    for name, folder, expected in [
        ("org/set", "org--set", ("org/set", None, "train", None)),
        ("org/set:test", "org--set--test", ("org/set", None, "test", None)),
        ("org/set@v1.0", "org--set", ("org/set", None, "train", "v1.0")),
        ("org/set:test@refs/pr/3", "org--set--test", ("org/set", None, "test", "refs/pr/3")),
    ]:
        benchmark = load_benchmark(name)
        assert benchmark.name == folder
        assert hub[-1] == expected
        assert (
            benchmark.record["path"],
            benchmark.record["split"],
            benchmark.record["revision"],
        ) == (expected[0], *expected[2:])
        assert reload_benchmark(benchmark.record) == benchmark
        assert hub[-1] == expected


def test_a_named_set_can_be_pinned_to_a_revision(hub):
    with pytest.raises(
        DataError, match="The answers in yentinglin/aime_2025 are not those of aime25"
    ):
        load_benchmark("aime25@0123abc")
    assert hub == [("yentinglin/aime_2025", None, "train", "0123abc")]


def test_the_papers_sets_offline(shared_data):
    for name, file in [
        ("aime24", "aime_2024.jsonl"),
        ("aime25", "aime_2025.jsonl"),
        ("hmmt25", "hmmt_feb_2025.parquet"),
    ]:
        named, by_path = (
            load_benchmark(f"{name}={shared_data / file}"),
            load_benchmark(str(shared_data / file)),
        )
        assert (named.name, len(named.questions)) == (name, 30)
        assert by_path.name == file.partition(".")[0]
        assert [q.problem for q in by_path.questions] == [q.problem for q in named.questions]
