"""Runs that are one run several times over: twelve of them look certain and know no more than one."""

from collections.abc import Iterable

from purified_opsd.reporting.records import RunError

from .samples import Sample


def refuse_repeats(samples: Iterable[Sample], runs: int) -> None:
    """Raises RunError if any two runs gave the same completion to every problem that both have, two problems at least."""
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
                f"Runs {before} and {run} gave the same completion, token for token, to each of {len(of_run)} problems: the "
                "sampler takes no notice of the seeds it is given, so more runs would add certainty and no knowledge. Check that "
                "it passes each request its own seed, and that its temperature is above 0; then evaluate into another --output."
            )
