"""purified-opsd recipes"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.miniature import BASE, TRAINING_SET
from purified_opsd.recipes import RECIPES, find_recipe
from purified_opsd.settings.build import flat, to_mapping
from purified_opsd.settings.page import commented_yaml
from purified_opsd.training.config import TrainingConfig

MINIATURE = "miniature"
MOST = 2
"""Settings that are named in the table; where more differ, their number is."""
WIDTH = 100
"""Columns of the YAML's comments."""


def recipes(name: str | None = None, /) -> None:
    """List the recipes, or print one as a YAML file to start from.

    Args:
        name: A recipe, to see all its settings as YAML.
    """
    if name:
        print(commented_yaml(find_recipe(name), WIDTH), end="")
        return
    rows = [_row(recipe, config) for recipe, config in RECIPES.items()]
    for line in _table([("recipe", "model", "data", "arm", "differs in"), *rows]):
        print(line)
    models = _unique(config.model.path for config in RECIPES.values())
    print(
        f"\nModels: {', '.join(path for path in models if path != str(BASE))}; the miniature's own"
    )
    data = {_data_name(recipe): config.data for recipe, config in RECIPES.items()}
    for data_name, training_set in data.items():
        print(f"Data, {data_name}: {_described(training_set)}")
    print("`purified-opsd recipes RECIPE` prints all settings of one, to start a file of your own.")


def _row(recipe: str, config: TrainingConfig) -> Sequence[str]:
    differing = list(_differing(config))
    named = ", ".join(differing)
    if len(differing) > MOST:
        named = f"{len(differing)} settings"
    path = config.model.path
    model = MINIATURE if path == str(BASE) else path.rpartition("/")[2]
    return recipe, model, _data_name(recipe), config.arm, named


def _data_name(recipe: str) -> str:
    """Returns what a recipe's name calls its data: MODEL.DATA.ARM; the miniature has its own."""
    parts = recipe.split(".", 2)
    return parts[1] if len(parts) == 3 else parts[0]


def _differing(config: TrainingConfig) -> Iterator[str]:
    """Yields the settings in which a recipe differs from the defaults, beside model, data and
    arm.
    """
    plain = TrainingConfig(config.model, config.data, config.output_dir)
    default = dict(flat(to_mapping(replace(plain, target=type(config.target)()))))
    for name, value in flat(to_mapping(config)):
        if default.get(name) != value:
            yield f"{name.removesuffix('.kind')} {value}"


def _described(training_set: TrainingSet) -> str:
    if training_set.path == str(TRAINING_SET):
        return "in the package"
    where = [f"{column} = {value}" for column, value in training_set.where.items()]
    rows = [f"{training_set.subset:,} rows"] if training_set.subset else []
    parts = [training_set.path, *filter(None, [training_set.config]), *where, *rows]
    return ", ".join(parts)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
