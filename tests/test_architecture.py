"""What keeps the house: imports point one way, package doors are light, a file has one name."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

import purified_opsd

ROOT = Path(purified_opsd.__file__).parent
LAYERS = [
    "cli",
    "quickstart",
    "sweep",
    "inspection",
    "planning",
    "preparation",
    "reporting",
    "recipes",
    "training",
    "evaluation",
    "analysis",
    "distributed",
    "sampling",
    "policy",
    "miniature",
    "data",
    "storage",
    "objective",
    "settings",
    "interrupts",
    "errors",
]
"""Each may import what stands below it."""
GROUND = ("storage", "settings", "interrupts", "errors")
"""These know nothing of ours but each other."""
FILES = sorted(ROOT.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Everything a file imports, as dotted names, relative ones resolved."""
    package = ["purified_opsd", *file.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            found |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    return found


def layer_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def layers_imported(file: Path) -> set[str]:
    """The parts of ours that a file imports from."""
    parts = [name.split(".") for name in imports(file)]
    return {part[1] for part in parts if part[0] == "purified_opsd" and len(part) > 1} & set(LAYERS)


def libraries_imported(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def test_every_file_belongs_to_a_layer():
    assert {layer_of(file) for file in FILES} == {*LAYERS, "__init__"}


def test_imports_point_down():
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for file in FILES
        if file != ROOT / "__init__.py"
        for other in layers_imported(file)
        if LAYERS.index(other) < LAYERS.index(layer_of(file))
    ]
    assert wrong == []


def test_the_ground_knows_nothing_of_the_house():
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for file in FILES
        if layer_of(file) in GROUND
        for other in layers_imported(file) - set(GROUND)
    ]
    assert wrong == []


def test_the_objective_imports_torch_and_nothing_of_ours():
    allowed = {"torch", "jaxtyping"} | sys.stdlib_module_names
    for file in (ROOT / "objective").glob("*.py"):
        for name in imports(file):
            ours = name.startswith("purified_opsd.objective")
            assert ours or name.split(".")[0] in allowed, f"{file.name} imports {name}"


HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets"}


@pytest.mark.parametrize("file", [f for f in FILES if f.name == "__init__.py"], ids=str)
def test_a_package_opens_without_torch(file):
    assert not libraries_imported(file) & HEAVY


@pytest.mark.parametrize("file", sorted((ROOT / "reporting").rglob("*.py")), ids=str)
def test_reporting_never_imports_torch(file):
    assert not libraries_imported(file) & HEAVY


def test_no_two_files_share_a_name():
    names = Counter(file.name for file in FILES if file.parts[-2] != "cli")
    shared = {name for name, count in names.items() if count > 1}
    assert shared <= {"__init__.py", "__main__.py", "config.py"}
