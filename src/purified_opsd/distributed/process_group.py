"""The processes of a run: how they come together, what they must have in common though each reads
settings, data, weights and checkpoints for itself, and how they part.
"""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor, nn
from torch import distributed as dist

from purified_opsd.errors import ModelError, RunError, ServersLost

from .heartbeat import Heartbeats, HeartbeatWatch, end, launched_processes

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another that lives, at most: completions differ in length, and one
process writes for all.
"""


def init_distributed() -> Accelerator:
    """Joins the group of processes that the launcher started: over NCCL on GPUs, over gloo where
    there are none.

    Raises RunError where it is smaller than what was asked for, or has more processes than the
    machine has GPUs.
    """
    _refuse_more_than_devices()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    _refuse_fewer_than_launched(accelerator.num_processes)
    if accelerator.num_processes > 1:
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


def several_processes() -> bool:
    """Returns whether this process has others beside it."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sums every parameter's gradient over the processes, in place.

    An adapter is some 500 small tensors: they are laid end to end in one flat buffer, so that one
    collective carries them all.  A process that is alone copies nothing.
    """
    if not several_processes():
        return
    gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)


@contextmanager
def raise_on_any_rank(accelerator: Accelerator) -> Iterator[None]:
    """Raises in all processes what one of them raised inside: its ModelError, ServersLost or
    FloatingPointError, without which none can go on.
    """
    own_error = None
    try:
        yield
    except (ModelError, ServersLost, FloatingPointError) as error:
        own_error = error
    for error in gather_object([own_error]):
        if error:
            raise error


def check_same_on_all_ranks(values: Mapping[str, str]) -> None:
    """Raises RunError, in every process, where one has another value under a name than process
    0.
    """
    values_of_ranks = gather_object([dict(values)])
    for rank, values_of_rank in enumerate(values_of_ranks):
        for name, expected in values_of_ranks[0].items():
            if values_of_rank[name] != expected:
                raise RunError(
                    f"process {rank} of {len(values_of_ranks)} (ranks count from 0) has another "
                    f"{name} than process 0: {values_of_rank[name]}, and not {expected}. Each "
                    "reads for itself, and together they would train on neither. Start all with "
                    "the same command, and on every machine with the same files."
                )


@cache
def keep_watch() -> HeartbeatWatch:
    """Watches the other processes, from the first call on.  Raises DistError where there is no
    store yet.
    """
    return HeartbeatWatch(Heartbeats())


def _refuse_more_than_devices() -> None:
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if torch.accelerator.is_available() and local > devices:
        raise RunError(
            f"{local} processes were started on a machine with {devices} GPUs: each needs one of "
            f"its own. Start {devices} there (--nproc-per-node {devices}), or hide the GPUs to "
            "train on the processor (CUDA_VISIBLE_DEVICES=)."
        )


def _refuse_fewer_than_launched(joined: int) -> None:
    if joined < launched_processes():
        requested = str(launched_processes())
    elif joined == 1 and _accelerate_wanted_several():
        requested = "several"
    else:
        return
    raise RunError(
        f"{requested} processes were asked for, and this one found {joined}: each would train "
        "alone, into the same folder. Start them with `torchrun --nproc-per-node N -m "
        "purified_opsd.cli train ...`, on GPUs or not; `accelerate launch` starts several only "
        "with --multi_gpu, and never with --cpu. To train in one process, leave out "
        "--num_processes, and unset MASTER_ADDR where it is set."
    )


def _accelerate_wanted_several() -> bool:
    """Returns whether an `accelerate launch --num_processes N` started this process alone.

    It then tells no count.  But it says where the others would have been met, which it does for
    more than one process only, and gives no rank, as it does to each of several.
    """
    started_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    return started_by_accelerate and "MASTER_ADDR" in os.environ and "RANK" not in os.environ
