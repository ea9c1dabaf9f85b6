"""The same questions answered before and after: by the base and by each run's last checkpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .marker_counts import Markers
from .run_completions import EVALUATION, SOURCES, Written, problems, written
from .runs import RunRecord
from .sanitize import shortened

MOST = 12_000
"""Characters shown of a completion."""

Answers = Mapping[str, Mapping[int, Written]]
"""By run, then by step."""


@dataclass(frozen=True)
class Answer:
    """One completion, cut into pieces of which every second one is a marker."""

    by: str
    facts: str
    pieces: Sequence[str]


@dataclass(frozen=True)
class Question:
    """A question, and what was answered to it."""

    id: str
    problem: str
    """Empty where the run directory does not hold it."""
    source: str
    answers: Sequence[Answer]


def before_and_after(runs: Sequence[RunRecord], markers: Markers, most: int = 3) -> list[Question]:
    """The first questions that were asked, whatever came out; none where there are no completions."""
    for source in SOURCES:
        texts = {key: text for run in runs for key, text in problems(run.folder).items()}
        kept = _first_questions(runs, source, most)
        last = {run.name: max(run.asked, default=0) if source == EVALUATION else 0 for run in runs}
        if kept:
            return [
                Question(
                    key[1],
                    texts.get(key, ""),
                    " ".join(filter(None, (source, key[0]))),
                    list(_answers(answers, last, markers)),
                )
                for key, answers in kept.items()
            ]
    return []


def _first_questions(
    runs: Sequence[RunRecord], source: str, most: int
) -> dict[tuple[str, str], dict[str, dict[int, Written]]]:
    """By benchmark and id: the first completion of every candidate."""
    kept: dict[tuple[str, str], dict[str, dict[int, Written]]] = {}
    for run in runs:
        for completion in written(run.folder, source):
            key = completion.benchmark, completion.id
            if completion.run == 0 and (key in kept or len(kept) < most):
                kept.setdefault(key, {}).setdefault(run.name, {})[completion.step] = completion
    return kept


def _answers(answers: Answers, last: Mapping[str, int], markers: Markers) -> Iterator[Answer]:
    """The base, once where all runs have the same, then the last checkpoint of each run that has
    answered; `last` was asked to.
    """
    bases = {run: steps[0] for run, steps in answers.items() if 0 in steps}
    if len({base.text for base in bases.values()}) == 1:
        bases = {"": next(iter(bases.values()))}
    for run, base in bases.items():
        yield _answer(f"base of {run}" if run else "base", base, markers)
    for run, steps in answers.items():
        step = max(steps)
        if step:
            owed = f" (PARTIAL: step {last[run]} has not answered yet)" if step < last[run] else ""
            yield _answer(f"{run}, step {step}{owed}", steps[step], markers)


def _answer(by: str, completion: Written, markers: Markers) -> Answer:
    count = markers.by_substring([completion.text], markers.words).total()
    ended = "" if completion.finish_reason == "stop" else "cut off"
    facts = " · ".join(
        filter(
            None, (completion.verdict, f"{completion.tokens:,} tokens", ended, f"{count} markers")
        )
    )
    pattern = f"({'|'.join(map(re.escape, markers.all))})" if markers.all else "(?!)"
    return Answer(
        by, facts, re.split(pattern, shortened(completion.text, MOST), flags=re.IGNORECASE)
    )
