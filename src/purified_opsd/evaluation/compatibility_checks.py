"""What is refused in an evaluation's folder: samples whose numbers may not stand side by side, and
runs that repeat each other, since twelve copies of one run look certain and know no more than one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from purified_opsd.errors import RunError

from .sample_store import Sample, SampleFolder

CellKey = tuple[str, str]
"""A candidate and a benchmark."""


_OUR_GRADER = "the grader that goes with the benchmark"


def refuse_mixture(folder: Path, requested: Mapping[CellKey, Mapping[str, Any]]) -> None:
    """Raises RunError where samples that an evaluation's folder holds cannot stand beside those
    that are requested; `requested` holds the generation settings by candidate and benchmark.

    The samples of one candidate on one benchmark must be generated alike; those of the benchmark's
    other candidates alike but for the weights, since a difference is taken; those of the same
    candidate on other benchmarks from the same weights, since a mean is taken.
    """
    stored = _stored_settings(folder)
    for (candidate, benchmark), settings in requested.items():
        for samples, before in stored:
            bound = before.keys() | settings.keys()
            if samples.folder.name != candidate:
                bound -= {"weights"}
            if samples.folder.parent.name != benchmark:
                bound &= {"weights"}
            for name in sorted(bound):
                if before.get(name) != settings.get(name):
                    raise RunError(_mixture(samples.folder, name, before, settings))


def _mixture(
    folder: Path, name: str, before: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    if name == "grader":
        made = f"graded by {before.get(name) or _OUR_GRADER}"
        wanted = settings.get(name) or _OUR_GRADER
        remedy = ", or grade them again: `purified-opsd regrade RUN --grader MODULE:NAME`"
    else:
        made = f"drawn with {name} = {before.get(name)}"
        wanted = settings.get(name)
        remedy = ""
    return (
        f"{folder} holds samples {made}, and {wanted} is asked for: one number made of both would "
        "mean nothing. Give another --output-dir, or ask for what it was begun with"
        f"{remedy}."
    )


def _stored_settings(folder: Path) -> list[tuple[SampleFolder, dict[str, Any]]]:
    """Every folder that holds samples, and what they were generated with."""
    files = sorted(folder.glob("*/*/samples.jsonl"))
    stored = [SampleFolder(file.parent) for file in files]
    return [(samples, samples.settings()) for samples in stored if samples.has_samples]


def refuse_duplicate_names(what: str, names: Sequence[str]) -> None:
    """Raises RunError where two of the benchmarks, or candidates, would share a folder."""
    for name, count in Counter(names).items():
        if count > 1:
            raise RunError(
                f"{count} {what} are called {name}, and their samples would go into one folder. "
                "Ask for each once; where they are not the same, rename the file or folder of one."
            )


def refuse_identical_runs(samples: Iterable[Sample], runs: int) -> None:
    """Raises RunError if any two runs gave the same completion to every problem that both have, two
    problems at least.
    """
    digests: dict[int, dict[str, str]] = {run: {} for run in range(runs)}
    for sample in samples:
        digests.setdefault(sample.run, {})[sample.id] = sample.digest
    most = max(map(len, digests.values()), default=0)
    seen: dict[frozenset[tuple[str, str]], int] = {}
    for run, by_problem in digests.items():
        if len(by_problem) < max(most, 2):  # the run is not finished
            continue
        before = seen.setdefault(frozenset(by_problem.items()), run)
        if before != run:
            raise RunError(
                f"Runs {before} and {run} gave the same completion, token for token, to each of "
                f"{len(by_problem)} problems: the sampler takes no notice of the seeds it is "
                "given, so more runs would add certainty and no knowledge. Check that it passes "
                "each request its own seed, and that its temperature is above 0; then evaluate "
                "into another --output-dir."
            )
