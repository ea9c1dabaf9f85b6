"""What settings classes say of each setting: its type, default, meaning and source.

All of it stands in the classes.  The text under a field is its meaning; where it ends in
`Source: X.`, X is where the default comes from, and else the default is ours.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .classes import by_kind, hints_of, join, sections_of

OURS = "ours"
MOST_CHARACTERS = 60
"""Of a default that is shown."""
WORDS = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    date: "date",
}
"""Types in the user's words."""


@dataclass(frozen=True)
class SettingDoc:
    """What is to be known of one setting; `name` is dotted."""

    name: str
    type: str
    default: str
    meaning: str
    source: str


@dataclass(frozen=True)
class SectionDoc:
    """The settings of one class under a dotted name; `kind` where there is a choice of classes."""

    name: str
    kind: str
    default: bool
    """Is it the class that is taken where no kind is given?"""
    meaning: str
    settings: tuple[SettingDoc, ...]


def section_docs(
    cls: type, name: str = "", kind: str = "", default: bool = True
) -> Iterator[SectionDoc]:
    """Yields a class's section and those within it, each before its own sections."""
    hints, within = hints_of(cls), sections_of(cls)
    settings = tuple(
        _setting_doc(cls, field, hints[field.name], name)
        for field in fields(cls)
        if not within[field.name]
    )
    yield SectionDoc(name, kind, default, class_meaning(cls), settings)
    for inner, choices in within.items():
        kinds = {choice: word for word, choice in by_kind(choices).items()}
        for choice in choices:
            first = choice is choices[0]
            yield from section_docs(choice, join(name, inner), kinds.get(choice, ""), first)


def class_meaning(cls: type) -> str:
    """Returns the first paragraph of a class's text."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


@cache
def field_texts(cls: type) -> dict[str, str]:
    """Returns the text under each field of a class, by name."""
    [definition] = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, text in pairwise(definition.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                texts[name] = " ".join(words.split())
    return texts


def meaning_and_source(cls: type, name: str) -> tuple[str, str]:
    """Returns what a field's text says, and where its default comes from."""
    meaning, _, source = field_texts(cls).get(name, "").partition("Source: ")
    return meaning.strip(), source.rstrip(".") or OURS


def type_words(hint: Any) -> str:
    """Returns a field's type in words, such as `whole number or null`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        words = [type_words(one) for one in inner if one is not NoneType]
        return " or ".join([*words, *(["null"] if NoneType in inner else [])])
    if origin is Literal:
        return " or ".join([", ".join(inner[:-1]), inner[-1]]) if inner[1:] else inner[0]
    if origin is tuple:
        return f"list of {type_words(inner[0])}"
    if origin is not None:  # a mapping
        return "section of text"
    return WORDS[hint]


def default_words(value: Any) -> str:
    """Returns a default as it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(default_words, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if not text or "\n" in text or len(text) > MOST_CHARACTERS:
        text = json.dumps(text, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _setting_doc(cls: type, field: Field[Any], hint: Any, section: str) -> SettingDoc:
    meaning, source = meaning_and_source(cls, field.name)
    default, factory = field.default, field.default_factory
    if factory is not MISSING:
        default = factory()
    words = "required" if default is MISSING else default_words(default)
    name = join(section, field.name)
    return SettingDoc(name, type_words(hint), words, meaning, "" if words == "required" else source)
