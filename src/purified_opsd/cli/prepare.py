"""purified-opsd prepare"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.errors import DataError, SettingsError, refused_as_settings
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.policy.model import Model
from purified_opsd.preparation.answer_check import AnswerMismatch
from purified_opsd.preparation.control_text import ControlText
from purified_opsd.preparation.decontaminate import THRESHOLD, Overlap
from purified_opsd.preparation.prepare import Check, LongReference, Prepared, prepare_rows
from purified_opsd.preparation.write import beside, write_prepared
from purified_opsd.recipes import find_preparation
from purified_opsd.settings.build import (
    build,
    merge,
    read_overrides,
    to_mapping,
)
from purified_opsd.training.config import TrainingConfig

from .loading import loading
from .parameters import DataSettings, Several

PAPERS = ("aime24", "aime25", "hmmt25")


def prepare(
    source: Annotated[str, Parameter(name="SET", allow_leading_hyphen=True)],
    /,
    *settings: DataSettings,
    output: Path,
    subset: int | None = None,
    seed: int | None = None,
    tokenizer: str | None = None,
    max_reference_tokens: int | None = None,
    benchmarks: Annotated[tuple[str, ...], Several] = PAPERS,
    overlap_threshold: float | None = None,
    drop_overlap: bool = False,
) -> None:
    """Make a training set: map columns, sample, drop what is too long or at odds with its own
    answer, flag benchmark questions.

    Columns and rows are chosen as for `train`: --data.columns.problem question, --data.where.domain
    math.

    Args:
        source: dasd-10k, math-cot-20k, dasd-10k=FILE, a file, a folder or a hub id.
        output: A .parquet file; must not exist.
        subset: A sample of this many rows; dasd-10k takes 10,000.
        seed: Decides the sample; 0 if left out.
        tokenizer: Model whose tokens are counted: a hub id or a folder.
        max_reference_tokens: Drop rows with a longer reference.
        benchmarks: What overlap is looked for with; aime25=FILE without a hub; null: nothing.
        overlap_threshold: Share of a question's 8-grams from which a problem overlaps; 0.5 if left
            out.
        drop_overlap: Leave out what overlaps, instead of flagging it.
    """
    _check_output(output)
    training_set = _training_set(source, settings, subset, seed)
    tokens = _token_checks(tokenizer, max_reference_tokens)
    overlap = _overlap_check(benchmarks, overlap_threshold, drop_overlap)
    prepared = prepare_rows(training_set, [AnswerMismatch(), *overlap, *tokens])
    compared_with = [benchmark for check in overlap for benchmark in check.benchmarks]
    record = {
        "set": to_mapping(training_set),
        "tokenizer": tokenizer,
        "max_reference_tokens": max_reference_tokens,
        "benchmarks": {benchmark.name: benchmark.fingerprint for benchmark in compared_with},
        "overlap_threshold": overlap[0].threshold if overlap else None,
    }
    write_prepared(prepared, record, output)
    print(_summary(prepared, output, [benchmark.name for benchmark in compared_with]))


def _check_output(output: Path) -> None:
    """Refuses a place that cannot be written to before anything is read.  Raises SettingsError."""
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
    source: str, words: Sequence[str], subset: int | None, seed: int | None
) -> TrainingSet:
    """Returns what is prepared, with what the command line says of it.  Raises SettingsError."""
    if source.startswith("--"):
        raise SettingsError(f"The set comes first: purified-opsd prepare SET {source} ...")
    overrides = read_overrides(TrainingConfig, words)
    others = [name for name in overrides if name != "data"]
    if others or isinstance(overrides.get("data"), str):
        name = "--" + (others or ["data"])[0].replace("_", "-")
        raise SettingsError(
            f"prepare takes no {name}, only --benchmarks and settings of the set, such as "
            "--data.where.domain math."
        )
    start = to_mapping(find_preparation(source))
    settings = merge(TrainingSet, start, overrides.get("data", {}))
    if subset is not None:
        settings["subset"] = subset
    if seed is not None:
        settings["subset_seed"] = seed
    return build(TrainingSet, settings, "data")


def _token_checks(tokenizer: str | None, limit: int | None) -> list[Check]:
    """Returns the checks of the references' length and of control tokens, if a tokenizer is named.
    Raises SettingsError, or ModelError for the tokenizer.
    """
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
    with loading():
        from purified_opsd.policy.loading import load_tokenizer
    loaded = load_tokenizer(Model(tokenizer))
    return [LongReference(loaded, limit), ControlText(loaded)]


def _overlap_check(names: Sequence[str], threshold: float | None, drops: bool) -> list[Overlap]:
    """Returns the check against benchmarks, unless they are null.  Raises SettingsError, or
    DataError for a benchmark.
    """
    if list(names) == ["null"]:
        if drops or threshold is not None:
            raise SettingsError(
                "--drop-overlap and --overlap-threshold say nothing with --benchmarks null. Name a "
                "benchmark."
            )
        return []
    with refused_as_settings():
        check = Overlap([], THRESHOLD if threshold is None else threshold, drops)
    try:
        benchmarks = [load_benchmark(name) for name in names]
    except DataError as error:
        raise DataError(
            f"{error}\nOverlap is looked for with {', '.join(names)}: read them from files "
            "(--benchmarks aime25=FILE), or leave that out with --benchmarks null."
        ) from error
    return [replace(check, benchmarks=benchmarks)]


def _summary(prepared: Prepared, output: Path, benchmarks: Sequence[str]) -> str:
    """Returns what became of the rows, a line each."""
    manifest, report = beside(output)
    skipped = f", {prepared.skipped:,} bad ones skipped" if prepared.skipped else ""
    lines = [
        f"{output}: {len(prepared.rows):,} rows of {prepared.usable:,}{skipped}; "
        f"{prepared.looked_at:,} looked at"
    ]
    for shape, count in prepared.shapes.items():
        lines.append(f"{count:>8,} read by their shape: {shape}")
    for reason, count in prepared.counts(drops=True).most_common():
        lines.append(f"{count:>8,} dropped: {reason}")
    for reason, count in prepared.counts(drops=False).most_common():
        lines.append(f"{count:>8,} kept with a remark: {reason}")
    if benchmarks:
        lines.append(f"Overlap was looked for with {', '.join(benchmarks)}.")
    else:
        lines.append("Overlap with benchmarks was not looked for.")
    lines.append(f"Ids and settings: {manifest}. Each row dropped or remarked on: {report}.")
    return "\n".join(lines)
