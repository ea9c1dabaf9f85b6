"""Writes a prepared set: the rows, a manifest beside them that says which they are, and a report.

The report holds what the checks found, one finding a line.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from purified_opsd.data.dataset import Example, fingerprint

from .prepare import Prepared


def beside(output: Path) -> tuple[Path, Path]:
    """Where manifest and report of a prepared set go."""
    return output.with_suffix(".manifest.json"), output.with_suffix(".report.jsonl")


def write_prepared(prepared: Prepared, record: Mapping[str, Any], output: Path) -> None:
    """Writes x.manifest.json, x.report.jsonl and x.parquet.

    The rows come last, so where x.parquet is, all is there. `record` says how the set was made; the
    manifest holds it with counts, fingerprint and the ids in order.  Raises OSError where the disk
    is full or the folder cannot be written to: then nothing is left behind.
    """
    import pyarrow
    import pyarrow.parquet

    remarks = _remarks(prepared)
    manifest = {
        **record,
        "rows": len(prepared.rows),
        "usable": prepared.usable,
        "skipped": prepared.skipped,
        "looked_at": prepared.looked_at,
        "shapes": prepared.shapes,
        "dropped": prepared.counts(drops=True),
        "kept_with_remark": prepared.counts(drops=False),
        "fingerprint": fingerprint(prepared.rows),
        "ids": [example.id for example in prepared.rows],
    }
    manifest_file, report_file = beside(output)
    with _all_or_none(manifest_file, report_file, output) as (
        manifest_part,
        report_part,
        output_part,
    ):
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        manifest_part.write_text(text + "\n", encoding="utf-8")
        report_part.write_text("".join(_report_lines(prepared)), encoding="utf-8")
        rows = [_row(example, remarks.get(example.id)) for example in prepared.rows]
        table = pyarrow.Table.from_pylist(rows, _schema())
        pyarrow.parquet.write_table(table, output_part, compression="zstd", row_group_size=1024)


def _schema() -> Any:
    import pyarrow

    columns = ("id", "problem", "solution", "answer", "remark")
    return pyarrow.schema([(column, pyarrow.string()) for column in columns])


def _row(example: Example, remark: str | None) -> dict[str, str | None]:
    """A row under the column names that training looks for."""
    return {
        "id": example.id,
        "problem": example.problem,
        "solution": example.reference,
        "answer": example.answer,
        "remark": remark,
    }


def _remarks(prepared: Prepared) -> dict[str, str]:
    """All findings about a row in one text, by the row's id."""
    by_id: dict[str, list[str]] = {}
    for example, finding in prepared.findings:
        by_id.setdefault(example.id, []).append(f"{finding.reason}: {finding.detail}")
    return {id: "; ".join(remarks) for id, remarks in by_id.items()}


def _report_lines(prepared: Prepared) -> Iterator[str]:
    """One finding a line."""
    for example, finding in prepared.findings:
        row = {
            "id": example.id,
            "where": example.where,
            "dropped": finding.drops,
            "reason": finding.reason,
            "detail": finding.detail,
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


@contextmanager
def _all_or_none(*files: Path) -> Iterator[tuple[Path, ...]]:
    """Yields temporary files to write to, which take their own names once all are on the disk.

    They take them in order. Where writing fails, none of the files is left.
    """
    parts = tuple(file.with_name(f".{file.name}.tmp") for file in files)
    try:
        yield parts
        for part in parts:
            with part.open("rb+") as written:
                os.fsync(written.fileno())
        for part, file in zip(parts, files, strict=True):
            part.replace(file)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
