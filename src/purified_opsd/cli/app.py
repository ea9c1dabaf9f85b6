"""The application, and what several verbs need."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from purified_opsd.training.config import TrainingConfig

app = typer.Typer(
    help="On-policy self-distillation for long chain-of-thought models, with the purified PMI "
    "target.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OTHER_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Every setting can be given by its dotted name, so verbs that train take options they do not list.
"""

RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]


def run_of(folder: Path) -> "TrainingConfig":
    """The run that a run directory's config.yaml describes, wherever the directory has moved to."""
    from purified_opsd.settings import build_run, read_settings
    from purified_opsd.storage.run_dir import RunReader

    return replace(build_run(read_settings(RunReader(folder).config_file)), output_dir=folder)


@contextmanager
def settings_errors() -> Iterator[None]:
    """What a settings class refuses, as a setting that is wrong."""
    from purified_opsd.errors import SettingsError

    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error


def is_first() -> bool:
    """Is this the only process, or the one of several that speaks for all?"""
    return os.environ.get("RANK", "0") == "0"


def tell(line: str) -> None:
    """On stderr; of several processes that have the same to tell, by the first."""
    if is_first():
        typer.echo(line, err=True)


def settings_of(recipe: str) -> dict[str, Any]:
    """The settings in a YAML file, or of a recipe; a file may name a `recipe` to start from."""
    from purified_opsd.errors import SettingsError
    from purified_opsd.recipes import find_recipe
    from purified_opsd.settings import merge, read_settings, to_mapping

    if recipe.startswith("--"):
        raise SettingsError(
            f"The recipe or YAML file comes first: purified-opsd train RECIPE {recipe} ..."
        )
    if Path(recipe).suffix not in (".yaml", ".yml"):
        return to_mapping(find_recipe(recipe))
    settings = read_settings(Path(recipe))
    settings.setdefault("output_dir", str(Path("runs") / Path(recipe).stem))
    start = settings.pop("recipe", None)
    return merge(to_mapping(find_recipe(str(start))), settings) if start else settings
