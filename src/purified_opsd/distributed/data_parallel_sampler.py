"""A sampler whose every batch is shared among the processes, though only one of them knows what is
asked.

So an evaluation, which belongs to the main process and its files, keeps no process waiting longer
than a batch takes.
"""

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from purified_opsd.interrupts import StopRequest
from purified_opsd.sampling.sampler import Completion, Sampler

from .fsdp import Layout

Ids = Sequence[int]
Asked = tuple[Sequence[Ids], Sequence[int]]


class SharedSampler(Sampler):
    """The main process generates, the others `serve` until it lets them go.  With one process: its
    sampler as it is.
    """

    def __init__(
        self, sampler: Sampler, layout: Layout, accelerator: Accelerator, stop: StopRequest
    ):
        self.sampler, self.layout, self.accelerator, self.stop = sampler, layout, accelerator, stop
        self.stopped_by = 0
        """The signal that one of the processes was sent by the end of the last batch, or 0."""

    def sync(self, step: int) -> None:
        self.sampler.sync(step)

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Of the main process: every completion, each drawn by one of the processes."""
        broadcast_object_list([(prompts, seeds)])
        return self._together(prompts, seeds)

    def close(self) -> None:
        """Of the main process: lets the others go."""
        broadcast_object_list([None])

    def serve(self) -> None:
        """Of the others: their shares of all that is asked, until they are let go."""
        while (asked := _told()) is not None:
            self._together(*asked)

    def _together(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        places = range(self.accelerator.process_index, len(prompts), self.accelerator.num_processes)
        with self.layout.synced_forwards(), self.layout.gathered_head():
            own = self.sampler.generate([prompts[i] for i in places], [seeds[i] for i in places])
        self.stopped_by = max(gather_object([self.stop.signal]))
        everyone = dict(gather_object(list(zip(places, own, strict=True))))
        return [everyone[i] for i in range(len(prompts))]


def _told() -> Asked | None:
    """What the main process asks next; None: nothing more."""
    (asked,) = broadcast_object_list([None])
    return asked
