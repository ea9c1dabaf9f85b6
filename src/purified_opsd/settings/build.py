"""Settings from YAML and the command line to a frozen dataclass, and back to YAML.

Nothing here knows a class of ours.  A settings class is a dataclass whose fields are numbers, text,
lists and sections, which are settings classes again; classes.py says what else.
"""

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from purified_opsd.errors import SettingsError

from .classes import Choices, by_kind, hints_of, join, sections_in, sections_of, short_form
from .names import only_class, unknown_kind, unknown_setting
from .value_errors import problems
from .yaml_file import place_of, quoted

T = TypeVar("T")
_Root = tuple[type, str]
"""The class that is built and its dotted name: all settings that a mistaken one can be."""


def read_overrides(cls: type, words: Sequence[str]) -> dict[str, Any]:
    """Returns `--optimizer.learning-rate 1e-4 --trackers wandb tensorboard` as nested settings of
    the class; `null` is null.  Raises SettingsError for words that are no settings.
    """
    overrides: dict[str, Any] = {}
    for option, values in _options(words):
        if not values:
            raise SettingsError(f"{option} has no value. Write {option} VALUE.")
        *parents, leaf = option.removeprefix("--").replace("-", "_").split(".")
        section, section_class = overrides, cls
        for parent in parents:
            choices = sections_of(section_class).get(parent, ())
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):  # --data FILE before --data.subset 5
                raise SettingsError(
                    f"{option} follows a short form of {parent}; write "
                    f"--{parent}.{short_form(choices)[0]} for that one."
                )
            section_class = _class_of(section, choices)
        if isinstance(section.get(leaf), dict):  # --data.subset 5 before --data FILE
            word_sets = short_form(sections_of(section_class).get(leaf, ()))[0]
            raise SettingsError(
                f"{option} is a short form after settings of {leaf}; write {option}.{word_sets}."
            )
        value = values[0] if len(values) == 1 else values
        section[leaf] = None if value == "null" else value
    return overrides


def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields every `--option` with the values that follow it, after a space or `=`."""
    option, values = "", []
    for word in words:
        if word[:1] == "-" and word[1:2].isalpha():
            raise SettingsError(f"{word} has one dash, and settings have two: -{word}.")
        if not word.startswith("--"):
            if not option:
                raise SettingsError(
                    f"'{word}' belongs to no setting. Settings are written --name value, such as "
                    "--steps 20."
                )
            values.append(word)
            continue
        if option:
            yield option, values
        option, equals, value = word.partition("=")
        values = [value] if equals else []
    if option:
        yield option, values


def merge(cls: type, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a class with the overrides put over them; another `kind` starts its
    section anew.
    """
    merged = dict(settings)
    for name, value in overrides.items():
        choices = sections_of(cls).get(name, ())
        before = _long_form(merged.get(name), choices)
        value = _long_form(value, choices)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and value:
            same_kind = "kind" not in value or _kind(before, choices) == _kind(value, choices)
            if same_kind:
                value = merge(_class_of(before, choices), before, value)
        merged[name] = value
    return merged


