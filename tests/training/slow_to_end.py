"""The command, where one process breaks and process 1 takes its time to end: torchrun ...
slow_to_end.py WHERE RANK ERROR DRAW WORDS...

WHERE is `raising`, after the run has been left with the error, or `parting`, when the group is
taken down.
"""

import os
import sys
import time

import torch
from broken import ERRORS, break_at

from purified_opsd.cli import launch
from purified_opsd.cli.main import main

LONG_S = 5.0


def raise_slowly() -> None:
    """The error of the command comes out late."""
    run_command = launch.run_command

    def slow(words):
        try:
            return run_command(words)
        except BaseException:
            time.sleep(LONG_S)
            raise

    launch.run_command = slow


def part_slowly() -> None:
    destroy = torch.distributed.destroy_process_group

    def slow():
        time.sleep(LONG_S)
        destroy()

    torch.distributed.destroy_process_group = slow


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, rank, error, draw = sys.argv[1:5]
    del sys.argv[1:5]
    if os.environ["RANK"] == rank:
        break_at(ERRORS[error], int(draw))
    if os.environ["RANK"] == "1":
        {"raising": raise_slowly, "parting": part_slowly}[where]()
    main()
