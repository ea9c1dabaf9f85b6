"""The command, where one process fails at one of its draws: torchrun ... broken.py RANK ERROR DRAW
WORDS...
"""

import os
import sys
from itertools import count

import torch

from purified_opsd.cli.main import main
from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.sampling.hf import HFSampler

ERRORS = {
    error.__name__: error
    for error in (FloatingPointError, KeyboardInterrupt, ModelError, ServersLost)
}


def break_at(error: type[BaseException], draw: int) -> None:
    """Draws are counted from 1."""
    generate, draws = HFSampler.generate, count(1)

    def breaking(self, prompts, seeds):
        if next(draws) == draw:
            raise error("Broken on purpose.")
        return generate(self, prompts, seeds)

    HFSampler.generate = breaking


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, error, draw = sys.argv[1:4]
    del sys.argv[1:4]
    if os.environ["RANK"] == rank:
        break_at(ERRORS[error], int(draw))
    main()
