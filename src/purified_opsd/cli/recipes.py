"""purified-opsd recipes"""

from purified_opsd.recipes import RECIPES, find_recipe
from purified_opsd.settings import to_yaml


def recipes(name: str | None = None, /) -> None:
    """List the recipes, or print one as a YAML file to start from.

    Args:
        name: A recipe, to see all its settings as YAML.
    """
    if name:
        print(to_yaml(find_recipe(name)), end="")
        return
    width = max(map(len, RECIPES))
    for recipe, config in RECIPES.items():
        print(f"{recipe:<{width}}  {config.arm}: {config.target}, {config.divergence}")
