"""How a job of several processes fails: its reason is told once, by the process that had it, and all end with its code."""

import signal
import sys
import traceback
from typing import NoReturn

from torch.distributed import DistError

from purified_opsd.training.companions import LOST_CODE, ROLL_CALL_S, Companions, end, lost_paragraph

from .errors import exit_code, paragraph


def end_together(error: Exception) -> NoReturn:
    """Tells why, if no other process has, and leaves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # launchers send it to all as soon as one has ended
    code = exit_code(error)
    reason = f"purified-opsd: {paragraph(error)}" if code is not None else "".join(traceback.format_exception(error))
    try:
        companions = Companions()
        if code is None and companions.failed() is None and (lost := companions.silent(ROLL_CALL_S)):
            code, reason = LOST_CODE, f"purified-opsd: {lost_paragraph(lost, companions.processes)}"
        code = 1 if code is None else code
        if companions.fail(code):
            print(f"[process {companions.rank} of {companions.processes}] {reason}", file=sys.stderr)
        else:
            code = companions.failed()
    except DistError:  # the store is gone, and with it whoever kept it: each speaks for itself
        print(reason, file=sys.stderr)
    end(code)
    raise AssertionError("a process that has ended")
