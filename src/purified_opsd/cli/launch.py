"""The same command on several ranks, and how it fails: the reason is told once, by the process that
had it, and all end with its code.
"""

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from torch.distributed import DistError

from purified_opsd.distributed.heartbeat import (
    LOST_CODE,
    ROLL_CALL_S,
    Heartbeats,
    end,
    launched_processes,
    launcher_keeps_store,
    lost_paragraph,
)
from purified_opsd.distributed.process_group import keep_watch, part
from purified_opsd.errors import SettingsError

from .main import exit_code, paragraph, run_command

ON_SEVERAL_RANKS = ("train", "resume", "sweep")


def run_together(words: Sequence[str]) -> NoReturn:
    """Runs a command as one of its processes."""
    try:
        _refuse_what_one_process_does(words)
        if launcher_keeps_store():
            keep_watch()
        code = run_command(words)
        part(code)
    except BaseException as error:
        code = _fail(error)
    end(code)
    raise AssertionError("a process that has ended")


def _refuse_what_one_process_does(words: Sequence[str]) -> None:
    if words and words[0] not in ON_SEVERAL_RANKS:
        raise SettingsError(
            f"{words[0]} is done by one process, and {launched_processes()} were started: they "
            "would write into the same files. Start it without a launcher (RANK and WORLD_SIZE "
            "unset). An evaluation draws on several GPUs through servers on them: `purified-opsd "
            "serve`, then `purified-opsd evaluate ... --server URL URL`."
        )


def _fail(error: BaseException) -> int:
    """Says why this process fails, if no other has; returns the exit code of the first that did."""
    # launchers send it to all as soon as one has ended
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = exit_code(error)
    if code is None:
        reason = "".join(traceback.format_exception(error))
    else:
        reason = f"purified-opsd: {paragraph(error)}"
    try:
        heartbeats = Heartbeats()
        if code is None and heartbeats.failed() is None:
            lost = heartbeats.silent(ROLL_CALL_S)
            if lost:
                paragraph_of_lost = lost_paragraph(lost, heartbeats.processes)
                return heartbeats.fail(LOST_CODE, f"purified-opsd: {paragraph_of_lost}")
        rank = f"[process {heartbeats.rank} of {heartbeats.processes}]"
        return heartbeats.fail(1 if code is None else code, f"{rank} {reason}")
    except DistError:  # the store is gone, and with it whoever kept it: each speaks for itself
        print(reason, file=sys.stderr)
    return 1 if code is None else code
