"""The processes of a run: how they come together, and how they part.

What the processes of a run must have in common, though each reads settings, data, weights and
checkpoints for itself.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import psutil
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import distributed as dist

from purified_opsd.errors import ModelError, RunError, ServersLost

from .heartbeat import Heartbeats, HeartbeatWatch, end, launched_processes

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another that lives, at most: completions differ in length, and one
process writes for all.
"""


def init_distributed() -> Accelerator:
    """The group of processes that the launcher started: over NCCL on GPUs, over gloo where there
    are none.

    Raises RunError where it is smaller than what was asked for, or has more processes than the
    machine has GPUs.
    """
    _refuse_more_than_devices()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    asked, got = max(launched_processes(), _asked_of_accelerate()), accelerator.num_processes
    if got < asked:
        raise RunError(
            f"{asked} processes were asked for, and this one found {got}: each would train alone, "
            "into the same folder. Start them with `torchrun --nproc-per-node N -m "
            "purified_opsd.cli train ...`, on GPUs or not; `accelerate launch` starts several only "
            "with --multi_gpu, and never with --cpu."
        )
    if got > 1:
        keep_watch()
    return accelerator


def part(code: int) -> None:
    """Ends this process with that exit code once all have come so far; returns where it is the only
    one.

    A group that anything still holds when Python takes itself down aborts the process, now and
    then, by its threads.  So the group is left in order, and the process at once.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    gc.collect()
    PartialState().wait_for_everyone()
    keep_watch().stop()
    dist.destroy_process_group()
    end(code)


@contextmanager
def raise_on_any_rank(accelerator: Accelerator) -> Iterator[None]:
    """What one process cannot do, none goes on without: its ModelError, ServersLost or
    FloatingPointError is raised in all.
    """
    problem = None
    try:
        yield
    except (ModelError, ServersLost, FloatingPointError) as error:
        problem = error
    for found in gather_object([problem]):
        if found:
            raise found


@cache
def keep_watch() -> HeartbeatWatch:
    """Over the others, from the first call on.  Raises DistError where there is no store yet."""
    return HeartbeatWatch(Heartbeats())


def _refuse_more_than_devices() -> None:
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if torch.accelerator.is_available() and local > devices:
        raise RunError(
            f"{local} processes were started on a machine with {devices} GPUs: each needs one of "
            f"its own. Start {devices} there (--nproc-per-node {devices}), or hide the GPUs to "
            "train on the processor (CUDA_VISIBLE_DEVICES=)."
        )


def _asked_of_accelerate() -> int:
    """The --num_processes of an `accelerate launch` that started this process alone and tells it
    nothing.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or "RANK" in os.environ:
        return 1
    parent = psutil.Process().parent()
    words = [part for word in (parent.cmdline() if parent else []) for part in word.split("=", 1)]
    names = [i for i, word in enumerate(words) if word.replace("-", "_") == "__num_processes"]
    return int(words[names[0] + 1]) if names else 1


def check_same_on_all_ranks(found: Mapping[str, str]) -> None:
    """Raises RunError, in every process, where one has found something else under a name than
    process 0.
    """
    everyone = gather_object([dict(found)])
    for rank, theirs in enumerate(everyone):
        for name, ours in everyone[0].items():
            if theirs[name] != ours:
                raise RunError(
                    f"process {rank} of {len(everyone)} (ranks count from 0) has another {name} "
                    f"than process 0: {theirs[name]}, and not {ours}. Each reads for itself, and "
                    "together they would train on neither. Start all with the same command, and on "
                    "every machine with the same files."
                )
