"""Settings from YAML and the command line to a frozen dataclass, and back to YAML.

Nothing here knows a class of ours.  A settings class is a dataclass whose fields are numbers, text,
lists and sections, which are settings classes again.  Two things a section's class declares itself:

kind        where a field allows several classes, the name by which one of them is chosen:
            `target: {kind: pmi, beta: 1.0}`.  The first of the field's union is the default.
short_form  what a lone word stands for, as in `model: some/path`: the word is the value of the
            first field named, and the other fields named are reset to their defaults.  Where there
            is none, the lone word is the kind: `target: teacher`.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .errors import SettingsError

T = TypeVar("T")


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
        *parents, leaf = option.removeprefix("--").replace("-", "_").split(".")
        section, section_class = overrides, cls
        for parent in parents:
            choices = _sections_of(section_class).get(parent, ())
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):  # --data FILE before --data.subset 5
                word_sets = _short_form(choices[0])[0] if choices else "kind"
                raise SettingsError(
                    f"{option} follows a short form of {parent}; write --{parent}.{word_sets} "
                    "for that one."
                )
            section_class = _class_of(section, choices)
        if values == ["null"]:
            section[leaf] = None
        else:
            section[leaf] = values[0] if len(values) == 1 else values
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
            yield option, _values(option, values)
        option, equals, value = word.partition("=")
        values = [value] if equals else []
    if option:
        yield option, _values(option, values)


def _values(option: str, values: list[str]) -> list[str]:
    if not values:
        raise SettingsError(f"{option} has no value. Write {option} VALUE.")
    return values


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
    """Returns the settings of a class with the words of a command line put over them."""
    return merge(cls, settings, read_overrides(cls, words))


def build(cls: type[T], settings: Mapping[str, Any], section: str = "") -> T:
    """Returns the value of the class that the settings describe; `section` is the dotted name under
    which they are known to the user.

    Raises SettingsError for an unknown key, naming the nearest, or an impossible value.
    """
    return _Builder(cls, section).value(settings, (cls,), section)


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
    if isinstance(value, Path):
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


@contextmanager
def refused_as_settings() -> Iterator[None]:
    """Turns the ValueError with which a settings class refuses a value into a SettingsError."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error


class _Builder:
    """Builds one value of a class, and knows all its settings for the sake of error messages."""

    def __init__(self, cls: type, section: str):
        self.cls, self.section = cls, section

    def value(self, settings: Any, choices: tuple[type, ...], path: str) -> Any:
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
        unknown = [str(name) for name in settings if name not in names]
        if unknown:
            raise SettingsError(self._unknown(_join(path, unknown[0]), cls))
        inner_values = {
            name: self._inner(inner, hints[name], _join(path, name))
            for name, inner in settings.items()
        }
        try:
            return TypeAdapter(cls).validate_python(inner_values)
        except ValidationError as error:
            problems = [_explain(problem, path) for problem in error.errors()]
            raise SettingsError("\n".join(problems)) from error

    def _inner(self, value: Any, hint: Any, path: str) -> Any:
        """Turns a section into an instance, and a lone word where a list belongs into the list of
        the words between its commas.
        """
        sections = _sections_in(hint)
        if sections and not (value is None and NoneType in get_args(hint)):
            return self.value(value, sections, path)
        if get_origin(hint) is tuple and isinstance(value, str):
            return value.split(",")
        return value

    def _unknown(self, name: str, cls: type) -> str:
        section = name.rpartition(".")[0]
        siblings = [_join(section, field.name) for field in fields(cls)]
        known = ", ".join(siblings) or f"none: {cls.__name__} has nothing to set"
        others = [*siblings, *_all_names(self.cls, self.section)]
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
    """Returns the class of a section, as far as its settings tell; no settings class where a field
    holds no section.
    """
    if not choices:
        return NoneType
    return _by_kind(choices).get(_kind(settings, choices), choices[0])


def _kind(settings: Mapping[str, Any], choices: tuple[type, ...]) -> Any:
    default = next(iter(_by_kind(choices)), None)
    return settings.get("kind", default)


def _by_kind(choices: tuple[type, ...]) -> dict[str, type]:
    """Returns the classes of a field by kind; none where there is nothing to choose."""
    return {vars(choice)["kind"]: choice for choice in choices} if len(choices) > 1 else {}


def _long_form(value: Any, choices: tuple[type, ...]) -> Any:
    """Returns the section that a lone word stands for; anything else as it is."""
    if not isinstance(value, str) or not choices:
        return value
    named, *reset = _short_form(choices[0])
    by_name = {field.name: field for field in fields(choices[0])}
    return {**{name: _default(by_name[name]) for name in reset}, named: value}


def _short_form(cls: type) -> tuple[str, ...]:
    return getattr(cls, "short_form", ("kind",))


def _default(field: Field) -> Any:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return to_mapping(value)


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
