"""The sections of a report that show measurements, and what of them is missing."""

import shlex
from collections.abc import Callable, Mapping, Sequence

from . import curves, marker_figures, tables, training_curves
from .elements import Figure, Missing, Section, Table
from .marker_counts import MarkerWords
from .marker_figures import TalliesByRun
from .run_completions import EVALUATION, SOURCES
from .run_differences import run_differences
from .runs import RunRecord


def sections(
    runs: Sequence[RunRecord], tallies: Mapping[str, TalliesByRun], markers: MarkerWords
) -> list[Section]:
    """From what matters most to what only some will ask; `tallies` are by source."""
    incomplete = _incomplete(runs, tallies[EVALUATION])
    return [
        _accuracy(runs, incomplete),
        _markers(runs, tallies, markers, incomplete),
        _decomposition(runs),
        _training(runs),
        _lengths(runs, incomplete),
        _seconds(runs),
    ]


def _accuracy(runs: Sequence[RunRecord], incomplete: Sequence[Missing]) -> Section:
    any_scores = any(run.scores for run in runs)
    differences = run_differences(runs)
    return Section(
        "accuracy",
        "Accuracy",
        "Does the student still solve problems, and better or worse than its base?",
        figures=[curves.accuracy(runs)],
        tables=[
            *([tables.table_1(runs)] if any_scores else []),
            *([differences] if differences else []),
        ],
        folded=[tables.details(runs)] if any_scores else [],
        missing=[*_not_evaluated(runs), *incomplete],
    )


def _markers(
    runs: Sequence[RunRecord],
    tallies: Mapping[str, TalliesByRun],
    markers: MarkerWords,
    incomplete: Sequence[Missing],
) -> Section:
    """Shows the first source that has completions; the second one and the tables are folded."""
    measured = [source for source in SOURCES if any(tallies[source].values())]
    figures: list[Figure] = []
    folded: list[Figure | Table] = []
    for source in measured:
        figures += [
            marker_figures.marker_totals(runs, source, tallies[source]),
            marker_figures.marker_distribution(runs, source, tallies[source], markers),
        ]
        folded += [
            marker_figures.single_markers(runs, source, tallies[source], markers),
            marker_figures.marker_table(source, tallies[source], markers),
        ]
    if any(run.metrics for run in runs):
        folded.append(marker_figures.training_marker_table(runs, markers))
    missing = _missing(
        runs,
        "evaluated or diagnosed completions",
        _EVALUATE,
        lambda run: any(tallies[source][run.name] for source in SOURCES) or bool(run.requested),
    )
    return Section(
        "markers",
        "Epistemic markers",
        "Words by which a model says that it is unsure, looks again, or tries another way. A count "
        "that collapses or explodes is what the paper calls pathological.",
        figures=figures[:2],
        folded=[*figures[2:], *folded],
        missing=[*missing, *incomplete],
    )


def _decomposition(runs: Sequence[RunRecord]) -> Section:
    return Section(
        "decomposition",
        "The teacher's pull",
        "The teacher moves the student by Δ_total. How much of that would the reference alone say "
        "(Δ_ref), and how much comes of the question (Δ_it)? A cosine near 1 and a norm near the "
        "whole mean: nearly all.",
        figures=[
            curves.decomposition(
                runs,
                "",
                "Direction and size of its parts (Fig. 3)",
                "Every row of the vocabulary counts alike, as in the paper.",
            )
        ],
        folded=[
            curves.decomposition(
                runs,
                "weighted_",
                "The same, weighted by probability",
                "Each token of the vocabulary weighed by the student's probability.",
            ),
            curves.decomposition(
                runs,
                "top64_",
                "The same, likeliest tokens only",
                "Over the student's 64 likeliest tokens.",
            ),
            curves.distances(runs),
            training_curves.decomposition(runs),
        ],
        missing=_missing(
            runs, "diagnosis", "purified-opsd diagnose {run}", lambda run: bool(run.diagnoses)
        ),
    )


def _training(runs: Sequence[RunRecord]) -> Section:
    return Section(
        "training",
        "Training",
        "Losses of different targets are divergences to different things: their heights cannot be "
        "compared.",
        figures=[
            training_curves.curves(runs, "training", "Every training step", training_curves.FIRST)
        ],
        folded=[
            training_curves.curves(
                runs, "training-further", "Further numbers of each step", training_curves.FURTHER
            )
        ],
        missing=_missing(
            runs, "training step", "purified-opsd resume {run}", lambda run: bool(run.metrics)
        ),
    )


def _lengths(runs: Sequence[RunRecord], incomplete: Sequence[Missing]) -> Section:
    return Section(
        "lengths",
        "Lengths and truncation",
        "A completion that is cut off has no answer: an accuracy may change because lengths do.",
        figures=[curves.lengths(runs)],
        missing=[*_not_evaluated(runs), *incomplete],
    )


def _seconds(runs: Sequence[RunRecord]) -> Section:
    return Section(
        "seconds",
        "Seconds by part",
        "Where the time of a step went.",
        figures=[training_curves.seconds(runs)],
        missing=_missing(
            runs, "training step", "purified-opsd resume {run}", lambda run: bool(run.metrics)
        ),
    )


_EVALUATE = "purified-opsd evaluate {run} --benchmarks NAME"


def _not_evaluated(runs: Sequence[RunRecord]) -> list[Missing]:
    return _missing(runs, "evaluation", _EVALUATE, lambda run: bool(run.scores or run.requested))


def _incomplete(runs: Sequence[RunRecord], tallies: TalliesByRun) -> list[Missing]:
    """Evaluations that were begun and not finished, or finished and not written down."""
    incomplete = []
    for run in runs:
        drawn = sum(tally.completions for tally in tallies[run.name].values())
        requested = sum(run.requested.values())
        if drawn < requested or (run.requested and not run.scores):
            what = (
                f"has an incomplete evaluation, {drawn:,} of {requested:,} completions; the same "
                "command goes on"
            )
            command = f"purified-opsd evaluate {shlex.quote(str(run.folder))} …"
            incomplete.append(Missing(run.name, what, command))
    return incomplete


def _missing(
    runs: Sequence[RunRecord], what: str, command: str, has: Callable[[RunRecord], bool]
) -> list[Missing]:
    return [
        Missing(run.name, f"has no {what} yet", command.format(run=shlex.quote(str(run.folder))))
        for run in runs
        if not has(run)
    ]
