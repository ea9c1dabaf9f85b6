"""The page of settings: as Markdown, for a terminal, and as comments in a YAML file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from textwrap import wrap
from typing import Any

import yaml

from .build import to_mapping
from .classes import by_kind, sections_of
from .meanings import (
    SectionDoc,
    SettingDoc,
    class_meaning,
    meaning_and_source,
)

INDENT = "  "


def markdown(sections: Sequence[SectionDoc]) -> str:
    """Returns a table of every section."""
    lines: list[str] = []
    for section in sections:
        lines += ["", f"## {_title(section, '`')}", section.meaning]
        if not section.settings:
            continue
        lines += ["", "| setting | type | default | meaning | source |", "|---|---|---|---|---|"]
        lines += [_row(setting) for setting in section.settings]
    return "\n".join([*lines[1:], ""])


def terminal(sections: Sequence[SectionDoc], width: int) -> str:
    """Returns every section as paragraphs of at most `width` columns."""
    lines: list[str] = []
    for section in sections:
        lines += ["", _title(section, ""), *wrap(section.meaning, width)]
        for setting in section.settings:
            source = f"  ({setting.source})" if setting.source else ""
            lines.append(f"{INDENT}{setting.name} = {setting.default}{source}")
            text = f"{setting.type}. {setting.meaning}"
            indent = INDENT * 3
            lines += wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    return "\n".join([*lines[1:], ""])


def commented_yaml(config: Any, width: int) -> str:
    """Returns a settings value as YAML with the meaning of each setting above it."""
    return "\n".join([*_yaml_lines(config, "", width), ""])


def _title(section: SectionDoc, quote: str) -> str:
    if not section.name:
        return "The run"
    if not section.kind:
        return f"{quote}{section.name}{quote}"
    default = ", the default" if section.default else ""
    return f"{quote}{section.name}: {section.kind}{quote}{default}"


def _row(setting: SettingDoc) -> str:
    cells = (
        f"`{setting.name}`",
        setting.type,
        f"`{setting.default}`" if setting.source else setting.default,
        setting.meaning,
        setting.source,
    )
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _yaml_lines(config: Any, indent: str, width: int) -> Iterator[str]:
    """Yields the lines of a section: each field's comment, then the field."""
    sections = sections_of(type(config))
    plain: Mapping[str, Any] = to_mapping(config)
    for field in fields(config):
        value = getattr(config, field.name)
        comment, _ = meaning_and_source(type(config), field.name)
        kinds = {choice: kind for kind, choice in by_kind(sections[field.name]).items()}
        if not is_dataclass(value):
            yield from _comment(comment, indent, width)
            yield from _dumped({field.name: plain[field.name]}, indent)
            continue
        others = [kind for choice, kind in kinds.items() if choice is not type(value)]
        choice = f" Other kinds: {', '.join(others)}." if others else ""
        yield from _comment(f"{comment or class_meaning(type(value))}{choice}", indent, width)
        inner = list(_yaml_lines(value, f"{indent}{INDENT}", width))
        if kinds:
            inner.insert(0, f"{indent}{INDENT}kind: {kinds[type(value)]}")
        yield f"{indent}{field.name}:" if inner else f"{indent}{field.name}: {{}}"
        yield from inner


def _comment(text: str, indent: str, width: int) -> list[str]:
    start = f"{indent}# "
    return wrap(text, width, initial_indent=start, subsequent_indent=start)


def _dumped(mapping: Mapping[str, Any], indent: str) -> list[str]:
    """Returns one setting as YAML, a list or mapping in one line, text of several as it is."""
    style = None if any(isinstance(value, list | dict) for value in mapping.values()) else False
    text = yaml.dump(
        dict(mapping), None, _Dumper, default_flow_style=style, allow_unicode=True, width=math.inf
    )
    return [f"{indent}{line}".rstrip() for line in text.splitlines()]


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""

    def text(self, value: str) -> yaml.ScalarNode:
        block = "|" if "\n" in value else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=block)


_Dumper.add_representer(str, _Dumper.text)


def chosen(sections: Sequence[SectionDoc], name: str) -> list[SectionDoc]:
    """Returns the sections of a dotted name and those within it, or the one setting of that name;
    none where there is neither.
    """
    within = [one for one in sections if one.name == name or one.name.startswith(f"{name}.")]
    if within:
        return within
    found: list[SectionDoc] = []
    for section in sections:
        settings = tuple(one for one in section.settings if one.name == name)
        if settings:
            found.append(replace(section, settings=settings))
    return found
