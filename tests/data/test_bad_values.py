"""Values that break a parser, a prompt or a record: each is its row's fault, and no other's."""

import gzip
import json
import math
from datetime import datetime
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest

from purified_opsd.data.dataset import AnswerOnly, TrainingSet, load_examples
from purified_opsd.errors import DataError
from purified_opsd.evaluation.benchmarks import load_benchmark

from .test_dataset import write

GOOD = '{"problem": "q", "solution": "s", "answer": "5"}'
DIGITS = "1" * 5000


def row(answer="5", **columns):
    """A row with an answer as JSON writes it, and other columns likewise."""
    written = {"problem": '"q"', "solution": '"s"', "answer": answer, **columns}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in written.items()) + "}"


BAD_ROWS = {
    "an integer of 5,000 digits": (row(DIGITS), "holds an integer of 5,000 digits.*in quotes"),
    "a negative one": (row(f"-{DIGITS}"), "holds an integer of 5,000 digits"),
    "one in a column not used": (row(other=DIGITS), "holds an integer of 5,000 digits"),
    "one that is the row": (DIGITS, "holds an integer of 5,000 digits"),
    "100,000 brackets": (row("[" * 100_000 + "]" * 100_000), "brackets are nested too deeply"),
    "100,000 braces": (row('{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    "NaN": (row("NaN"), r"'answer' \(answer\) is nan, no finite number"),
    "Infinity": (row("Infinity"), r"'answer' \(answer\) is inf, no finite number"),
    "-Infinity": (row("-Infinity"), r"'answer' \(answer\) is -inf, no finite number"),
    "1e400": (row("1e400"), r"'answer' \(answer\) is inf, no finite number"),
    "1e20": (row("1e20"), "too large for a float to hold its last digits; write it as text"),
    "NaN as text": (row('"NaN"'), r"is 'NaN', which stands for a missing value"),
    "true": (row("true"), r"'answer' \(answer\) is a bool"),
    "a list": (row("[5]"), r"'answer' \(answer\) is a list"),
    "half a character in the answer": (row('"\\ud800"'), r"'answer' \(answer\) holds half a char"),
    "half a character in the id": (row(id='"\\udfff"'), r"'id' \(id\) holds half a character"),
    "half a character in the problem": (row(problem='"a\\udc00"'), "'problem'.*half a character"),
    "a NUL": (row('"5\\u0000"'), r"'answer' \(answer\) holds a NUL character"),
    "NaN as an id": (row(id="NaN"), r"'id' \(id\) is nan, no finite number"),
    "a key twice": (row('"5", "answer": "6"'), "has the key 'answer' more than once; leave one"),
    "no object but null": ("null", "null, not an object"),
    "no object but a number": ("5", "a int, not an object"),
    "an empty object": ("{}", "it has no column 'problem' for the problem; it has none"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".json.gz"])
@pytest.mark.parametrize("name", list(BAD_ROWS))
def test_a_bad_row_is_named_or_skipped_and_leaves_the_others(tmp_path, name, suffix):
    bad, message = BAD_ROWS[name]
    lines = "jsonl" in suffix
    text = "\n".join([GOOD, bad, GOOD]) if lines else f"[{GOOD},\n{bad},\n{GOOD}]"
    file = tmp_path / f"x{suffix}"
    file.write_bytes(gzip.compress(text.encode()) if "gz" in suffix else text.encode())
    with pytest.raises(DataError, match=rf"1 of 3 rows of .*\n.*x{suffix}:2: .*{message}"):
        load_examples(TrainingSet(str(file)))
    skipped = load_examples(TrainingSet(str(file), on_bad_row="skip"))
    assert ([e.where[-2:] for e in skipped.rows], skipped.skipped) == ([":1", ":3"], 1)
    with pytest.raises(DataError, match=rf"cannot be asked or graded:\n.*x{suffix}:2: "):
        load_benchmark(str(file))


def test_commands_name_a_bad_row_and_end_with_3(command, settings, tiny_model, tmp_path):
    (tmp_path / "x.jsonl").write_text("\n".join([row(id="1"), row(DIGITS, id="2"), row(id="3")]))
    told = "x.jsonl:2: it holds an integer of 5,000 digits"
    prepare = ("prepare", "x.jsonl", "--output", "y.parquet", "--benchmarks", "null")
    for words in (
        ("train", settings, "--data", "x.jsonl"),
        prepare,
        ("evaluate", tiny_model, "--benchmarks", "x.jsonl", "--output-dir", "results"),
    ):
        code, _, errors = command(*words)
        assert (code, told in errors, "Traceback" in errors) == (3, True, False), errors
    code, output, errors = command(*prepare, "--data.on-bad-row", "skip")
    assert (code, "2 rows of 2, 1 bad ones skipped" in output) == (0, True), errors


def test_an_answer_of_5000_digits_is_text_like_any_other(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(row(f'"{DIGITS}"'))
    assert load_examples(TrainingSet(str(file))).rows[0].answer == DIGITS
    assert load_benchmark(str(file)).questions[0].answer == DIGITS


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("7.0", "7"),
        ("-7.0", "-7"),
        ("-0.0", "0"),
        ("0.5", "0.5"),
        ("2.50", "2.5"),
        ("1e-7", "0.0000001"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_numbers_are_written_as_plain_text(tmp_path, number, text):
    file = tmp_path / "x.jsonl"
    file.write_text(row(number, id=number))
    (example,) = load_examples(TrainingSet(str(file), reference=AnswerOnly())).rows
    assert (example.answer, example.id) == (text, text)
    assert example.reference == f"The final answer is \\boxed{{{text}}}."


def test_blank_answers_are_none(tmp_path):
    file = write(tmp_path / "x.jsonl", [{"problem": "q", "solution": "s", "answer": " "}])
    assert load_examples(TrainingSet(file)).rows[0].answer is None
    with pytest.raises(DataError, match="x.jsonl:1: it has no answer; name the answer's column"):
        load_examples(TrainingSet(file, reference=AnswerOnly()))


def parquet(tmp_path, answers, **columns):
    """A Parquet file of rows that differ in their answers."""
    file = tmp_path / "x.parquet"
    count = len(answers)
    texts = {"problem": ["q"] * count, "solution": ["s"] * count}
    pyarrow.parquet.write_table(pyarrow.table({**texts, "answer": answers, **columns}), file)
    return str(file)


@pytest.mark.parametrize(
    ("answers", "texts"),
    [
        (pyarrow.array([7.0, None, 0.5]), ["7", None, "0.5"]),
        (pyarrow.array([0.1, 7.0], pyarrow.float32()), ["0.1", "7"]),
        (pyarrow.array([Decimal("7.00"), Decimal("2.50")]), ["7", "2.5"]),
        (pyarrow.array([1, None], pyarrow.int8()), ["1", None]),
    ],
)
def test_numbers_of_parquet(tmp_path, answers, texts):
    rows = load_examples(TrainingSet(parquet(tmp_path, answers))).rows
    assert [example.answer for example in rows] == texts


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (pyarrow.array([7.0, math.nan]), "is nan, no finite number; fill it in, or write null"),
        (pyarrow.array([7.0, math.inf]), "is inf, no finite number"),
        (pyarrow.array([None, datetime(2024, 1, 1)]), "is a datetime; write text or a number"),
        (pyarrow.array([None, b"5"], pyarrow.binary()), "is a bytes; write text or a number"),
        (pyarrow.array([None, [5]]), "is a list; write text or a number"),
        (pyarrow.array([1, 2**62], pyarrow.timestamp("us")), "is a datetime|cannot be read"),
    ],
)
def test_bad_answers_of_parquet(tmp_path, answers, message):
    file = parquet(tmp_path, answers)
    with pytest.raises(DataError, match=f"x.parquet:2: its column 'answer'.*({message})"):
        load_examples(TrainingSet(file))


def test_a_value_that_cannot_be_read_matters_only_where_it_is_used(tmp_path):
    dates = pyarrow.array([1, 2**62], pyarrow.timestamp("us"))
    file = parquet(tmp_path, ["5", "6"], date=dates)
    assert [e.answer for e in load_examples(TrainingSet(file)).rows] == ["5", "6"]
    bad = pyarrow.array([b"5", b"\xff"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, bad.buffers())
    file = parquet(tmp_path, text)
    with pytest.raises(
        DataError, match=r"x.parquet:2: its column 'answer' \(answer\) is not UTF-8"
    ):
        load_examples(TrainingSet(file))
    assert len(load_examples(TrainingSet(file, on_bad_row="skip")).rows) == 1


@pytest.mark.parametrize(
    ("answer", "text"), [("7.0", "7"), ("7", "7"), ('"a\\n#### 72"', "72"), ('" 5"', " 5")]
)
def test_gold_answers(tmp_path, answer, text):
    (tmp_path / "x.jsonl").write_text(row(answer))
    assert load_benchmark(str(tmp_path / "x.jsonl")).questions[0].answer == text


def test_where_takes_whole_floats_as_whole_and_names_a_column_that_is_not_there(tmp_path):
    rows = [{"problem": "q", "solution": "s", "level": level} for level in (5.0, 4.0, None)]
    file = write(tmp_path / "x.parquet", rows)
    assert len(load_examples(TrainingSet(file, where={"level": "5"})).rows) == 1
    with pytest.raises(
        DataError,
        match="No row has the column 'levl' of data.where; they have problem, solution, level",
    ):
        load_examples(TrainingSet(file, where={"levl": "5"}))


def test_lines_end_at_line_feeds_alone(tmp_path):
    text = json.dumps({"problem": "a\u2028b\u0085c", "solution": "s\u2029"}, ensure_ascii=False)
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{text}\r\n{text}".encode())
    rows = load_examples(TrainingSet(str(tmp_path / "x.jsonl"))).rows
    assert [(e.problem, e.reference) for e in rows] == [("a\u2028b\u0085c", "s\u2029")] * 2
