"""Prepares a training set: rows are checked in the order of their draws until the sample is full.

The draws are those of a training's `subset`, so without a row to drop the sample is the very one
that training takes. A set may be of any size: a bounded number of its rows is held at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from tqdm import tqdm

from purified_opsd.data.dataset import (
    Example,
    Reading,
    TrainingSet,
    refuse_bad_rows,
    usable_examples,
)
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECK_BATCH = 64
"""Rows checked together."""
ROWS_HELD = 10_000
"""Rows held in memory at a time, or as many as `subset` where that is more."""


class Finding(NamedTuple):
    """What a check says about a row."""

    reason: str
    """The same words for every row about which the same is said."""
    detail: str
    drops: bool
    """The row is left out; otherwise it stays, with a remark."""


Check = Callable[[Sequence[Example]], Sequence[Finding | None]]
"""Looks at rows, and finds something or nothing about each."""


@dataclass(frozen=True)
class LongReference:
    """Drops a row whose reference has more tokens than a limit."""

    tokenizer: "PreTrainedTokenizerBase"
    limit: int

    def __call__(self, examples: Sequence[Example]) -> Sequence[Finding | None]:
        return [self._finding(example.reference) for example in examples]

    def _finding(self, reference: str) -> Finding | None:
        # A token is a byte at least.
        if len(reference.encode()) <= self.limit:
            return None
        ids = cast(list[int], self.tokenizer(reference, add_special_tokens=False)["input_ids"])
        if len(ids) <= self.limit:
            return None
        reason = f"reference longer than {self.limit:,} tokens"
        return Finding(reason, f"{len(ids):,} tokens", drops=True)


@dataclass(frozen=True)
class Prepared:
    """The rows that stay, in the order of their set, and what the checks found."""

    rows: tuple[Example, ...]
    findings: tuple[tuple[Example, Finding], ...]
    """Of every row that was looked at, in the order of looking."""
    usable: int
    """Rows of the set that could have been drawn."""
    skipped: int
    """Bad rows left out under `on_bad_row: skip`."""
    looked_at: int
    """Rows that were drawn: a full sample draws no further."""
    shapes: Mapping[str, int]
    """Usable rows that were read by their shape, not by columns: how many of each."""

    def counts(self, drops: bool) -> Counter[str]:
        """Rows dropped, or kept with a remark, by reason.

        A row dropped for two reasons counts under both.
        """
        dropped = _dropped_ids(self.findings)
        return Counter(
            finding.reason
            for example, finding in self.findings
            if finding.drops is drops and (drops or example.id not in dropped)
        )


def prepare_rows(settings: TrainingSet, checks: Sequence[Check]) -> Prepared:
    """A sample of `settings.subset` rows that pass every check, or all that do.

    Without a row to drop, it is the very sample that training takes with these settings.  Raises
    DataError as `load_examples` does, or where too few rows pass.
    """
    draws = draw_examples(settings)
    usable = draws.reading.usable
    if settings.subset is not None and not 0 < settings.subset <= usable:
        raise DataError(
            f"{settings.path} has {usable} usable rows, but a sample of {settings.subset} is "
            "asked for. Ask for between 1 and that many with --subset."
        )
    size = usable if settings.subset is None else settings.subset
    kept: dict[int, Example] = {}
    findings: list[tuple[Example, Finding]] = []
    looked_at = 0
    with tqdm(total=size, unit=" rows", disable=None) as bar:
        while batch := list(islice(draws.examples, min(CHECK_BATCH, size - len(kept)))):
            looked_at += len(batch)
            batch_findings = _findings([example for _, example in batch], checks)
            findings += batch_findings
            dropped = _dropped_ids(batch_findings)
            kept |= {index: example for index, example in batch if example.id not in dropped}
            bar.update(len(batch) - len(dropped))
    prepared = Prepared(
        rows=tuple(kept[index] for index in sorted(kept)),
        findings=tuple(findings),
        usable=usable,
        skipped=draws.reading.bad.count,
        looked_at=looked_at,
        shapes=draws.reading.shapes,
    )
    if not kept or (settings.subset is not None and len(kept) < settings.subset):
        raise DataError(_too_few(settings, prepared))
    return prepared


def _findings(
    examples: Sequence[Example], checks: Sequence[Check]
) -> list[tuple[Example, Finding]]:
    """What the checks found, by row, then by check."""
    by_check = [check(examples) for check in checks]
    findings = []
    for index, example in enumerate(examples):
        for of_check in by_check:
            finding = of_check[index]
            if finding is not None:
                findings.append((example, finding))
    return findings


def _dropped_ids(findings: Sequence[tuple[Example, Finding]]) -> set[str]:
    return {example.id for example, finding in findings if finding.drops}


def _too_few(settings: TrainingSet, prepared: Prepared) -> str:
    dropped = prepared.counts(drops=True).most_common()
    reasons = ", ".join(f"{reason} ({count})" for reason, count in dropped)
    request = f", but a sample of {settings.subset} is asked for" if settings.subset else ""
    example, finding = next(pair for pair in prepared.findings if pair[1].drops)
    return (
        f"{len(prepared.rows)} of the {prepared.usable} usable rows of {settings.path} "
        f"pass{request}. Dropped: {reasons}; the first, {example.where}: {finding.detail}. Nothing "
        "was written. Ask for fewer rows, or for a milder check."
    )


class Draws(NamedTuple):
    """The rows of a set in the order in which a sample takes them."""

    reading: Reading
    """What came up while the whole set was read."""
    examples: Iterator[tuple[int, Example]]
    """Each usable row with its index among them, by its draw; without a `subset`, as they stand."""


def draw_examples(settings: TrainingSet) -> Draws:
    """Reads the set once to validate it, and again for every 10,000 rows that are drawn.

    Raises DataError as `load_examples` does.
    """
    reading = Reading()
    draws = [
        seed_for(settings.subset_seed, "subset", example.id)
        for example in usable_examples(settings, reading)
    ]
    refuse_bad_rows(settings, reading)
    return Draws(reading, _in_order(settings, draws))


def _in_order(settings: TrainingSet, draws: Sequence[int]) -> Iterator[tuple[int, Example]]:
    if settings.subset is None:
        yield from enumerate(usable_examples(settings, Reading()))
        return
    order = sorted(range(len(draws)), key=lambda index: (draws[index], index))
    size = max(settings.subset, ROWS_HELD)
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        members = set(chunk)
        held = {
            index: example
            for index, example in enumerate(usable_examples(settings, Reading()))
            if index in members
        }
        for index in chunk:
            yield index, held[index]
