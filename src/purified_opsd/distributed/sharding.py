"""How the frozen base lies over the processes of a run, as settings: whole in each, or sharded."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch

from purified_opsd.policy.model import Policy


@runtime_checkable
class Layout(Protocol):
    """What the loop must hold to, however the base lies."""

    def synced_forwards(self) -> AbstractContextManager[None]:
        """Surrounds forward passes of which the processes may make different numbers; all processes
        enter and leave it.
        """
        ...

    def gathered_head(self) -> AbstractContextManager[None]:
        """Surrounds what reads the head's weights; all processes enter it."""
        ...


class WholeLayout:
    """The base is whole in each process: no pass concerns any other."""

    def synced_forwards(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gathered_head(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Replicated:
    """Every process holds the whole base."""

    kind: ClassVar[str] = "replicated"

    def loading_device(self, device: torch.device) -> torch.device:
        return device

    def apply(self, policy: Policy, device: torch.device) -> Layout:
        return WholeLayout()


@dataclass(frozen=True)
class FSDP2:
    """Every process holds an equal share of each layer, of the embedding and of the head; over one
    process that is the whole.

    An embedding and a head that are one matrix stay whole in each process.
    """

    kind: ClassVar[str] = "fsdp2"

    def loading_device(self, device: torch.device) -> torch.device:
        """Returns the device that the base is read into: the host's memory, from which it goes to
        `device` layer by layer, so it need not fit there whole.
        """
        from .process_group import several_processes

        return torch.device("cpu") if several_processes() else device

    def apply(self, policy: Policy, device: torch.device) -> Layout:
        """Shards the policy's base in place.  Raises ModelError where it has no layers to be told
        apart, or no linear head.
        """
        from .fsdp import ShardedLayout
        from .process_group import several_processes

        return ShardedLayout(policy, device) if several_processes() else WholeLayout()
