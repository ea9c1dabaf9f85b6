"""What may stand in one evaluation's folder: samples whose numbers may be set beside each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from purified_opsd.reporting.records import RunError

from .samples import SampleFolder


def refuse_mixture(folder: Path, benchmark: str, candidate: str, settings: Mapping[str, Any]) -> None:
    """Raises RunError where what an evaluation's folder holds cannot stand beside what is asked of a candidate on a benchmark.

    Its own samples must be drawn alike; those of the benchmark's other candidates alike but for the weights, since a difference is
    taken; those of the same name on other benchmarks from the same weights, since a mean is.
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
                    f"{there.folder} holds samples drawn with {name} = {before.get(name)}, and {settings.get(name)} is asked for: "
                    "one number made of both would mean nothing. Give another --output, or ask for what it was begun with."
                )


def refuse_namesakes(what: str, names: Sequence[str]) -> None:
    """Raises RunError where two of the benchmarks, or candidates, would share a folder."""
    for name, count in Counter(names).items():
        if count > 1:
            raise RunError(
                f"{count} {what} are called {name}, and their samples would go into one folder. Ask for each once; where they are "
                "not the same, rename the file or folder of one."
            )
