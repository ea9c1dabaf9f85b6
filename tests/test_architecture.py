"""Imports point one way: each part may import what stands below it in this list, never above.  DESIGN, layout."""

import ast
import sys
from pathlib import Path

import purified_opsd

ROOT = Path(purified_opsd.__file__).parent
LAYERS = [
    "cli",
    "quickstart",
    "sweep",
    "recipes",
    "config",
    "training",
    "evaluation",
    "analysis",
    "reporting",
    "policy",
    "data",
    "objective",
    "miniature",
]
UNDER_MINIATURE = {"data"}
"""The miniature's documents are written under the very wording of the contexts, so it may look there."""


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


def layer(dotted: str) -> str | None:
    """The part of ours that a dotted name belongs to."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "purified_opsd" and len(parts) > 1 and parts[1] in LAYERS else None


FILES = sorted(ROOT.rglob("*.py"))


def test_every_file_belongs_to_a_layer():
    outside = {
        str(f.relative_to(ROOT))
        for f in FILES
        if layer(f"purified_opsd.{f.relative_to(ROOT).parts[0].removesuffix('.py')}") is None
    }
    assert outside == {"__init__.py"}


def test_imports_point_down():
    wrong = []
    for file in FILES:
        here = layer(f"purified_opsd.{file.relative_to(ROOT).parts[0].removesuffix('.py')}")
        for name in imports(file):
            there = layer(name)
            above = here and there and LAYERS.index(there) < LAYERS.index(here)
            if above and not (here == "miniature" and there in UNDER_MINIATURE):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_objective_imports_torch_and_nothing_of_ours():
    for file in (ROOT / "objective").glob("*.py"):
        allowed = {"torch", "jaxtyping"} | sys.stdlib_module_names
        for name in imports(file):
            assert name.split(".")[0] in allowed or name.startswith("purified_opsd.objective"), f"{file.name} imports {name}"


def test_reporting_never_imports_torch():
    for file in (ROOT / "reporting").rglob("*.py"):
        assert not {name for name in imports(file) if name.split(".")[0] in ("torch", "transformers", "peft", "accelerate")}, (
            file.name
        )
