"""PAPER.md's map is true: every name stands in the file that it names, and every path exists."""

import ast
import re
from pathlib import Path

import pytest

import purified_opsd

PACKAGE = Path(purified_opsd.__file__).parent
PAGE = (PACKAGE.parents[1] / "PAPER.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", PAGE)))
PLACES = re.findall(r"((?:`\w+`(?:, | and )?)+) in\s+`([a-z_/]+\.py)`", PAGE)
NAMES = sorted({(name, path) for names, path in PLACES for name in re.findall(r"`(\w+)`", names)})


def defined_in(path: str) -> set[str]:
    """The functions, classes and constants at the top of a module."""
    names = set()
    for node in ast.parse((PACKAGE / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path):
    assert (PACKAGE / path).is_file()


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_every_name_is_where_the_page_says(name, path):
    assert name in defined_in(path)


def test_the_page_begins_with_the_ten_lines_and_knows_every_equation():
    assert min(PATHS, key=PAGE.index) == "objective/loss.py"
    ranges = re.findall(r"^\| [^|]*Eq\. ([\d, to]+) \|", PAGE, re.MULTILINE)
    numbers: set[int] = set()
    for text in ranges:
        for part in text.split(","):
            first, *last = map(int, part.split("to"))
            numbers |= set(range(first, (last or [first])[-1] + 1))
    assert numbers == set(range(1, 19))