def override(cls: type, settings: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a class with the words of a command line put over them.

    `--data FILE` goes before `--data.subset 5`, which is then of that file, in whatever order.
    """
    short_forms, others = [], []
    for option, values in _options(words):
        choices = sections_of(cls).get(option.removeprefix("--"), ())
        declares_one = choices and short_form(choices) != ("kind",)
        joined = [f"{option}={values[0]}", *values[1:]] if values else [option]
        (short_forms if declares_one else others).extend(joined)  # a value may begin with --
    settings = merge(cls, settings, read_overrides(cls, short_forms))
    return merge(cls, settings, read_overrides(cls, others))


def build(cls: type[T], settings: Mapping[str, Any], section: str = "") -> T:
    """Returns the value of the class that the settings describe; `section` is the dotted name under
    which they are known to the user.

    Raises SettingsError for an unknown key, naming the nearest, or an impossible value.
    """
    return _value(settings, (cls,), section, (cls, section))


def to_mapping(value: Any) -> Any:
    """Returns settings as plain mappings, lists, numbers and text, which `build` turns back."""
    if is_dataclass(value) and not isinstance(value, type):
        sections = sections_of(type(value))
        mapping: dict[str, Any] = {}
        for field in fields(value):
            inner = getattr(value, field.name)
            plain = to_mapping(inner)
            if len(sections.get(field.name, ())) > 1 and isinstance(plain, dict):
                plain = {"kind": vars(type(inner))["kind"], **plain}
            mapping[field.name] = plain
        return mapping
    if isinstance(value, Path | datetime.date):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def to_yaml(value: Any) -> str:
    return yaml.safe_dump(to_mapping(value), sort_keys=False, allow_unicode=True)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every setting with its dotted name."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(settings: Any, choices: Choices, path: str, root: _Root) -> Any:
    """Returns an instance of one of the classes, its own sections built first."""
    settings = {"kind": None} if settings is None else _long_form(settings, choices)
    if not isinstance(settings, Mapping):
        raise SettingsError(
            f"{path or 'the settings'} must be a section with keys, got {quoted(settings)}."
        )
    cls = choices[0]
    if len(choices) > 1:
        cls = _choose(settings, choices, path, root)
        settings = {name: inner for name, inner in settings.items() if name != "kind"}
    hints = hints_of(cls)
    values: dict[str, Any] = {}
    for name, inner in settings.items():
        inner_path = join(path, str(name))
        if name == "kind" and name not in hints and path:
            raise SettingsError(f"{only_class(path, cls, inner)}{place_of(inner)}")
        if name not in hints:
            raise SettingsError(f"{unknown_setting(inner_path, cls, *root)}{place_of(name)}")
        values[name] = _field(inner, hints[name], inner_path, root)
    try:
        value = TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        raise SettingsError(problems(error, path)) from error
    _check_finite(value, path)
    return value


def _field(inner: Any, hint: Any, path: str, root: _Root) -> Any:
    """Returns the value of a field as pydantic takes it, a section as an instance of its class."""
    allowed = get_args(hint)
    sections = sections_in(hint)
    if sections and not (inner is None and NoneType in allowed):
        return _value(inner, sections, path, root)
    if isinstance(inner, bool) and bool not in (hint, *allowed):  # pydantic takes true as 1
        raise SettingsError(f"{path} is neither true nor false, got {inner}.")
    takes_list = any(get_origin(one) is tuple for one in (hint, *allowed))
    if takes_list and isinstance(inner, str):
        return inner.split(",")
    return inner


def _check_finite(value: Any, path: str) -> None:
    """Raises SettingsError where a number of a settings class is infinite or none."""
    for field in fields(value):
        number = getattr(value, field.name)
        if isinstance(number, float) and not math.isfinite(number):
            raise SettingsError(
                f"{join(path, field.name)} must be a finite number, got {number}. For no limit "
                "give a large one, such as 1e9."
            )


def _choose(settings: Mapping[str, Any], choices: Choices, path: str, root: _Root) -> type:
    """Returns the class whose kind the settings name, or the default."""
    kinds = by_kind(choices)
    kind = _kind(settings, choices)
    if kind not in kinds:
        message = unknown_kind(path, kind, list(kinds), *root)
        raise SettingsError(f"{message}{place_of(kind)}")
    return kinds[kind]


def _class_of(settings: Mapping[str, Any], choices: Choices) -> type:
    """Returns the class of a section, as far as its settings tell; NoneType where it has none."""
    if not choices:
        return NoneType
    return by_kind(choices).get(_kind(settings, choices), choices[0])


def _kind(settings: Mapping[str, Any], choices: Choices) -> Any:
    return settings.get("kind", next(iter(by_kind(choices)), None))


def _long_form(value: Any, choices: Choices) -> Any:
    """Returns the section that a lone word stands for; anything else as it is."""
    if not isinstance(value, str) or not choices:
        return value
    named, *reset = short_form(choices)
    section = {named: value}
    for field in fields(choices[0]):
        if field.name in reset:
            factory = field.default_factory
            section[field.name] = to_mapping(field.default if factory is MISSING else factory())
    return section
