"""What the processes of a run must have in common, though each reads settings, data, weights and checkpoints for itself."""

from collections.abc import Mapping

from accelerate.utils import gather_object

from purified_opsd.reporting.records import RunError


def refuse_differences(found: Mapping[str, str]) -> None:
    """Raises RunError, in every process, where one has found something else under a name than process 0."""
    everyone = gather_object([dict(found)])
    for rank, theirs in enumerate(everyone):
        for name, ours in everyone[0].items():
            if theirs[name] != ours:
                raise RunError(
                    f"process {rank} of {len(everyone)} (ranks count from 0) has another {name} than process 0: {theirs[name]}, "
                    f"and not {ours}. Each reads for itself, and together they would train on neither. Start all with the same "
                    "command, and on every machine with the same files."
                )
