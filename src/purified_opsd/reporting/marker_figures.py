"""Epistemic markers by checkpoint, and which they are.  Figs. 2 and 5."""

from collections.abc import Mapping, Sequence
from typing import Any

from .curves import by_step, colours, from_zero
from .elements import Figure, Table
from .figures import GREY, Bars
from .marker_counts import MarkerTally, MarkerWords
from .runs import Estimate, RunRecord

TalliesByRun = Mapping[str, Mapping[int, MarkerTally]]
"""By run, then by step."""


def marker_totals(runs: Sequence[RunRecord], source: str, tallies: TalliesByRun) -> Figure:
    """All markers per completion and per 1,000 tokens.  Figs. 2 and 5, a and c."""
    per_completion = {
        run: {step: tally.per_completion() for step, tally in steps.items()}
        for run, steps in tallies.items()
    }
    per_1000_tokens = {
        run: {step: Estimate(tally.per_1000_tokens(), None) for step, tally in steps.items()}
        for run, steps in tallies.items()
    }
    panels = [
        *from_zero([by_step(runs, "Per completion", "markers", per_completion)]),
        *from_zero([by_step(runs, "Per 1,000 tokens", "markers", per_1000_tokens)]),
    ]
    words = "Kim et al.'s words, as substrings."
    return Figure(
        f"markers-{source}",
        f"Markers by checkpoint, {source} (Figs. 2, 5)",
        f"In the completions of the {source}; {words}{_partial(tallies)}",
        panels,
    )


def marker_distribution(
    runs: Sequence[RunRecord], source: str, tallies: TalliesByRun, markers: MarkerWords
) -> Figure:
    """Each marker's count in the base and each run's last checkpoint.  Figs. 2 and 5, b and d."""
    ink = colours(runs)
    bases = [steps[0] for steps in tallies.values() if 0 in steps]
    bars = {"base": (GREY, bases[0])} if bases else {}
    for run in runs:
        steps = tallies[run.name]
        if any(steps):
            bars[run.name] = (ink[run.name], steps[max(steps)])
    substrings, words = {}, {}
    for label, (colour, tally) in bars.items():
        n = tally.completions
        substrings[label] = (colour, [tally.substrings[word] / n for word in markers.all])
        words[label] = (colour, [tally.words[word] / n for word in markers.all])
    caption = (
        f"The base, and each run's last checkpoint, in the completions of the {source}."
        f"{_own(markers)}{_partial(tallies)}"
    )
    return Figure(
        f"markers-{source}-distribution",
        f"Which markers, {source} (Figs. 2, 5)",
        caption,
        [
            Bars("As substrings", "per completion", markers.all, substrings),
            Bars("As words", "per completion", markers.all, words),
        ],
    )


def single_markers(
    runs: Sequence[RunRecord], source: str, tallies: TalliesByRun, markers: MarkerWords
) -> Figure:
    """One panel for each marker that was ever found, all on one scale."""
    all_tallies = [tally for steps in tallies.values() for tally in steps.values()]
    seen = [word for word in markers.all if any(tally.substrings[word] for tally in all_tallies)]
    unseen = [word for word in markers.all if word not in seen]
    never = f" Never found: {', '.join(unseen)}." if unseen else ""
    return Figure(
        f"markers-{source}-each",
        f"Each marker by checkpoint, {source}",
        f"As substrings, on one scale.{never}{_own(markers)}{_partial(tallies)}",
        from_zero([by_step(runs, word, "per completion", _rate(word, tallies)) for word in seen]),
    )


def _rate(word: str, tallies: TalliesByRun) -> dict[str, dict[int, Estimate]]:
    """How often a completion holds the marker, by run and step."""
    return {
        run: {
            step: Estimate(tally.substrings[word] / tally.completions, None)
            for step, tally in steps.items()
        }
        for run, steps in tallies.items()
    }


def marker_table(source: str, tallies: TalliesByRun, markers: MarkerWords) -> Table:
    """Every count, as it was counted."""
    rows = [
        [f"{run}, {f'step {step}' if step else 'base'}", *_count_cells(tally, markers)]
        for run, steps in tallies.items()
        for step, tally in steps.items()
    ]
    return Table(
        f"Counts, {source}",
        f"Each marker as a substring · as a word.{_own(markers)}",
        ["", "completions", "tokens", "markers", *markers.all],
        rows,
    )


def _count_cells(tally: MarkerTally, markers: MarkerWords) -> list[str]:
    partial = f" of {tally.requested:,} PARTIAL" if tally.partial else ""
    return [
        f"{tally.completions:,}{partial}",
        f"{tally.tokens:,}",
        f"{tally.total:,}",
        *(f"{tally.substrings[word]:,} · {tally.words[word]:,}" for word in markers.all),
    ]


def training_marker_table(runs: Sequence[RunRecord], markers: MarkerWords) -> Table:
    """What the completions of all training steps held."""
    tokens = [sum(row.get("completion_tokens", 0) for row in run.metrics) for run in runs]
    rows = [["tokens", *(f"{count:,}" for count in tokens)]]
    for word in markers.all:
        rows.append([word, *(_training_cell(run.metrics, word) for run in runs)])
    caption = f"Over all training steps: each marker as a substring · as a word.{_own(markers)}"
    return Table("Counts, training", caption, ["", *(run.name for run in runs)], rows)


def _training_cell(metrics: Sequence[Mapping[str, Any]], word: str) -> str:
    counted = [row["marker_counts"] for row in metrics if "marker_counts" in row]
    totals = (
        sum(counts[way]["by_marker"].get(word, 0) for counts in counted)
        for way in ("substring", "word")
    )
    return " · ".join(f"{total:,}" for total in totals)


def _own(markers: MarkerWords) -> str:
    return f" Of the runs' own, and in no total: {', '.join(markers.own)}." if markers.own else ""


def _partial(tallies: TalliesByRun) -> str:
    """Says which evaluations are not complete; empty where all are."""
    incomplete = [
        f"{run}, {f'step {step}' if step else 'base'} ({tally.completions:,} of "
        f"{tally.requested:,} completions)"
        for run, steps in tallies.items()
        for step, tally in steps.items()
        if tally.partial
    ]
    return f" PARTIAL: {'; '.join(incomplete)}." if incomplete else ""
