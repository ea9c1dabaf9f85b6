"""What the processes of a job tell each other beside the collectives: that they live, and who
failed first.

A collective waits for every process, so it cannot say that one of them is dead.  Heartbeats go
another way, through the launcher's own key-value store (torch's TCPStore), which outlives any one
process:

    alive/RANK   how many beats that process has sent, one a second
    failures     how many processes have failed so far
    code         the exit code of the first that failed, with which all of them end

1. Each process starts a `HeartbeatWatch`, a thread that beats and reads the others' beats.
2. A process that raises calls `fail`: the first one prints its reason and sets the code.
3. A process that is killed says nothing.  Its beats stand still, and the others name it.
4. Each watch ends its own process as soon as it sees a failure, whatever collective it waits in.
"""

import os
import sys
import threading
import time
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

BEAT_S = 1.0
LOST_S = 40.0
"""A process without a beat for so long is taken for dead, so that a job ends within a minute of a
death; and for so long a network may pause.
"""
START_S = 300.0
"""The same, for a process that has not beaten yet: it may import from a slow disk."""
ROLL_CALL_S = 6.0
"""The same, once a collective has failed already."""
CONNECT_S = 10.0
LOST_CODE = 4


def launched_processes() -> int:
    """Returns how many processes the launcher says it has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launcher_keeps_store() -> bool:
    """Returns whether the launcher keeps the store, as `torchrun` and `accelerate launch` do; else
    the first process keeps it, from when they join.
    """
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


class Heartbeats:
    """This process's place in the job's store, and what it reads there of the others."""

    def __init__(self):
        """Connects to the store.  Raises DistError where it cannot be reached."""
        store = TCPStore(
            os.environ.get("MASTER_ADDR", "localhost"),
            int(os.environ.get("MASTER_PORT", "29500")),
            is_master=False,
            timeout=timedelta(seconds=CONNECT_S),
            wait_for_workers=False,
        )
        store.set_timeout(timedelta(seconds=LOST_S))
        # A launcher that starts all anew keeps its store, so each attempt has keys of its own.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = PrefixStore(f"purified-opsd/{attempt}", store)
        self.rank, self.processes = int(os.environ["RANK"]), launched_processes()

    def beat(self) -> None:
        self.store.add(f"alive/{self.rank}", 1)

    def beats(self) -> dict[int, int]:
        """Returns, by rank, how many beats each of the others has sent."""
        others = [rank for rank in range(self.processes) if rank != self.rank]
        return {rank: self.store.add(f"alive/{rank}", 0) for rank in others}  # adding 0 reads

    def fail(self, code: int, reason: str) -> int:
        """Prints why this process fails, if it is the first to; returns the exit code for all,
        which is that of the first.
        """
        # 1. The store counts, so exactly one process is the first.
        if self.store.add("failures", 1) == 1:
            # 2. It speaks before it sets the code, on which any, this one too, may be ended.
            print(reason, file=sys.stderr, flush=True)
            self.store.set("code", str(code))
        # 3. The others wait until the code is set.
        return int(self.store.get("code"))

    def failed(self) -> int | None:
        """Returns the exit code of the first that failed; None: all are well."""
        return int(self.store.get("code")) if self.store.add("failures", 0) else None

    def silent(self, seconds: float) -> list[int]:
        """Returns the ranks that send no beat within these seconds; returns early when all have, or
        one has failed.
        """
        before, deadline = self.beats(), time.monotonic() + seconds
        while True:
            now = self.beats()
            silent = [rank for rank, beats in now.items() if beats == before[rank]]
            if not silent or self.failed() or time.monotonic() > deadline:
                return silent
            time.sleep(BEAT_S / 4)


class HeartbeatWatch:
    """A thread that beats, and ends this process when another has failed or beats no more."""

    def __init__(self, heartbeats: Heartbeats, lost_s: float = LOST_S, start_s: float = START_S):
        self.heartbeats, self.lost_s, self.start_s = heartbeats, lost_s, start_s
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="heartbeat").start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        try:
            self._watch()
        except DistError:
            if not self._over.is_set():
                print(
                    "purified-opsd: the launcher, or the process that kept its store, is gone.",
                    file=sys.stderr,
                )
                end(LOST_CODE)

    def _watch(self) -> None:
        """Beats once a second until it is stopped, or ends this process."""
        unheard = (0, time.monotonic())
        last_change: dict[int, tuple[int, float]] = dict.fromkeys(self.heartbeats.beats(), unheard)
        while not self._over.wait(BEAT_S):
            # 1. Tell the others that this process lives.
            self.heartbeats.beat()
            # 2. Note of each other process when its count last changed.
            now = time.monotonic()
            for rank, beats in self.heartbeats.beats().items():
                if beats != last_change[rank][0]:
                    last_change[rank] = (beats, now)
            # 3. Whose count stands still for too long is lost: its watch, a thread, beats even
            #    while its process waits, so only its death can stop it.
            lost = [
                rank
                for rank, (beats, since) in last_change.items()
                if now - since > (self.lost_s if beats else self.start_s)
            ]
            if lost:
                reason = f"purified-opsd: {lost_paragraph(lost, self.heartbeats.processes)}"
                end(self.heartbeats.fail(LOST_CODE, reason))
            # 4. Another has failed and has said why: end with its code.
            code = self.heartbeats.failed()
            if code is not None:
                end(code)


def lost_paragraph(ranks: list[int], processes: int) -> str:
    """Returns what to tell the user of processes that died without a word."""
    names = " and ".join(map(str, ranks))
    return (
        f"process {names} of {processes} (ranks count from 0) is not heard of: killed, most often "
        "for memory by the system (see `dmesg`, or the scheduler's record), or its machine is "
        "gone, or it never began. No other can go on without it, so the job ends. Nothing written "
        "before is lost: start the same number of processes, or another, with `purified-opsd "
        "resume RUN`."
    )


def end(code: int) -> None:
    """Leaves at once: a group of processes of which one is gone cannot be taken down in order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
