"""The frozen base sharded over the processes of a run with FSDP2.  The adapter is small and always
whole.

Under FSDP2 every forward pass is a collective: a layer's parameters are all-gathered from every
process as it is used, and again on the way back.  So all processes must make the same passes in
the same order.  Yet each samples until its own completions end, and has micro-batches of its own.
`synced_forwards` keeps them in step:

1. Before each pass, the processes agree in an all-reduce which kind of pass is next: the lowest
   `Pass` that any of them is about to make.
2. Who is about to make that kind makes it.
3. Who is not, or has no passes left, makes a dummy forward of one token instead.  It gathers the
   same layers in the same order, and its gradient is zero.
4. A process leaves once all are `Pass.DONE`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.policy.lm_head import decoder_of
from purified_opsd.policy.model import Policy


class Pass(IntEnum):
    """What a process does next.  The lowest that any process is about to make goes first."""

    UNTRACKED = 0
    """A forward pass without a graph."""
    TRACKED = 1
    """A forward pass with a graph, the head's use, and the way back."""
    DONE = 2
    """No pass: the process waits for the others."""


class ShardedLayout:
    """The base is sharded with FSDP2.  The module's docstring says how passes are kept in step."""

    def __init__(self, policy: Policy, device: torch.device):
        self.policy, self.device = policy, device
        self.decoder = decoder_of(policy.base)
        self._in_dummy_forward = False
        _apply_fsdp(policy, self.decoder, device)
        # FSDP2's own pre-forward hook all-gathers; ours must come before it.
        self.decoder.register_forward_pre_hook(self._before_pass, prepend=True)

    @contextmanager
    def gathered_head(self) -> Iterator[None]:
        """Unshards the head by hand: the loss reads its weight outside of any forward, where no
        hook of FSDP2 would gather it.
        """
        head = self.policy.head
        if not isinstance(head, FSDPModule):  # tied to the embedding, and so whole
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
        except (ModelError, ServersLost, FloatingPointError):
            # The others hear of it in `raise_on_any_rank`, once they have made all their passes.
            self._dummy_forwards_until(Pass.DONE)
            raise
        self._dummy_forwards_until(Pass.DONE)

    def _before_pass(self, decoder: nn.Module, inputs: Any) -> None:
        """Holds a real pass back until its kind is next in all processes."""
        if not self._in_dummy_forward:
            own = Pass.TRACKED if torch.is_grad_enabled() else Pass.UNTRACKED
            self._dummy_forwards_until(own)

    def _dummy_forwards_until(self, own: Pass) -> None:
        """Makes a dummy forward for each pass of the others, until `own` is the next of all."""
        self._in_dummy_forward = True
        try:
            while (next_pass := self._lowest_of_all(own)) != own:
                self._dummy_forward(next_pass)
        finally:
            self._in_dummy_forward = False

    def _lowest_of_all(self, own: Pass) -> Pass:
        lowest = torch.tensor(int(own), device=self.device)
        dist.all_reduce(lowest, dist.ReduceOp.MIN)
        return Pass(int(lowest))

    def _dummy_forward(self, kind: Pass) -> None:
        """Makes all the collectives of a pass of that kind, in the same order, on one token."""
        with torch.set_grad_enabled(kind == Pass.TRACKED):
            # 1. The forward all-gathers each layer's parameters, and reshards them after it.
            token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            hidden: Tensor = self.decoder(input_ids=token, use_cache=False).last_hidden_state
            if kind == Pass.TRACKED:
                # 2. The loss unshards the head.
                with self.gathered_head():
                    pass
                # 3. The backward all-gathers each layer again.  Frozen parameters have no gradient
                #    to reduce-scatter, and the adapter's grows by zero.
                hidden.backward(torch.zeros_like(hidden))


def _apply_fsdp(policy: Policy, decoder: nn.Module, device: torch.device) -> None:
    """Applies `fully_shard` bottom-up: each layer, the embedding and the head are parameter groups
    of their own, and the rest of the decoder is their root's.
    """
    layers = [
        module for module in decoder.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    _refuse_unshardable(policy, layers)
    # 1. The adapter's parameters are ignored: they stay whole, and plain tensors.
    adapter = set(policy.adapter_parameters().values())
    # 2. An embedding tied to the head is ignored too: one parameter cannot be in two groups.
    embedding, head = policy.base.get_input_embeddings(), cast(nn.Linear, policy.head)
    tied = embedding.weight is head.weight
    ends = [] if tied else [embedding, head]
    # 3. Each group is all-gathered by its own forward, and resharded after it.
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*layers, *ends]:
        fully_shard(module, mesh=mesh, ignored_params=adapter)
    # 4. The root comes last, and takes what no group has: the final norm.
    ignored = adapter | set(cast(nn.Module, embedding).parameters()) if tied else adapter
    fully_shard(decoder, mesh=mesh, ignored_params=ignored)
    # 5. The head stays unsharded after a forward, until `gathered_head` reshards it.
    if not tied:
        cast(FSDPModule, head).set_reshard_after_forward(False)
    # 6. The shards, and what was ignored, go to the device.
    policy.model.to(device)


def _refuse_unshardable(policy: Policy, layers: list[GradientCheckpointingLayer]) -> None:
    if not layers:
        missing = "layers that transformers marks as such"
    elif not isinstance(policy.head, nn.Linear):
        missing = "a head that is plainly linear"
    else:
        return
    raise ModelError(
        f"{type(policy.base).__name__} cannot be sharded: it has not {missing}. Train it with "
        "--sharding replicated, where each process holds the whole base."
    )
