"""What may stand in one evaluation's folder: samples whose numbers may be set beside each other.

Runs that are one run several times over: twelve of them look certain and know no more than one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from purified_opsd.errors import RunError

from .sample_store import Sample, SampleFolder


def refuse_mixture(
    folder: Path, benchmark: str, candidate: str, settings: Mapping[str, Any]
) -> None:
    """Raises RunError where what an evaluation's folder holds cannot stand beside what is asked of
    a candidate on a benchmark.

    Its own samples must be drawn alike; those of the benchmark's other candidates alike but for the
    weights, since a difference is taken; those of the same name on other benchmarks from the same
    weights, since a mean is.
    """
    for file in sorted(folder.glob("*/*/samples.jsonl")):
        there = SampleFolder(file.parent)
        if not there.drawn:
            continue
        before = there.settings()
        bound = before.keys() | settings.keys()
        if file.parent.name != candidate:
            bound -= {"weights"}
        if file.parent.parent.name != benchmark:
            bound &= {"weights"}
        for name in sorted(bound):
            if before.get(name) != settings.get(name):
                raise RunError(
                    f"{there.folder} holds samples drawn with {name} = {before.get(name)}, and "
                    f"{settings.get(name)} is asked for: one number made of both would mean "
                    "nothing. Give another --output, or ask for what it was begun with."
                )


def refuse_namesakes(what: str, names: Sequence[str]) -> None:
    """Raises RunError where two of the benchmarks, or candidates, would share a folder."""
    for name, count in Counter(names).items():
        if count > 1:
            raise RunError(
                f"{count} {what} are called {name}, and their samples would go into one folder. "
                "Ask for each once; where they are not the same, rename the file or folder of one."
            )


def refuse_repeats(samples: Iterable[Sample], runs: int) -> None:
    """Raises RunError if any two runs gave the same completion to every problem that both have, two
    problems at least.
    """
    digests: dict[int, dict[str, str]] = {run: {} for run in range(runs)}
    for sample in samples:
        digests.setdefault(sample.run, {})[sample.id] = sample.digest
    seen: dict[frozenset[tuple[str, str]], int] = {}
    most = max(map(len, digests.values()), default=0)
    for run, of_run in digests.items():
        if len(of_run) < max(most, 2):  # not finished
            continue
        before = seen.setdefault(frozenset(of_run.items()), run)
        if before != run:
            raise RunError(
                f"Runs {before} and {run} gave the same completion, token for token, to each of "
                f"{len(of_run)} problems: the sampler takes no notice of the seeds it is given, so "
                "more runs would add certainty and no knowledge. Check that it passes each request "
                "its own seed, and that its temperature is above 0; then evaluate into another "
                "--output."
            )
