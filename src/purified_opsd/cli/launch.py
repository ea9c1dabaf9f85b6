"""A verb that several processes run together, and how they fail: the reason is told once, by the
process that had it, and all end with its code.
"""

import signal
import sys
import traceback
from typing import NoReturn

import typer
from torch.distributed import DistError
from typer.exceptions import TyperException
from typer.main import get_command

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

from .app import app
from .errors import exit_code, paragraph

SHARED = ("train", "resume", "sweep")


def run_together(words: list[str]) -> NoReturn:
    """Runs a verb as one of its processes."""
    try:
        _refuse_to_share(words)
        if launcher_keeps_store():
            keep_watch()
        code = _run(words)
        part(code)
    except BaseException as error:
        code = _told(error)
    end(code)
    raise AssertionError("a process that has ended")


def _refuse_to_share(words: list[str]) -> None:
    if words and words[0] not in SHARED:
        raise SettingsError(
            f"{words[0]} is done by one process, and {launched_processes()} were started: they "
            "would write into the same files. Start it without a launcher (RANK and WORLD_SIZE "
            "unset). An evaluation draws on several GPUs through servers on them: `purified-opsd "
            "serve`, then `purified-opsd evaluate ... --server URL URL`."
        )


def _run(words: list[str]) -> int:
    """The exit code with which all processes leave the verb."""
    command = get_command(app)
    try:
        with command.make_context("purified-opsd", words) as context:
            command.invoke(context)
    except TyperException as wrong:  # words that are no command
        raise SettingsError(wrong.format_message()) from wrong
    except typer.Exit as over:
        return over.exit_code
    return 0


def _told(error: BaseException) -> int:
    """Tells why this process fails, if no other has; the exit code of the first that did."""
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # launchers send it to all as soon as one has ended
    code = exit_code(error)
    reason = (
        f"purified-opsd: {paragraph(error)}"
        if code is not None
        else "".join(traceback.format_exception(error))
    )
    try:
        companions = Heartbeats()
        if (
            code is None
            and companions.failed() is None
            and (lost := companions.silent(ROLL_CALL_S))
        ):
            return companions.fail(
                LOST_CODE, f"purified-opsd: {lost_paragraph(lost, companions.processes)}"
            )
        return companions.fail(
            1 if code is None else code,
            f"[process {companions.rank} of {companions.processes}] {reason}",
        )
    except DistError:  # the store is gone, and with it whoever kept it: each speaks for itself
        print(reason, file=sys.stderr)
    return 1 if code is None else code
