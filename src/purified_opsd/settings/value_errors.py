"""What to say of a value that a setting does not take: pydantic's findings in the user's words."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .classes import join
from .names import option
from .yaml_file import quoted

WANTED: Mapping[str, str] = {
    "int_parsing": "a valid integer (a whole number)",
    "int_parsing_size": "a valid integer (a whole number) of fewer digits",
    "int_from_float": "a valid integer (a whole number)",
    "int_type": "a valid integer (a whole number)",
    "float_parsing": "a valid number",
    "float_type": "a valid number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "mapping_type": "a section with keys",
    "dict_type": "a section with keys",
}
"""By the type of pydantic's error."""


def problems(error: ValidationError, section: str) -> str:
    """Returns what is wrong with the values of a section, a line each."""
    return "\n".join(dict.fromkeys(_explain(problem, section) for problem in error.errors()))


def _explain(problem: ErrorDetails, section: str) -> str:
    name = join(section, ".".join(str(part) for part in problem["loc"]))
    kind = problem["type"]
    if kind in ("missing", "missing_argument"):
        return (
            f"The setting {name} is missing. Add it to the YAML file, or give it as {option(name)} "
            "VALUE."
        )
    if kind == "value_error" and "ctx" in problem:
        return str(problem["ctx"]["error"])
    wanted = WANTED.get(kind)
    if kind == "literal_error" and "ctx" in problem:
        wanted = problem["ctx"]["expected"]
    must = f"must be {wanted}" if wanted else problem["msg"]
    return f"{name}: {must}, got {quoted(problem['input'])}.{_way_out(problem['input'], kind)}"


def _way_out(value: Any, kind: str) -> str:
    """Returns how the value would be written, where that can be told."""
    if value is None:
        return " Leave it out for the default."
    if isinstance(value, str) and kind == "int_parsing":
        return _whole(value)
    return ""


def _whole(text: str) -> str:
    """Returns ` Write 1000.` for a whole number that is written otherwise, such as 1e3 or 1,000."""
    try:
        number = float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        return ""
    return f" Write {int(number)}." if number.is_integer() and abs(number) < 1e15 else ""
