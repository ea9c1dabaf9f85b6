"""How many rows are worked on at once.  V rows of the head."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

CPU_CHUNK_ELEMENTS = 2**24
"""Of one [chunk, V] buffer: 64 MiB in float32.  Products with fewer rows read the head's weights too often."""

GPU_CHUNK_ELEMENTS = 2**27
"""The same on a GPU, unless that is more than a hundredth of its memory."""

CPU_STRIP_ELEMENTS = 2**17
"""Of one [strip, V] result, a thread: half a MiB in float32, so that the dozen that the formulas need stay near the cache."""

STRIPS = 8
"""A chunk has at least this many strips, so that a dozen [strip, V] results take less than two [chunk, V] buffers."""


class Rows(NamedTuple):
    """Rows of a chunk, whose logits exist at once, and of a strip, whose intermediate results do."""

    chunk: int
    strip: int


def rows_for(V: int, device: torch.device, chunk_rows: int | None = None) -> Rows:
    """From V and the machine alone, so the same at every call; `chunk_rows` overrides the chunk."""
    if device.type == "cuda":
        return rows_within(torch.cuda.get_device_properties(device).total_memory, V, chunk_rows)
    chunk = chunk_rows or max(1, CPU_CHUNK_ELEMENTS // V)
    cached = max(1, CPU_STRIP_ELEMENTS // V) * torch.get_num_threads()
    return Rows(chunk, max(1, min(cached, chunk // STRIPS)))


def rows_within(gpu_bytes: int, V: int, chunk_rows: int | None = None) -> Rows:
    """For a GPU of that memory."""
    hundredth = gpu_bytes // 100 // 4
    chunk = chunk_rows or max(1, min(hundredth, GPU_CHUNK_ELEMENTS) // V)
    return Rows(chunk, max(1, chunk // STRIPS))


def slices(length: int, rows: int) -> Iterator[slice]:
    """0 to length, `rows` at a time."""
    return (slice(first, min(first + rows, length)) for first in range(0, length, rows))
