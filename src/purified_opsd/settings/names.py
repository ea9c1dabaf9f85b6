"""What to say of a setting or a kind that there is not: the one that was meant, where it is known.

Meant is what another trainer calls so (names_elsewhere.py), what is spelled nearly so, and the
same name in another section; nothing is suggested that does not exist.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from .classes import all_kinds, all_names, join, sections_of
from .names_elsewhere import KINDS_ELSEWHERE, SECTIONS_ELSEWHERE, SETTINGS_ELSEWHERE
from .yaml_file import quoted

NEAR = 0.75
"""How alike two words are, from 0 to 1, where one is taken for a slip of the other."""
MOST = 3
"""How many names are suggested at most."""


def option(name: str) -> str:
    """Returns a dotted name as it is written on the command line."""
    return f"--{name.replace('_', '-')}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Returns ` Did you mean x?` for the nearest of the words, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(words), 1, NEAR)
    return f" Did you mean {near[0]}?" if near else ""


def unknown_setting(name: str, cls: type, root: type, prefix: str) -> str:
    """Returns what to say of a dotted name that is none.  `cls` is the class of its section, and
    `root`, whose own name is `prefix`, the class of all settings.
    """
    section, _, leaf = name.rpartition(".")
    siblings = [join(section, field.name) for field in fields(cls)]
    known = [other for other in all_names(root, prefix) if other != name]
    kinds = [
        kind
        for other, kind, choice in all_kinds(root, prefix)
        if other == section and leaf in sections_of(choice)
    ]
    if kinds:
        way_out = (
            f" It belongs to {section}.kind {kinds[0]}: give {option(section)}.kind {kinds[0]} too."
        )
    else:
        way_out = _meant(name, siblings, known, prefix) or _listed(section, siblings, cls)
    return f"There is no setting {name}.{way_out}"


def _listed(section: str, siblings: Sequence[str], cls: type) -> str:
    """Returns what there is to set in a section."""
    if not siblings:
        return f" {cls.__name__} has nothing to set."
    listed = f"Settings of {section}" if section else "All settings"
    return f" {listed}: {', '.join(siblings)}. `purified-opsd settings` says what they mean."


def unknown_kind(section: str, kind: Any, kinds: Sequence[str], root: type, prefix: str) -> str:
    """Returns what to say of a kind, or null (None), that its section does not have."""
    mistake = f"{section}.kind must be one of {', '.join(kinds)}, got {quoted(kind)}."
    if kind is None:
        return f"{mistake} Leave it out for {kinds[0]}."
    word = str(kind).lower().replace("_", "-")
    meant = KINDS_ELSEWHERE.get(word, word)
    if meant in kinds:
        return f"{mistake} Did you mean {meant} ({option(section)} {meant})?"
    for other, its, _ in all_kinds(root, prefix):
        if its == meant:
            return f"{mistake} Did you mean {other}: {meant} ({option(other)} {meant})?"
    return f"{mistake}{did_you_mean(meant, kinds)}"


def only_class(section: str, cls: type, word: str | None) -> str:
    """Returns what to say of a word, or null (None), for a section that has one class only."""
    siblings = ", ".join(join(section, field.name) for field in fields(cls))
    remark = SECTIONS_ELSEWHERE.get(section, "Leave it out for the defaults.")
    if word is None:
        mistake = f"{section} may not be null: it is always {cls.__name__}."
    else:
        mistake = (
            f"There is no setting {section}.kind: {section} is always {cls.__name__}, got {word!r}."
        )
    return f"{mistake} {remark} Settings of {section}: {siblings}."


def _meant(name: str, siblings: Sequence[str], existing: Sequence[str], prefix: str) -> str:
    """Returns ` Did you mean x (--x)?`, with what is to be known of x; or nothing."""
    within_root = name.removeprefix(f"{prefix}.") if prefix else name
    leaf = _leaf(name)
    here = SETTINGS_ELSEWHERE.get(within_root) or SETTINGS_ELSEWHERE.get(leaf)
    if here:
        settings = [setting for setting in here.settings if setting in existing]
        if settings or not here.settings:
            return f"{_suggest(settings)}{' ' if here.remark else ''}{here.remark}"
    return _suggest(
        _same_leaf(leaf, existing) or _nearest(leaf, siblings) or _nearest(leaf, existing)
    )


def _suggest(settings: Sequence[str]) -> str:
    if not settings:
        return ""
    named = [f"{setting} ({option(setting)})" for setting in settings[:MOST]]
    return f" Did you mean {' or '.join(named)}?"


def _same_leaf(leaf: str, names: Sequence[str]) -> list[str]:
    return _unique(name for name in names if _leaf(name) == leaf)


def _nearest(leaf: str, names: Sequence[str]) -> list[str]:
    """Returns the names whose last part is spelled nearly so, the nearest alone where they differ;
    or that has all the words of the other (chat_template, template).
    """
    leaves = _unique(_leaf(name) for name in names)
    near = difflib.get_close_matches(leaf, leaves, 1, NEAR)
    if not near:
        words = set(leaf.split("_"))
        near = [other for other in leaves if set(other.split("_")) < words][:1]
    return _same_leaf(near[0], names) if near else []


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
