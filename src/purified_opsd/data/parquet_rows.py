"""Rows of Parquet files, and of other tables of Arrow."""

from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

_BATCH = 256
"""Rows in memory at a time."""


def read_parquet(stream: BufferedIOBase) -> Iterator[tuple[int, Any]]:
    """Each row with its number.

    A value that Python cannot hold is the ValueError that says why.  Raises ValueError where the
    file is no Parquet, or names a column twice.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(stream)
        _refuse_shared_names(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in rows_of_batch(batch):
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"cannot be read as Parquet: {error}. Write it again, or convert it to .jsonl"
        ) from error


def _refuse_shared_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names the column '{name}' more than once. Rename one of them")


def _widened(batch: Any) -> Any:
    """The batch with narrow floats as the numbers that they print as: 0.1, not 0.10000000149."""
    import pyarrow

    for index, field in enumerate(batch.schema):
        if field.type == pyarrow.float32():
            wide = batch.column(index).cast(pyarrow.string()).cast(pyarrow.float64())
            batch = batch.set_column(index, field.name, wide)
    return batch


def rows_of_batch(batch: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow record batch.

    A value that Python cannot hold is the ValueError that says why.
    """
    batch = _widened(batch)
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):  # one value of one row: the others are good
        names = batch.schema.names
        columns = [[_value(scalar) for scalar in column] for column in batch.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return ValueError("is not UTF-8; write the file again as UTF-8")
    except (ValueError, OverflowError) as error:
        return ValueError(f"cannot be read ({error}); write it as text")
