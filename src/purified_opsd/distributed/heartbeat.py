"""What the processes of a job tell each other beside the collectives: that they live, and who
failed first.

They tell it through the launcher's own store, which outlives any one of them, so a death is seen
whatever the others wait for.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

BEAT_S = 1.0
LOST_S = 40.0
"""A process that was not heard of for so long is taken for dead, so that a job ends within a minute
of a death; and for so long a network may pause.
"""
START_S = 300.0
"""The same, for a process that was never heard of: it may import from a slow disk."""
ROLL_CALL_S = 6.0
"""The same, once a collective has failed already."""
CONNECT_S = 10.0
LOST_CODE = 4


def launched_processes() -> int:
    """How many processes the launcher says it has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launcher_keeps_store() -> bool:
    """As `torchrun` and `accelerate launch` do; else the first process keeps it, from when they
    join.
    """
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


class Heartbeats:
    """The other processes of this job, as one of them sees them."""

    def __init__(self):
        """Raises DistError where the launcher's store cannot be reached."""
        address, port = (
            os.environ.get("MASTER_ADDR", "localhost"),
            int(os.environ.get("MASTER_PORT", "29500")),
        )
        store = TCPStore(
            address,
            port,
            is_master=False,
            timeout=timedelta(seconds=CONNECT_S),
            wait_for_workers=False,
        )
        store.set_timeout(timedelta(seconds=LOST_S))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = PrefixStore(f"purified-opsd/{attempt}", store)
        self.rank, self.processes = int(os.environ["RANK"]), launched_processes()

    def beat(self) -> None:
        self.store.add(f"alive/{self.rank}", 1)

    def beats(self) -> dict[int, int]:
        """How often each of the others was heard of."""
        return {
            rank: self.store.add(f"alive/{rank}", 0)
            for rank in range(self.processes)
            if rank != self.rank
        }

    def fail(self, code: int, reason: str) -> int:
        """Tells why this process fails, if it is the first to; the exit code for all, which is that
        of the first.
        """
        if self.store.add("failures", 1) == 1:
            print(
                reason, file=sys.stderr, flush=True
            )  # before any, this one too, can leave for the code
            self.store.set("code", str(code))
        return int(self.store.get("code"))

    def failed(self) -> int | None:
        """The exit code of the first to fail."""
        return int(self.store.get("code")) if self.store.add("failures", 0) else None

    def silent(self, seconds: float) -> list[int]:
        """Who is not heard of within these seconds; returns early when all are, or somebody says
        that he failed.
        """
        before, deadline = self.beats(), time.monotonic() + seconds
        while (
            silent := [rank for rank, beats in self.beats().items() if beats == before[rank]]
        ) and not self.failed():
            if time.monotonic() > deadline:
                break
            time.sleep(BEAT_S / 4)
        return silent


class HeartbeatWatch:
    """A thread that beats, and ends this process when another has failed or is heard of no more."""

    def __init__(self, companions: Heartbeats, lost_s: float = LOST_S, start_s: float = START_S):
        self.companions, self.lost_s, self.start_s = companions, lost_s, start_s
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="watch").start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        try:
            for lost in self._lost_ones():
                reason = f"purified-opsd: {lost_paragraph(lost, self.companions.processes)}"
                end(self.companions.fail(LOST_CODE, reason) if lost else self.companions.failed())
        except DistError:
            if not self._over.is_set():
                print(
                    "purified-opsd: the launcher, or the process that kept its store, is gone.",
                    file=sys.stderr,
                )
                end(LOST_CODE)

    def _lost_ones(self) -> Iterator[list[int]]:
        """Yields once there is reason to end: who was lost, or nobody where one has said that he
        failed.
        """
        heard = {rank: (0, time.monotonic()) for rank in self.companions.beats()}
        while not self._over.wait(BEAT_S):
            self.companions.beat()
            now = time.monotonic()
            heard = {
                r: (n, now) if n != heard[r][0] else heard[r]
                for r, n in self.companions.beats().items()
            }
            lost = [
                r
                for r, (n, since) in heard.items()
                if now - since > (self.lost_s if n else self.start_s)
            ]
            if lost or self.companions.failed() is not None:
                yield lost


def lost_paragraph(ranks: list[int], processes: int) -> str:
    """What to tell of processes that died without a word."""
    names = " and ".join(map(str, ranks))
    return (
        f"process {names} of {processes} (ranks count from 0) is not heard of: killed, most often "
        "for memory by the system (see `dmesg`, or the scheduler's record), or its machine is "
        "gone, or it never began. No other can go on without it, so the job ends. Nothing written "
        "before is lost: start the same number of processes, or another, with `purified-opsd "
        "resume RUN`."
    )


def end(code: int | None) -> None:
    """Leaves at once: a group of processes of which one is gone cannot be taken down in order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if code is None else code)
