"""The files that are read, whole and damaged: CSV, TSV, and every format as .gz."""

import csv
import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from purified_opsd.data.dataset import TrainingSet, load_examples
from purified_opsd.errors import DataError
from purified_opsd.evaluation.benchmarks import load_benchmark

ROWS = [
    {"problem": "What, is\n2 + 3?", "solution": 'It "is" 5.', "answer": "5", "id": "a"},
    {"problem": "tab\tand ä\u2028b", "solution": "s" * 200_000, "answer": "1,234", "id": "b"},
    {"problem": "q", "solution": "'s", "answer": "", "id": "c"},
]


def separated(delimiter, start=""):
    out = io.StringIO(newline="")
    out.write(start)
    writer = csv.DictWriter(out, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def parquet():
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


FILES = {
    ".jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    ".json": json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
    ".parquet": parquet(),
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".CSV": separated(",", "\ufeff"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", list(FILES))
def test_every_format_gives_the_same_examples(tmp_path, suffix, compressed):
    file = tmp_path / (f"set{suffix}.gz" if compressed else f"set{suffix}")
    file.write_bytes(gzip.compress(FILES[suffix]) if compressed else FILES[suffix])
    examples = load_examples(TrainingSet(str(file)))
    assert [(e.id, e.problem, e.reference, e.answer) for e in examples.rows] == [
        (r["id"], r["problem"], r["solution"], r["answer"] or None) for r in ROWS
    ]
    again = tmp_path / "again"
    again.mkdir()
    (again / file.name).write_bytes(file.read_bytes())
    (again / "._set.csv").write_bytes(b"\0\5\26\7")
    assert load_examples(TrainingSet(str(again))).fingerprint == examples.fingerprint


@pytest.mark.parametrize("name", ["bench.csv", "bench.jsonl.gz", "bench.tsv.gz"])
def test_a_benchmark_is_named_without_its_endings(tmp_path, name):
    rows = {
        "bench.csv": b"problem,answer\nq,5\n",
        "bench.jsonl.gz": gzip.compress(b'{"problem": "q", "answer": "5"}'),
        "bench.tsv.gz": gzip.compress(b"problem\tanswer\nq\t5"),
    }
    (tmp_path / name).write_bytes(rows[name])
    benchmark = load_benchmark(str(tmp_path / name))
    assert (benchmark.name, benchmark.questions[0].answer) == ("bench", "5")


BAD_CSV_ROWS = {
    "too few fields": (b"q\n", "it has 1 fields, and the first line names 2 columns"),
    "too many fields": (b"q,s,t\n", "it has 3 fields, and the first line names 2 columns"),
    "an empty field": (b"q,\n", r"its column 'solution' \(solution\) is empty"),
    "nan": (b"q,nan\n", "is 'nan', which stands for a missing value"),
    "a stray quote": (b'"q"x,s\n', "it is not CSV: .*; write a quote within quotes twice"),
    "Latin-1": (b"caf\xe9,s\n", "it is not UTF-8; save the file as UTF-8"),
    "a NUL": (b"q\0,s\n", "holds a NUL character"),
}


@pytest.mark.parametrize("name", list(BAD_CSV_ROWS))
def test_a_bad_row_is_named_by_its_line_or_skipped(tmp_path, name):
    line, message = BAD_CSV_ROWS[name]
    file = tmp_path / "x.csv"
    file.write_bytes(b'problem, solution\n"a\nb",s\n\n' + line + b"q,s\n")
    with pytest.raises(DataError, match=f"1 of 3 rows.*\n.*x.csv:5: .*{message}"):
        load_examples(TrainingSet(str(file)))
    skipped = load_examples(TrainingSet(str(file), on_bad_row="skip"))
    assert ([e.where[-2:] for e in skipped.rows], skipped.skipped) == ([":2", ":6"], 1)


LINES = b'{"problem": "q", "solution": "s"}\n' * 1000
DAMAGED = {
    "a gzip file cut off": ("x.jsonl.gz", gzip.compress(LINES)[:-20], "cut off or damaged after"),
    "a gzip file cut off early": ("x.json.gz", gzip.compress(LINES)[:12], "damaged after row 0"),
    "a gzip file of noise": (
        "x.csv.gz",
        gzip.compress(LINES)[:10] + b"\xff" * 99,
        "cut off or dam",
    ),
    "no gzip file": ("x.jsonl.gz", LINES, "no good gzip file .*Name it x.jsonl if it is not comp"),
    "a checksum": ("x.jsonl.gz", gzip.compress(LINES)[:-8] + b"\0" * 8, "no good gzip file .*CRC"),
    "a gzip file by another name": ("x.csv", gzip.compress(LINES), "gzip. Name it x.csv.gz"),
    "a Parquet file cut off": ("x.parquet.gz", gzip.compress(parquet()[:-9]), "read as Parquet"),
    "a quote never closed": (
        "x.csv",
        b'problem,solution\nq,s\n"q,s\nq,s\n',
        "is cut off: the row at line 3 opens a quote that is never closed",
    ),
    "a column twice": ("x.csv", b"problem,problem\nq,s\n", "column 'problem' more than once"),
    "an unfinished list": ("x.json", b'[{"problem": "q", "so', "does not end after 0 whole"),
    "lines in a .json": ("x.json", LINES, "holds no list of objects: .*name it .jsonl"),
    "two lists": ("x.json", b"[]\n[]", "more than one list"),
    "another compression": ("x.jsonl.zst", LINES, "is a '.zst' file; data sets are .*as .gz"),
    "no rows": ("x.csv", b"problem,solution\n", "It holds no rows"),
    "an empty list": ("x.json", b" [ ]\n", "It holds no rows"),
}


@pytest.mark.parametrize("name", list(DAMAGED))
@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_damage_of_a_file_is_told_and_never_skipped(tmp_path, name, on_bad_row):
    file, content, message = DAMAGED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}.* {message}"):
        load_examples(TrainingSet(str(tmp_path / file), on_bad_row=on_bad_row))


def test_a_parquet_file_with_a_column_twice(tmp_path):
    table = pyarrow.Table.from_arrays([pyarrow.array(["q"])] * 2, names=["problem", "problem"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="names the column 'problem' more than once"):
        load_examples(TrainingSet(str(tmp_path / "x.parquet")))


def test_lists_are_parted_at_their_own_commas_alone(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('[{"problem": "],[{", "solution": "\\"}"}, {"problem": }, {"problem": 1} ,5]')
    with pytest.raises(DataError, match="3 of 4 rows of") as caught:
        load_examples(TrainingSet(str(file)))
    told = str(caught.value)
    assert "x.json:2: it is not JSON: Expecting value at column 14; mend this element" in told
    assert "x.json:3: it has no column 'solution'" in told
    assert "x.json:4: it holds a int" in told
