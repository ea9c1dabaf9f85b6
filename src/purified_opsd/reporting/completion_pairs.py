"""The same questions answered before and after: by the base and by each run's last checkpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .marker_counts import MarkerWords
from .run_completions import (
    EVALUATION,
    SOURCES,
    ReportedCompletion,
    read_completions,
    read_problems,
)
from .runs import RunRecord
from .sanitize import shortened

MOST_CHARACTERS = 12_000
"""Characters shown of a completion."""

CompletionsByRun = Mapping[str, Mapping[int, ReportedCompletion]]
"""By run, then by step."""

Question = tuple[str, str]
"""Benchmark and id."""


@dataclass(frozen=True)
class ShownCompletion:
    """One completion, cut into pieces of which every second one is a marker."""

    author: str
    facts: str
    pieces: Sequence[str]


@dataclass(frozen=True)
class CompletionPair:
    """A question, and what base and checkpoints wrote to it."""

    id: str
    problem: str
    """Empty where the run directory does not hold it."""
    source: str
    completions: Sequence[ShownCompletion]


def completion_pairs(
    runs: Sequence[RunRecord], markers: MarkerWords, most: int = 3
) -> list[CompletionPair]:
    """The first questions that were asked, whatever came out; none where nothing was sampled."""
    problems = {key: text for run in runs for key, text in read_problems(run.folder).items()}
    for source in SOURCES:
        questions = _first_questions(runs, source, most)
        if questions:
            last = {run.name: _last_requested(run, source) for run in runs}
            return [
                CompletionPair(
                    id=id,
                    problem=problems.get((benchmark, id), ""),
                    source=f"{source} {benchmark}".rstrip(),
                    completions=list(_shown(by_run, last, markers)),
                )
                for (benchmark, id), by_run in questions.items()
            ]
    return []


def _last_requested(run: RunRecord, source: str) -> int:
    """The last step whose completions the evaluation was asked for."""
    return max(run.requested, default=0) if source == EVALUATION else 0


def _first_questions(
    runs: Sequence[RunRecord], source: str, most: int
) -> dict[Question, dict[str, dict[int, ReportedCompletion]]]:
    """The first completion that the base and every checkpoint wrote to each question."""
    kept: dict[Question, dict[str, dict[int, ReportedCompletion]]] = {}
    for run in runs:
        for completion in read_completions(run.folder, source):
            question = completion.benchmark, completion.id
            if completion.run == 0 and (question in kept or len(kept) < most):
                by_run = kept.setdefault(question, {})
                by_run.setdefault(run.name, {})[completion.step] = completion
    return kept


def _shown(
    completions: CompletionsByRun, last: Mapping[str, int], markers: MarkerWords
) -> Iterator[ShownCompletion]:
    """The base, once where all runs have the same, then the last checkpoint that each run has.

    `last` is the last step that was requested: a run whose completions stop before it is PARTIAL.
    """
    bases = {run: by_step[0] for run, by_step in completions.items() if 0 in by_step}
    if len({base.text for base in bases.values()}) == 1:
        bases = {"": next(iter(bases.values()))}
    for run, base in bases.items():
        yield _show(f"base of {run}" if run else "base", base, markers)
    for run, by_step in completions.items():
        step = max(by_step)
        if step:
            behind = step < last[run]
            partial = f" (PARTIAL: step {last[run]} has not answered yet)" if behind else ""
            yield _show(f"{run}, step {step}{partial}", by_step[step], markers)


def _show(author: str, completion: ReportedCompletion, markers: MarkerWords) -> ShownCompletion:
    count = markers.by_substring([completion.text], markers.words).total()
    facts = [
        completion.verdict,
        f"{completion.tokens:,} tokens",
        "" if completion.finish_reason == "stop" else "cut off",
        f"{count} markers",
    ]
    pattern = f"({'|'.join(map(re.escape, markers.all))})" if markers.all else "(?!)"
    text = shortened(completion.text, MOST_CHARACTERS)
    pieces = re.split(pattern, text, flags=re.IGNORECASE)
    return ShownCompletion(author, " · ".join(filter(None, facts)), pieces)
