"""The sections of a report that show measurements, and what of them is missing."""

import shlex
from collections.abc import Callable, Mapping, Sequence

from . import curves, marker_figures, tables, training_curves
from .elements import Missing, Section
from .marker_counts import Markers
from .marker_figures import Tallies
from .run_completions import EVALUATION, SOURCES
from .runs import RunRecord


def sections(
    runs: Sequence[RunRecord], found: Mapping[str, Tallies], markers: Markers
) -> list[Section]:
    """From what matters most to what only some will ask."""
    owed = _incomplete(runs, found[EVALUATION])
    return [
        _accuracy(runs, owed), _markers(runs, found, markers, owed), _decomposition(runs), _training(runs), _lengths(runs, owed),
        _seconds(runs),
    ]  # fmt: skip


def _accuracy(runs: Sequence[RunRecord], owed: Sequence[Missing]) -> Section:
    any_scores = any(run.scores for run in runs)
    return Section(
        "accuracy",
        "Accuracy",
        "Does the student still solve problems, and better or worse than its base?",
        figures=[curves.accuracy(runs)],
        tables=[tables.table_1(runs)] if any_scores else [],
        folded=[tables.details(runs)] if any_scores else [],
        missing=[*_not_evaluated(runs), *owed],
    )


def _markers(
    runs: Sequence[RunRecord],
    found: Mapping[str, Tallies],
    markers: Markers,
    owed: Sequence[Missing],
) -> Section:
    there = [source for source in SOURCES if any(found[source].values())]
    drawn = [
        (
            marker_figures.totals(runs, source, found[source]),
            marker_figures.distribution(runs, source, found[source], markers),
        )
        for source in there
    ]
    further = [
        item
        for source in there
        for item in (
            marker_figures.each(runs, source, found[source], markers),
            marker_figures.counts(source, found[source], markers),
        )
    ]
    return Section(
        "markers",
        "Epistemic markers",
        "Words by which a model says that it is unsure, looks again, or tries another way. A count "
        "that collapses or explodes is what the paper calls pathological.",
        figures=drawn[0] if drawn else (),
        folded=[
            *(figure for figures in drawn[1:] for figure in figures), *further,
            *([marker_figures.training(runs, markers)] if any(run.metrics for run in runs) else []),
        ],
        missing=[*_missing(runs, "evaluated or diagnosed completions", _EVALUATE,
                           lambda run: any(found[source][run.name] for source in SOURCES) or bool(run.asked)), *owed],
    )  # fmt: skip


def _decomposition(runs: Sequence[RunRecord]) -> Section:
    return Section(
        "decomposition",
        "The teacher's pull",
        "The teacher moves the student by Δ_total. How much of that would the reference alone say "
        "(Δ_ref), and how much comes of the question (Δ_it)? A cosine near 1 and a norm near the "
        "whole mean: nearly all.",
        figures=[curves.decomposition(runs, "", "Direction and size of its parts (Fig. 3)",
                                      "Every row of the vocabulary counts alike, as in the paper.")],
        folded=[
            curves.decomposition(runs, "weighted_", "The same, weighted by probability",
                                 "Each token of the vocabulary weighed by the student's "
                                 "probability."),
            curves.decomposition(runs, "top64_", "The same, likeliest tokens only", "Over the "
                                                                                    "student's 64 "
                                                                                    "likeliest "
                                                                                    "tokens."),
            curves.distances(runs),
            training_curves.decomposition(runs),
        ],
        missing=_missing(runs, "diagnosis", "purified-opsd diagnose {run}", lambda run: bool(run.diagnoses)),
    )  # fmt: skip


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


def _lengths(runs: Sequence[RunRecord], owed: Sequence[Missing]) -> Section:
    return Section(
        "lengths",
        "Lengths and truncation",
        "A completion that is cut off has no answer: an accuracy may change because lengths do.",
        figures=[curves.lengths(runs)],
        missing=[*_not_evaluated(runs), *owed],
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
    return _missing(runs, "evaluation", _EVALUATE, lambda run: bool(run.scores or run.asked))


def _incomplete(runs: Sequence[RunRecord], found: Tallies) -> list[Missing]:
    """Evaluations that were begun and not finished, or finished and not written down."""
    there = {run.name: sum(tally.completions for tally in found[run.name].values()) for run in runs}
    owed = {run.name: sum(run.asked.values()) for run in runs}
    return [
        Missing(
            run.name,
            f"has an incomplete evaluation, {there[run.name]:,} of {owed[run.name]:,} completions; "
            "the same command goes on",
            f"purified-opsd evaluate {shlex.quote(str(run.folder))} …",
        )
        for run in runs
        if there[run.name] < owed[run.name] or (run.asked and not run.scores)
    ]


def _missing(
    runs: Sequence[RunRecord], what: str, command: str, has: Callable[[RunRecord], bool]
) -> list[Missing]:
    return [
        Missing(run.name, f"has no {what} yet", command.format(run=shlex.quote(str(run.folder))))
        for run in runs
        if not has(run)
    ]
