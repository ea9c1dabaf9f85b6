"""What settings classes say of themselves: their sections, kinds and short forms, and all names.

A section's class declares two things itself:

kind        where a field allows several classes, the name by which one of them is chosen:
            `target: {kind: pmi, beta: 1.0}`.  The first of the field's union is the default.
short_form  what a lone word stands for, as in `model: some/path`: the word is the value of the
            first field named, and the other fields named are reset to their defaults.  Where there
            is none, the lone word is the kind: `target: teacher`.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Choices = tuple[type, ...]
"""The settings classes that a field allows; none where it is a plain value."""


@cache
def hints_of(cls: type) -> dict[str, Any]:
    """Returns the types of a settings class's fields, by name."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


@cache
def sections_of(cls: type) -> dict[str, Choices]:
    """Returns, by the name of a field, the settings classes that it allows."""
    if not is_dataclass(cls):
        return {}
    return {name: sections_in(hint) for name, hint in hints_of(cls).items()}


def sections_in(hint: Any) -> Choices:
    """Returns the settings classes in the type of a field."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(choice for choice in choices if isinstance(choice, type) and is_dataclass(choice))


def by_kind(choices: Choices) -> dict[str, type]:
    """Returns the classes of a field that has a choice of them, by kind."""
    return {vars(choice)["kind"]: choice for choice in choices} if len(choices) > 1 else {}


def short_form(choices: Choices) -> tuple[str, ...]:
    """Returns the field that a lone word sets, and those that it resets."""
    return getattr(choices[0], "short_form", ("kind",)) if choices else ("kind",)


def classes_at(cls: type, path: str) -> Choices:
    """Returns the settings classes that a dotted name below a class allows; none where there is no
    such section.
    """
    choices: Choices = (cls,)
    for name in path.split(".") if path else ():
        choices = tuple(inner for choice in choices for inner in sections_of(choice).get(name, ()))
    return choices


def all_names(cls: type, path: str = "") -> list[str]:
    """Returns the dotted names of all settings below a class."""
    names: list[str] = []
    for name, choices in sections_of(cls).items():
        names.append(join(path, name))
        for choice in choices:
            names += all_names(choice, join(path, name))
    return names


def all_kinds(cls: type, path: str = "") -> Iterator[tuple[str, str, type]]:
    """Yields every kind below a class: its section's dotted name, the kind, its class."""
    for name, choices in sections_of(cls).items():
        for kind, choice in by_kind(choices).items():
            yield join(path, name), kind, choice
        for choice in choices:
            yield from all_kinds(choice, join(path, name))


def join(path: str, name: str) -> str:
    """Returns the dotted name of a setting in a section."""
    return f"{path}.{name}" if path and name else path or name
