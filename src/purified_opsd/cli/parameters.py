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


def _settings(text: str) -> Parameter:
    """Returns the parameter that takes every word that is no option of the command, in the order
    given, for `settings.override`.
    """
    return Parameter(help=text, allow_leading_hyphen=True)


Settings = Annotated[
    str,
    _settings(
        "Any setting by its dotted name, such as --optimizer.learning-rate 1e-4 or --target.clip "
        "5; a list as --trackers wandb tensorboard. `purified-opsd settings` explains them all."
    ),
]
EvaluationSettings = Annotated[
    str,
    _settings(
        "Settings of an evaluation, such as --benchmarks aime24 aime25 --runs 12. `purified-opsd "
        "settings evaluation` explains them all; here they are written without that word."
    ),
]
DataSettings = Annotated[
    str,
    _settings(
        "Settings of the set, such as --data.columns.problem question. `purified-opsd settings "
        "data` explains them all."
    ),
]
Several = Parameter(consume_multiple=True)
"""`--step 1 2` as well as `--step 1 --step 2`."""


def markers_in(words: str) -> tuple[str, ...]:
    """Returns `let me think, let us see` as two markers."""
    return tuple(filter(None, map(str.strip, words.split(","))))
