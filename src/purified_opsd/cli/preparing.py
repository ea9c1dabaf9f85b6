"""The verb that makes a training set: prepare."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import OTHER_SETTINGS, app

if TYPE_CHECKING:
    from purified_opsd.data.dataset import TrainingSet
    from purified_opsd.preparation.decontaminate import Overlap
    from purified_opsd.preparation.prepare import LongReference, Prepared

PAPERS = ("aime24", "aime25", "hmmt25")


@app.command(context_settings=OTHER_SETTINGS)
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="dasd-10k, math-cot-20k, dasd-10k=FILE, a file, a folder or a hub id.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="A .parquet file; must not exist.")],
    subset: Annotated[
        int | None, typer.Option(help="A sample of this many rows; dasd-10k takes 10,000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides the sample; 0 if left out.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Model whose tokens are counted: a hub id or a folder.")
    ] = None,
    max_reference_tokens: Annotated[
        int | None, typer.Option(help="Drop rows with a longer reference.")
    ] = None,
    overlap_threshold: Annotated[
        float | None,
        typer.Option(
            help="Share of a question's 8-grams from which a problem overlaps; 0.5 if left out."
        ),
    ] = None,
    drop_overlap: Annotated[
        bool,
        typer.Option("--drop-overlap", help="Leave out what overlaps, instead of flagging it."),
    ] = False,
) -> None:
    """Make a training set: map columns, sample, drop what is too long or at odds with its own
    answer, flag benchmark questions.

    Columns and rows are chosen as for `train`: --data.columns.problem question, --data.where.domain
    math. --benchmarks aime24 aime25 hmmt25 is what overlap is looked for with, aime25=FILE without
    a hub; --benchmarks null: nothing.
    """
    from purified_opsd.preparation.answer_check import AnswerMismatch
    from purified_opsd.preparation.prepare import prepare_rows
    from purified_opsd.preparation.write import write_prepared
    from purified_opsd.settings import read_overrides, to_mapping

    _check_output(output)
    overrides = read_overrides(context.args)
    benchmarks = overrides.pop("benchmarks", list(PAPERS))
    settings = _training_set(source, overrides, {"subset": subset, "subset_seed": seed})
    length = _length(tokenizer, max_reference_tokens)
    overlap = _overlap(benchmarks, overlap_threshold, drop_overlap)
    prepared = prepare_rows(settings, [AnswerMismatch(), *overlap, *length])
    record = {
        "set": to_mapping(settings, "data"),
        "tokenizer": tokenizer,
        "max_reference_tokens": max_reference_tokens,
        "benchmarks": {b.name: b.fingerprint for check in overlap for b in check.benchmarks},
        "overlap_threshold": next((check.threshold for check in overlap), None),
    }
    write_prepared(prepared, record, output)
    typer.echo(_summary(prepared, output, [b.name for check in overlap for b in check.benchmarks]))


def _check_output(output: Path) -> None:
    """Before anything is read.  Raises SettingsError."""
    from purified_opsd.errors import SettingsError
    from purified_opsd.preparation.write import beside

    if output.suffix != ".parquet":
        raise SettingsError(
            f"--output {output} is no .parquet file. Name it {output.with_suffix('.parquet')}."
        )
    for file in (output, *beside(output)):
        if file.exists():
            raise SettingsError(
                f"{file} exists already; nothing was written. Give another --output, or remove it."
            )
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise SettingsError(
            f"{output} cannot be made: {output.parent} is no folder that can be written to. Give "
            "another --output."
        )


def _training_set(
    source: str, overrides: Mapping[str, Any], short: Mapping[str, int | None]
) -> "TrainingSet":
    """What is prepared, with what the command line says of it.  Raises SettingsError."""
    from purified_opsd.errors import SettingsError
    from purified_opsd.recipes import find_preparation
    from purified_opsd.settings import build_training_set, merge, to_mapping

    if source.startswith("--"):
        raise SettingsError(f"The set comes first: purified-opsd prepare SET {source} ...")
    others = [name for name in overrides if name != "data"]
    if others or isinstance(overrides.get("data"), str):
        name = "--" + (others or ["data"])[0].replace("_", "-")
        raise SettingsError(
            f"prepare takes no {name}, only --benchmarks and settings of the set, such as "
            "--data.where.domain math."
        )
    given = {name: value for name, value in short.items() if value is not None}
    chosen = merge({"data": to_mapping(find_preparation(source), "data")}, overrides)["data"]
    return build_training_set({**chosen, **given})


def _length(tokenizer: str | None, limit: int | None) -> "list[LongReference]":
    """The check of the references' length, if one is asked for.  Raises SettingsError, or
    ModelError for the tokenizer.
    """
    from purified_opsd.errors import SettingsError
    from purified_opsd.policy.loading import load_tokenizer
    from purified_opsd.policy.model import Model
    from purified_opsd.preparation.prepare import LongReference

    if tokenizer is None and limit is None:
        return []
    if tokenizer is None or limit is None:
        missing = "--max-reference-tokens" if limit is None else "--tokenizer"
        raise SettingsError(
            f"{missing} is missing: a limit in tokens needs a model whose tokens they are. Give "
            "both, or neither."
        )
    if limit < 1:
        raise SettingsError(
            f"--max-reference-tokens must be at least 1, got {limit}. Leave it out for no limit."
        )
    return [LongReference(load_tokenizer(Model(tokenizer)), limit)]


def _overlap(
    words: str | Sequence[str] | None, threshold: float | None, drops: bool
) -> "list[Overlap]":
    """The check against benchmarks, unless they are null.  Raises SettingsError, or DataError for a
    benchmark.
    """
    from purified_opsd.errors import DataError, SettingsError
    from purified_opsd.evaluation.benchmarks import load_benchmark
    from purified_opsd.preparation.decontaminate import THRESHOLD, Overlap

    if words is None:
        if drops or threshold is not None:
            raise SettingsError(
                "--drop-overlap and --overlap-threshold say nothing with --benchmarks null. Name a "
                "benchmark."
            )
        return []
    try:
        found = Overlap([], THRESHOLD if threshold is None else threshold, drops)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    names = [words] if isinstance(words, str) else words
    try:
        benchmarks = [load_benchmark(name) for name in names]
    except DataError as error:
        raise DataError(
            f"{error}\nOverlap is looked for with {', '.join(names)}: read them from files "
            "(--benchmarks aime25=FILE), or leave that out with --benchmarks null."
        ) from error
    return [replace(found, benchmarks=benchmarks)]


def _summary(prepared: "Prepared", output: Path, benchmarks: Sequence[str]) -> str:
    """What became of the rows, a line each."""
    from purified_opsd.preparation.write import beside

    manifest, report = beside(output)
    skipped = f", {prepared.skipped:,} bad ones skipped" if prepared.skipped else ""
    lines = [
        f"{output}: {len(prepared.rows):,} rows of {prepared.usable:,}{skipped}; "
        f"{prepared.looked_at:,} looked at",
        *(
            f"{count:>8,} dropped: {reason}"
            for reason, count in prepared.counts(drops=True).most_common()
        ),
        *(
            f"{count:>8,} kept with a remark: {reason}"
            for reason, count in prepared.counts(drops=False).most_common()
        ),
        f"Overlap was looked for with {', '.join(benchmarks)}."
        if benchmarks
        else "Overlap with benchmarks was not looked for.",
        f"Ids and settings: {manifest}. Each row dropped or remarked on: {report}.",
    ]
    return "\n".join(lines)
