"""How the frozen base lies over the processes of a run: whole in each, or in shards.  The adapter
is small and always whole.

Under shards every forward pass is a collective, since each layer is gathered from all processes as
it is used; so is the way back. Yet processes sample until their own completions end, and have
micro-batches of their own.  `synced_forwards` keeps them in step.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.policy.model import Policy


@runtime_checkable
class Layout(Protocol):
    """What the loop must hold to, however the base lies."""

    def synced_forwards(self) -> AbstractContextManager[None]:
        """Around forward passes of which the processes may make different numbers; all processes
        enter and leave it.
        """
        ...

    def gathered_head(self) -> AbstractContextManager[None]:
        """Around what reads the head's weights; all processes enter it."""
        ...


class Whole:
    """The base is whole in each process: no pass concerns any other."""

    def synced_forwards(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gathered_head(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Replicated:
    """Every process holds the whole base."""

    kind: ClassVar[str] = "replicated"

    def loads_on(self, device: torch.device) -> torch.device:
        return device

    def spread(self, policy: Policy, device: torch.device) -> Layout:
        return Whole()


@dataclass(frozen=True)
class FSDP2:
    """Every process holds an equal share of each layer, of the embedding and of the head; over one
    process that is the whole.

    An embedding and a head that are one matrix stay whole in each process.
    """

    kind: ClassVar[str] = "fsdp2"

    def loads_on(self, device: torch.device) -> torch.device:
        """The base is read into the host's memory and goes to the device layer by layer, so it need
        not fit there whole.
        """
        return torch.device("cpu") if _several_processes() else device

    def spread(self, policy: Policy, device: torch.device) -> Layout:
        """Shards the policy's base in place.  Raises ModelError where it has no layers to be told
        apart, or no linear head.
        """
        return Sharded(policy, device) if _several_processes() else Whole()


def _several_processes() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


class Pass(IntEnum):
    """What a process does next, in the order in which the kinds are served."""

    UNTRACKED = 0
    """A forward pass without a graph."""
    TRACKED = 1
    """A forward pass with a graph, the head's use, and the way back."""
    DONE = 2


class Sharded:
    """Before each pass the processes agree on its kind; who has another kind to make, or is done,
    goes along with a single token.

    So all gather the same layers in the same order, and a gradient of zero is all that going along
    adds.
    """

    def __init__(self, policy: Policy, device: torch.device):
        self.policy, self.device = policy, device
        self.going_along = False
        self.decoder = policy.base.get_decoder()
        _shard(policy, self.decoder, device)
        self.decoder.register_forward_pre_hook(self._before_pass, prepend=True)

    @contextmanager
    def gathered_head(self) -> Iterator[None]:
        head = self.policy.head
        if not isinstance(head, FSDPModule):
            yield
            return
        head.unshard()
        try:
            yield
        finally:
            head.reshard()

    @contextmanager
    def synced_forwards(self) -> Iterator[None]:
        try:
            yield
        except (
            ModelError,
            ServersLost,
            FloatingPointError,
        ):  # the others are told of it once they are done
            self._dummy_forward_until(Pass.DONE)
            raise
        self._dummy_forward_until(Pass.DONE)

    def _before_pass(self, decoder: nn.Module, inputs: Any) -> None:
        if not self.going_along:
            self._dummy_forward_until(Pass.TRACKED if torch.is_grad_enabled() else Pass.UNTRACKED)

    def _dummy_forward_until(self, mine: Pass) -> None:
        self.going_along = True
        try:
            while (served := self._first_of_all(mine)) != mine:
                self._dummy_forward(served)
        finally:
            self.going_along = False

    def _first_of_all(self, mine: Pass) -> Pass:
        kind = torch.tensor(int(mine), device=self.device)
        dist.all_reduce(kind, dist.ReduceOp.MIN)
        return Pass(int(kind))

    def _dummy_forward(self, served: Pass) -> None:
        with torch.set_grad_enabled(served == Pass.TRACKED):
            token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            hidden: Tensor = self.decoder(input_ids=token, use_cache=False).last_hidden_state
            if served == Pass.TRACKED:
                with self.gathered_head():
                    pass
                hidden.backward(torch.zeros_like(hidden))


def _shard(policy: Policy, decoder: nn.Module, device: torch.device) -> None:
    """A group a layer, one for the embedding, one for the head, and the rest of the decoder as
    their root.
    """
    layers = [
        module for module in decoder.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    if not layers or not isinstance(policy.head, nn.Linear):
        lacks = (
            "layers that transformers marks as such"
            if not layers
            else "a head that is plainly linear"
        )
        raise ModelError(
            f"{type(policy.base).__name__} cannot be sharded: it has not {lacks}. Train it with "
            "--sharding replicated, where each process holds the whole base."
        )
    embedding, head = policy.base.get_input_embeddings(), policy.head
    ends = [] if embedding.weight is head.weight else [embedding, head]
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    adapter = set(policy.adapter_parameters().values())
    for module in [*layers, *ends]:
        fully_shard(module, mesh=mesh, ignored_params=adapter)
    whole = adapter if ends else adapter | set(cast(nn.Module, embedding).parameters())
    fully_shard(decoder, mesh=mesh, ignored_params=whole)
    if ends:
        cast(FSDPModule, head).set_reshard_after_forward(False)  # whole_head says when
    policy.model.to(device)
