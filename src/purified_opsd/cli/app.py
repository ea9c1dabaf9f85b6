"""The application, and what several verbs need."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from purified_opsd.training import Run

app = typer.Typer(
    help="On-policy self-distillation for long chain-of-thought models, with the purified PMI target.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OTHER_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Every setting can be given by its dotted name, so verbs that train take options they do not list."""

RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]


def run_of(folder: Path) -> "Run":
    """The run that a run directory's config.yaml describes, wherever the directory has moved to."""
    from purified_opsd.config import build_run, read_settings
    from purified_opsd.reporting.records import RunReader

    return replace(build_run(read_settings(RunReader(folder).config_file)), output_dir=folder)


@contextmanager
def settings_errors() -> Iterator[None]:
    """What a settings class refuses, as a setting that is wrong."""
    from purified_opsd.config import SettingsError

    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error
