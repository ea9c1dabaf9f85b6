"""The library's face: every name imports, the README lists the same ones, its example runs, and
importing the package loads nothing heavy.
"""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import purified_opsd
from purified_opsd import JSD, PMITarget, loss_from_logits

ROOT = Path(__file__).parents[1]
HEADING = "## The library\n"


@pytest.fixture(scope="module")
def section() -> str:
    """What the README says under the heading."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    return page.split(HEADING)[1].split("\n## ")[0]


def names_for_type_checkers() -> dict[str, str]:
    """Name to module, as the package's TYPE_CHECKING block imports them."""
    tree = ast.parse(Path(purified_opsd.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@pytest.mark.parametrize("name", purified_opsd.__all__)
def test_every_name_is_its_modules(name):
    module = import_module(f"purified_opsd.{names_for_type_checkers()[name]}")
    assert getattr(purified_opsd, name) is getattr(module, name)


def test_type_checkers_and_users_see_the_same_names():
    assert names_for_type_checkers() == purified_opsd._MODULE_OF
    assert sorted(purified_opsd._MODULE_OF) == sorted(purified_opsd.__all__)
    assert set(purified_opsd.__all__) <= set(dir(purified_opsd))


def test_no_name_hides_a_module():
    modules = {path.stem for path in Path(purified_opsd.__file__).parent.iterdir()}
    assert not modules & set(purified_opsd.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'purified_opsd' has no attribute 'PMITraget'"):
        _ = purified_opsd.PMITraget


PROGRAM = """
import sys
import purified_opsd
purified_opsd.__version__, dir(purified_opsd)
heavy = {"torch", "transformers", "peft", "accelerate", "datasets", "numpy"}
print(sorted(heavy & set(sys.modules)))
purified_opsd.marker_counts
print("torch" in sys.modules)
purified_opsd.JSD
print("torch" in sys.modules)
"""


def test_the_package_opens_without_torch_and_a_name_loads_what_it_needs():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.splitlines() == ["[]", "False", "True"]


def test_the_readme_lists_these_names_and_no_others(section):
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(purified_opsd.__all__)


def test_the_readmes_ten_lines_run(section):
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 10
    torch.manual_seed(0)
    values = {}
    exec(program, values)
    student, head = values["student"], values["head"]
    logits = {name: head(hidden) for name, hidden in values["contexts"].items()}
    settings = {"target": PMITarget(), "divergence": JSD()}
    expected = loss_from_logits(head(student), logits, values["weights"], **settings)
    torch.testing.assert_close(values["loss"], expected)
    (gradient,) = torch.autograd.grad(expected, student)
    torch.testing.assert_close(student.grad, gradient)
    assert gradient.abs().max() > 0
