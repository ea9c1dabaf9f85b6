"""Epistemic markers by checkpoint, and which they are.  Figs. 2 and 5."""

from collections.abc import Mapping, Sequence

from .curves import by_step, colours, from_zero
from .elements import Figure, Table
from .figures import GREY, Bars
from .marker_counts import MarkerCounts, Markers
from .runs import Estimate, RunRecord

Tallies = Mapping[str, Mapping[int, MarkerCounts]]
"""By run, then by step."""


def totals(runs: Sequence[RunRecord], source: str, found: Tallies) -> Figure:
    """Figs. 2 and 5, a and c."""
    each = {
        run: {step: tally.per_completion() for step, tally in tallies.items()}
        for run, tallies in found.items()
    }
    rates = {
        run: {step: Estimate(t.per_1000_tokens(), None) for step, t in tallies.items()}
        for run, tallies in found.items()
    }
    panels = [
        by_step(runs, "Per completion", "markers", each),
        by_step(runs, "Per 1,000 tokens", "markers", rates),
    ]
    panels = [*from_zero(panels[:1]), *from_zero(panels[1:])]
    caption = (
        f"In the completions of the {source}; Kim et al.'s words, as substrings.{_partial(found)}"
    )
    return Figure(
        f"markers-{source}", f"Markers by checkpoint, {source} (Figs. 2, 5)", caption, panels
    )


def distribution(
    runs: Sequence[RunRecord], source: str, found: Tallies, markers: Markers
) -> Figure:
    """Figs. 2 and 5, b and d: the base and each run's last checkpoint."""
    ink = colours(runs)
    bases = [tallies[0] for tallies in found.values() if 0 in tallies]
    bars = {"base": (GREY, bases[0])} if bases else {}
    bars |= {
        run.name: (ink[run.name], found[run.name][max(found[run.name])])
        for run in runs
        if any(found[run.name])
    }
    substrings = {
        label: (colour, [t.substrings[word] / t.completions for word in markers.all])
        for label, (colour, t) in bars.items()
    }
    by_word = {
        label: (colour, [t.words[word] / t.completions for word in markers.all])
        for label, (colour, t) in bars.items()
    }
    panels = [
        Bars("As substrings", "per completion", markers.all, substrings),
        Bars("As words", "per completion", markers.all, by_word),
    ]
    caption = f"The base, and each run's last checkpoint, in the completions of the {source}.{_own(markers)}{_partial(found)}"
    return Figure(
        f"markers-{source}-distribution", f"Which markers, {source} (Figs. 2, 5)", caption, panels
    )


def each(runs: Sequence[RunRecord], source: str, found: Tallies, markers: Markers) -> Figure:
    """One panel a marker that was ever found, all on one scale."""
    seen = [
        word
        for word in markers.all
        if any(tally.substrings[word] for tallies in found.values() for tally in tallies.values())
    ]
    never = (
        f" Never found: {', '.join(word for word in markers.all if word not in seen)}."
        if len(seen) < len(markers.all)
        else ""
    )
    panels = [
        by_step(runs, word, "per completion", {
            run: {step: Estimate(tally.substrings[word] / tally.completions, None) for step, tally in tallies.items()}
            for run, tallies in found.items()
        })
        for word in seen
    ]  # fmt: skip
    caption = f"As substrings, on one scale.{never}{_own(markers)}{_partial(found)}"
    return Figure(
        f"markers-{source}-each", f"Each marker by checkpoint, {source}", caption, from_zero(panels)
    )


def counts(source: str, found: Tallies, markers: Markers) -> Table:
    """What was counted, as it was counted."""
    rows = [
        [f"{run}, {f'step {step}' if step else 'base'}",
         f"{tally.completions:,}{f' of {tally.owed:,} PARTIAL' if tally.partial else ''}", f"{tally.tokens:,}",
         f"{tally.total:,}",
         *(f"{tally.substrings[word]:,} · {tally.words[word]:,}" for word in markers.all)]
        for run, tallies in found.items()
        for step, tally in tallies.items()
    ]  # fmt: skip
    caption = f"Each marker as a substring · as a word.{_own(markers)}"
    return Table(
        f"Counts, {source}", caption, ["", "completions", "tokens", "markers", *markers.all], rows
    )


def training(runs: Sequence[RunRecord], markers: Markers) -> Table:
    """What the completions of all training steps held."""
    counted = [
        [
            [
                row["marker_counts"][way]["by_marker"]
                for row in run.metrics
                if "marker_counts" in row
            ]
            for way in ("substring", "word")
        ]
        for run in runs
    ]
    rows = [
        [
            word,
            *(
                " · ".join(f"{sum(row.get(word, 0) for row in rows):,}" for rows in ways)
                for ways in counted
            ),
        ]
        for word in markers.all
    ]
    tokens = [f"{sum(row.get('completion_tokens', 0) for row in run.metrics):,}" for run in runs]
    caption = f"Over all training steps: each marker as a substring · as a word.{_own(markers)}"
    return Table(
        "Counts, training", caption, ["", *(run.name for run in runs)], [["tokens", *tokens], *rows]
    )


def _own(markers: Markers) -> str:
    return f" Of the runs' own, and in no total: {', '.join(markers.own)}." if markers.own else ""


def _partial(found: Tallies) -> str:
    """Who has not answered yet all that was asked; empty where everyone has."""
    who = [
        f"{run}, {f'step {step}' if step else 'base'} ({tally.completions:,} of {tally.owed:,} "
        "completions)"
        for run, tallies in found.items()
        for step, tally in tallies.items()
        if tally.partial
    ]
    return f" PARTIAL: {'; '.join(who)}." if who else ""
