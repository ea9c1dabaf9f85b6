"""Parameters that several commands take."""

from typing import Annotated

from cyclopts import Parameter

Recipe = Annotated[
    str,
    Parameter(
        help="A YAML file, or a recipe's name (see `purified-opsd recipes`).",
        allow_leading_hyphen=True,  # so that a missing one is told from a mistaken option
    ),
]
RunFolder = Parameter(help="A run directory.")
Settings = Annotated[
    str,
    Parameter(
        help="Any setting by its dotted name, such as --optimizer.learning-rate 1e-4 or "
        "--target.clip 5; a list as --trackers wandb tensorboard. `purified-opsd recipes NAME` "
        "shows them all.",
        allow_leading_hyphen=True,
    ),
]
"""Every word that is no option of the command, in the order given, for `settings.override`."""
Several = Parameter(consume_multiple=True)
"""`--step 1 2` as well as `--step 1 --step 2`."""


def markers_in(words: str) -> tuple[str, ...]:
    """Returns `let me think, let us see` as two markers."""
    return tuple(filter(None, map(str.strip, words.split(","))))
