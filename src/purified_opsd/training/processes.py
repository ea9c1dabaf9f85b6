"""The processes of a run: how they come together, and how they part."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import psutil
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import distributed as dist

from purified_opsd.policy import ModelError, ServersLost
from purified_opsd.reporting.records import RunError

from .companions import Companions, Watch, end, launched_processes

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another that lives, at most: completions differ in length, and one process writes for all."""


def join() -> Accelerator:
    """The group of processes that the launcher started: over NCCL on GPUs, over gloo where there are none.

    Raises RunError where it is smaller than what was asked for, or has more processes than the machine has GPUs.
    """
    _refuse_more_than_devices()
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    asked, got = max(launched_processes(), _asked_of_accelerate()), accelerator.num_processes
    if got < asked:
        raise RunError(
            f"{asked} processes were asked for, and this one found {got}: each would train alone, into the same folder. Start "
            "them with `torchrun --nproc-per-node N -m purified_opsd.cli train ...`, on GPUs or not; `accelerate launch` starts "
            "several only with --multi_gpu, and never with --cpu."
        )
    if got > 1:
        keep_watch()
    return accelerator


def part(code: int) -> None:
    """Ends this process with that exit code once all have come so far; returns where it is the only one.

    A group that anything still holds when Python takes itself down aborts the process, now and then, by its threads.  So the group
    is left in order, and the process at once.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    gc.collect()
    PartialState().wait_for_everyone()
    keep_watch().stop()
    dist.destroy_process_group()
    end(code)


@contextmanager
def agreed(accelerator: Accelerator) -> Iterator[None]:
    """What one process cannot do, none goes on without: its ModelError, ServersLost or FloatingPointError is raised in all."""
    problem = None
    try:
        yield
    except (ModelError, ServersLost, FloatingPointError) as error:
        problem = error
    for found in gather_object([problem]):
        if found:
            raise found


@cache
def keep_watch() -> Watch:
    """Over the others, from the first call on.  Raises DistError where there is no store yet."""
    return Watch(Companions())


def _refuse_more_than_devices() -> None:
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if torch.accelerator.is_available() and local > devices:
        raise RunError(
            f"{local} processes were started on a machine with {devices} GPUs: each needs one of its own. Start {devices} there "
            f"(--nproc-per-node {devices}), or hide the GPUs to train on the processor (CUDA_VISIBLE_DEVICES=)."
        )


def _asked_of_accelerate() -> int:
    """The --num_processes of an `accelerate launch` that started this process alone and tells it nothing."""
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or "RANK" in os.environ:
        return 1
    parent = psutil.Process().parent()
    words = [part for word in (parent.cmdline() if parent else []) for part in word.split("=", 1)]
    names = [i for i, word in enumerate(words) if word.replace("-", "_") == "__num_processes"]
    return int(words[names[0] + 1]) if names else 1
