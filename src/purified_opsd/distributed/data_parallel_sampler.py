"""Draws a batch of completions on all processes, when only the main process knows the prompts.

An evaluation belongs to the main process and its files.  The others wait for its prompts, draw
their share of each batch, and send it back.
"""

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from purified_opsd.interrupts import StopRequest
from purified_opsd.sampling.sampler import Completion, Sampler

from .sharding import Layout

Ids = Sequence[int]
Batch = tuple[Sequence[Ids], Sequence[int]]
"""Prompts and their seeds."""


class DataParallelSampler(Sampler):
    """The main process calls `generate` and at last `close`; the others call `serve`, which returns
    when it has closed.  With one process it is the sampler it wraps.
    """

    def __init__(
        self, sampler: Sampler, layout: Layout, accelerator: Accelerator, stop: StopRequest
    ):
        self.sampler = sampler
        self.layout = layout
        self.accelerator = accelerator
        self.stop = stop
        self.stopped_by = 0
        """The signal that one of the processes was sent by the end of the last batch, or 0."""

    def sync(self, step: int) -> None:
        self.sampler.sync(step)

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Returns all completions of a batch, each drawn by one of the processes.  Called by the
        main process.
        """
        broadcast_object_list([(prompts, seeds)])
        return self._generate_share(prompts, seeds)

    def close(self) -> None:
        """Ends `serve` in the other processes.  Called by the main process."""
        broadcast_object_list([None])

    def serve(self) -> None:
        """Draws this process's share of every batch until the main process closes.  Called by the
        others.
        """
        while (batch := _next_batch()) is not None:
            self._generate_share(*batch)

    def _generate_share(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Draws every `num_processes`-th completion here; returns those of all processes, in
        order.
        """
        # 1. This process's share.
        rank = self.accelerator.process_index
        processes = self.accelerator.num_processes
        indices = range(rank, len(prompts), processes)
        own_prompts = [prompts[i] for i in indices]
        own_seeds = [seeds[i] for i in indices]
        with self.layout.synced_forwards(), self.layout.gathered_head():
            own = self.sampler.generate(own_prompts, own_seeds)
        # 2. Whether any process is to stop.
        signals = gather_object([self.stop.signal])
        self.stopped_by = max(signals)
        # 3. All shares, put in order by their indices.
        numbered = list(zip(indices, own, strict=True))
        completions = dict(gather_object(numbered))
        return [completions[i] for i in range(len(prompts))]


def _next_batch() -> Batch | None:
    """Waits for what the main process broadcasts next; None: it has closed."""
    (batch,) = broadcast_object_list([None])
    return batch
