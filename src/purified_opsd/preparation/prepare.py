"""A training set prepared: its rows checked in the order of their draws until the sample is full.

The rows of a set in the order in which a sample takes them, however large the set.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, cast

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from purified_opsd.data.dataset import Example, TrainingSet, refuse_bad_rows, usable_examples
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import DataError

pass

AT_ONCE = 64
"""Rows checked together."""


class Finding(NamedTuple):
    """What a check has to say of a row."""

    reason: str
    """The same words for every row of which the same is to be said."""
    detail: str
    drops: bool
    """The row is left out; otherwise it stays, with a remark."""


Check = Callable[[Sequence[Example]], Sequence[Finding | None]]
"""Looks at rows, and finds something or nothing about each."""


@dataclass(frozen=True)
class LongReference:
    """Drops a row whose reference has more tokens than a limit."""

    tokenizer: PreTrainedTokenizerBase
    limit: int

    def __call__(self, examples: Sequence[Example]) -> Sequence[Finding | None]:
        return [self._finding(example.reference) for example in examples]

    def _finding(self, reference: str) -> Finding | None:
        if len(reference.encode()) <= self.limit:  # a token is a byte at least
            return None
        ids = cast(list[int], self.tokenizer(reference, add_special_tokens=False)["input_ids"])
        if len(ids) <= self.limit:
            return None
        return Finding(
            f"reference longer than {self.limit:,} tokens", f"{len(ids):,} tokens", drops=True
        )


@dataclass(frozen=True)
class Prepared:
    """The rows that stay, in the order of their set, and what was found on the way."""

    rows: tuple[Example, ...]
    findings: tuple[tuple[Example, Finding], ...]
    """Of every row that was looked at, in the order of looking."""
    usable: int
    """Rows of the set that could have been drawn."""
    skipped: int
    """Bad rows left out under `on_bad_row: skip`."""
    looked_at: int
    """Rows that were drawn: a full sample draws no further."""

    def counts(self, drops: bool) -> Counter[str]:
        """Rows dropped, or kept with a remark, by reason; one dropped for two reasons counts under
        both.
        """
        gone = {example.id for example, finding in self.findings if finding.drops}
        return Counter(
            f.reason
            for example, f in self.findings
            if f.drops is drops and (drops or example.id not in gone)
        )


def prepare_rows(settings: TrainingSet, checks: Sequence[Check]) -> Prepared:
    """A sample of `settings.subset` rows that pass every check, or all that do.

    Without a row to drop, it is the very sample that training takes with these settings.  Raises
    DataError as `load_examples` does, or where too few rows pass.
    """
    draws = draw_examples(settings)
    if settings.subset is not None and not 0 < settings.subset <= draws.usable:
        raise DataError(
            f"{settings.path} has {draws.usable} usable rows, but a sample of {settings.subset} is "
            "asked for. Ask for between 1 and that many with --subset."
        )
    wanted = draws.usable if settings.subset is None else settings.subset
    kept: dict[int, Example] = {}
    findings: list[tuple[Example, Finding]] = []
    looked_at = 0
    with tqdm(total=wanted, unit=" rows", disable=None) as bar:
        while drawn := list(islice(draws.examples, min(AT_ONCE, wanted - len(kept)))):
            looked_at += len(drawn)
            found = _findings([example for _, example in drawn], checks)
            findings += found
            gone = {example.id for example, finding in found if finding.drops}
            kept |= {place: example for place, example in drawn if example.id not in gone}
            bar.update(len(drawn) - len(gone))
    prepared = Prepared(
        tuple(kept[place] for place in sorted(kept)),
        tuple(findings),
        draws.usable,
        draws.skipped,
        looked_at,
    )
    if not kept or (settings.subset is not None and len(kept) < settings.subset):
        raise DataError(_too_few(settings, prepared))
    return prepared


def _findings(
    examples: Sequence[Example], checks: Sequence[Check]
) -> list[tuple[Example, Finding]]:
    """By row, then by check."""
    if not checks:
        return []
    by_check = [check(examples) for check in checks]
    by_row = zip(*by_check, strict=True)
    return [
        (example, finding)
        for example, found in zip(examples, by_row, strict=True)
        for finding in found
        if finding
    ]


def _too_few(settings: TrainingSet, prepared: Prepared) -> str:
    dropped = ", ".join(
        f"{reason} ({count})" for reason, count in prepared.counts(drops=True).most_common()
    )
    asked = f", but a sample of {settings.subset} is asked for" if settings.subset else ""
    example, finding = next((e, f) for e, f in prepared.findings if f.drops)
    return (
        f"{len(prepared.rows)} of the {prepared.usable} usable rows of {settings.path} "
        f"pass{asked}. Dropped: {dropped}; the first, {example.where}: {finding.detail}. Nothing "
        "was written. Ask for fewer rows, or for a milder check."
    )


HELD = 10_000
"""Rows held at a time, or as many as `subset` where that is more."""


class Draws(NamedTuple):
    """What a set has to draw from."""

    usable: int
    skipped: int
    """Bad rows left out under `on_bad_row: skip`."""
    examples: Iterator[tuple[int, Example]]
    """Each usable row with its place among them: by its draw, the one of a training's `subset`;
    without one, as they stand.
    """


def draw_examples(settings: TrainingSet) -> Draws:
    """Reads the set once to validate it, and again for every 10,000 rows that are drawn.

    Raises DataError as `load_examples` does.
    """
    bad: list[str] = []
    draws = [
        seed_for(settings.subset_seed, "subset", example.id)
        for example in usable_examples(settings, bad)
    ]
    refuse_bad_rows(settings, bad, len(draws))
    return Draws(len(draws), len(bad), _in_order(settings, draws))


def _in_order(settings: TrainingSet, draws: list[int]) -> Iterator[tuple[int, Example]]:
    if settings.subset is None:
        yield from enumerate(usable_examples(settings, []))
        return
    order = sorted(range(len(draws)), key=lambda place: (draws[place], place))
    size = max(settings.subset, HELD)
    for chunk in (order[start : start + size] for start in range(0, len(order), size)):
        wanted = set(chunk)
        held = {
            place: example
            for place, example in enumerate(usable_examples(settings, []))
            if place in wanted
        }
        yield from ((place, held[place]) for place in chunk)
