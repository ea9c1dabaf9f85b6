"""Settings from YAML and the command line to a frozen dataclass, and back to YAML.

Nothing here knows a class of ours.  A settings class is a dataclass whose fields are numbers, text,
lists and sections, which are settings classes again.  Two things a section's class declares itself:

kind        where a field allows several classes, the name by which one of them is chosen:
            `target: {kind: pmi, beta: 1.0}`.  The first of the field's union is the default.
short_form  what a lone word stands for, as in `model: some/path`: the word is the value of the
            first field named, and the other fields named are reset to their defaults.  Where there
            is none, the lone word is the kind: `target: teacher`.
"""

import datetime
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .errors import SettingsError

T = TypeVar("T")
_Root = tuple[type, str]
"""The class that is built and its dotted name: all settings that a mistaken one can be."""


def read_yaml(file: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file.  Raises SettingsError."""
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The settings file {file} cannot be read: {error.strerror}. Check its name."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise SettingsError(f"The settings file {file} is not YAML: {message}.") from error
    if not isinstance(value, dict):
        raise SettingsError(
            f"The settings file {file} holds a {type(value).__name__}, not settings such as "
            "`steps: 20`."
        )
    return value


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
            choices = _sections_of(section_class).get(parent, ())
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):  # --data FILE before --data.subset 5
                raise SettingsError(
                    f"{option} follows a short form of {parent}; write "
                    f"--{parent}.{_short_form(choices)[0]} for that one."
                )
            section_class = _class_of(section, choices)
        if isinstance(section.get(leaf), dict):  # --data.subset 5 before --data FILE
            word_sets = _short_form(_sections_of(section_class).get(leaf, ()))[0]
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
        choices = _sections_of(cls).get(name, ())
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
        choices = _sections_of(cls).get(option.removeprefix("--"), ())
        declares_one = choices and _short_form(choices) != ("kind",)
        (short_forms if declares_one else others).extend([option, *values])
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
        sections = _sections_of(type(value))
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


def _value(settings: Any, choices: tuple[type, ...], path: str, root: _Root) -> Any:
    """Returns an instance of one of the classes, its own sections built first."""
    settings = _long_form(settings, choices)
    if not isinstance(settings, Mapping):
        raise SettingsError(
            f"{path or 'the settings'} must be a section with keys, got {settings!r}."
        )
    cls = choices[0]
    if len(choices) > 1:
        cls = _choose(settings, choices, path)
        settings = {name: inner for name, inner in settings.items() if name != "kind"}
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    values: dict[str, Any] = {}
    for name, inner in settings.items():
        inner_path = _join(path, str(name))
        if name not in names:
            raise SettingsError(_unknown(inner_path, cls, root))
        sections = _sections_in(hints[name])
        if sections and not (inner is None and NoneType in get_args(hints[name])):
            inner = _value(inner, sections, inner_path, root)
        elif get_origin(hints[name]) is tuple and isinstance(inner, str):
            inner = inner.split(",")
        values[name] = inner
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        problems = [_explain(problem, path) for problem in error.errors()]
        raise SettingsError("\n".join(problems)) from error


def _unknown(name: str, cls: type, root: _Root) -> str:
    section = name.rpartition(".")[0]
    siblings = [_join(section, field.name) for field in fields(cls)]
    known = ", ".join(siblings) or f"none: {cls.__name__} has nothing to set"
    others = [*siblings, *_all_names(*root)]
    nearest = _nearest(name, [other for other in others if other != name])
    settings_of = f"Settings of {section}" if section else "All settings"
    return f"There is no setting {name}.{nearest} {settings_of}: {known}."


def _choose(settings: Mapping[str, Any], choices: tuple[type, ...], path: str) -> type:
    """Returns the class whose kind the settings name, or the default."""
    by_kind = _by_kind(choices)
    kind = _kind(settings, choices)
    if kind not in by_kind:
        raise SettingsError(
            f"{path}.kind must be one of {', '.join(by_kind)}, got "
            f"{kind!r}.{_nearest(str(kind), list(by_kind))}"
        )
    return by_kind[kind]


def _class_of(settings: Mapping[str, Any], choices: tuple[type, ...]) -> type:
    """Returns the class of a section, as far as its settings tell; NoneType where it has none."""
    if not choices:
        return NoneType
    return _by_kind(choices).get(_kind(settings, choices), choices[0])


def _kind(settings: Mapping[str, Any], choices: tuple[type, ...]) -> Any:
    return settings.get("kind", next(iter(_by_kind(choices)), None))


def _by_kind(choices: tuple[type, ...]) -> dict[str, type]:
    """Returns the classes of a field that has a choice of them, by kind."""
    return {vars(choice)["kind"]: choice for choice in choices} if len(choices) > 1 else {}


def _long_form(value: Any, choices: tuple[type, ...]) -> Any:
    """Returns the section that a lone word stands for; anything else as it is."""
    if not isinstance(value, str) or not choices:
        return value
    named, *reset = _short_form(choices)
    section = {named: value}
    for field in fields(choices[0]):
        if field.name in reset:
            factory = field.default_factory
            section[field.name] = to_mapping(field.default if factory is MISSING else factory())
    return section


def _short_form(choices: tuple[type, ...]) -> tuple[str, ...]:
    return getattr(choices[0], "short_form", ("kind",)) if choices else ("kind",)


@cache
def _sections_of(cls: type) -> dict[str, tuple[type, ...]]:
    """Returns, by the name of a field, the settings classes that it allows."""
    if not is_dataclass(cls):
        return {}
    hints = get_type_hints(cls)
    return {field.name: _sections_in(hints[field.name]) for field in fields(cls)}


def _sections_in(hint: Any) -> tuple[type, ...]:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(choice for choice in choices if isinstance(choice, type) and is_dataclass(choice))


def _all_names(cls: type, path: str = "") -> list[str]:
    """Returns the dotted names of all settings below a class."""
    names: list[str] = []
    for name, choices in _sections_of(cls).items():
        names.append(_join(path, name))
        for choice in choices:
            names += _all_names(choice, _join(path, name))
    return names


def _nearest(name: str, names: Sequence[str]) -> str:
    """Returns ` Did you mean x?`, by the whole dotted name or by its last part; or nothing."""
    leaf = name.rpartition(".")[2]
    by_leaf = {other.rpartition(".")[2]: other for other in reversed(names)}
    close = (
        [other for other in names if other.rpartition(".")[2] == leaf]
        or difflib.get_close_matches(name, names, 1)
        or difflib.get_close_matches(leaf, list(by_leaf), 1)
    )
    return f" Did you mean {by_leaf.get(close[0], close[0])}?" if close else ""


def _explain(problem: ErrorDetails, path: str) -> str:
    name = _join(path, ".".join(str(part) for part in problem["loc"]))
    if problem["type"] in ("missing", "missing_argument"):
        option = f"--{name.replace('_', '-')}"
        return (
            f"The setting {name} is missing. Add it to the YAML file, or give it as {option} VALUE."
        )
    if problem["type"] == "value_error" and "ctx" in problem:
        return str(problem["ctx"]["error"])
    return f"{name}: {problem['msg']}, got {problem['input']!r}."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
