"""Settings files: YAML in which every value is text, as on the command line, and says its place.

What a value is, its setting says and not the way it looks: `revision: 0123` keeps its zero,
`steps: yes` is no number, `1e-4` is one.  `null`, `~` and an empty value are null.
"""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from purified_opsd.errors import SettingsError

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


MOST_CHARACTERS = 100
"""Of a value that is quoted."""


class FileText(str):
    """Text of a settings file, with the place where it stands, such as `run.yaml:3`."""

    place: str

    def __new__(cls, text: str, place: str) -> "FileText":
        written = super().__new__(cls, text)
        written.place = place
        return written


def place_of(value: Any) -> str:
    """Returns ` (run.yaml:3)` for what stands in a file; nothing for anything else."""
    return f" ({value.place})" if isinstance(value, FileText) else ""


def quoted(value: Any) -> str:
    """Returns a value as it was got, cut where it is long, with its place in a file."""
    text = "null" if value is None else repr(value)
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}... ({len(text):,} characters)"
    return f"{text}{place_of(value)}"


def read_yaml(file: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file; keys and values are `FileText`.  Raises SettingsError,
    also where a key stands twice.
    """
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        loader.name = str(file)
        value = loader.get_single_data()
    except OSError as error:
        raise SettingsError(
            f"The settings file {file} cannot be read: {error.strerror}. Check its name."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The settings file {file} is not YAML: {' '.join(str(error).split())}.{_hint(error)}"
        ) from error
    except RecursionError as error:
        raise SettingsError(
            f"The settings file {file} is nested too deeply to hold settings."
        ) from error
    if not isinstance(value, dict):
        got = "nothing" if value is None else f"a {_YAML_WORDS.get(type(value), 'value')}"
        raise SettingsError(
            f"The settings file {file} holds {got}, not settings such as `steps: 20`."
        )
    return value


_YAML_WORDS = {list: "list", FileText: "text"}


def _hint(error: Exception) -> str:
    """Returns what to do about an error whose text does not say it."""
    if "'\\t'" in str(error):
        return " Indent with spaces: YAML takes no tabs."
    if isinstance(error, UnicodeDecodeError):
        return " Save it as UTF-8."
    return ""


class _Loader(yaml.SafeLoader):
    """Reads every plain value but null as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own name, replaced and never changed)
        first: [resolver for resolver in resolvers if resolver[0] in (_NULL, _MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def text(self, node: yaml.ScalarNode) -> FileText:
        mark = node.start_mark
        return FileText(self.construct_scalar(node), f"{mark.name}:{mark.line + 1}")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping in which every key stands once."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        counts = Counter(key.value for key in keys)
        twice = [key for key in keys if counts[key.value] > 1]
        if twice:
            lines = " and ".join(
                str(key.start_mark.line + 1) for key in twice if key.value == twice[0].value
            )
            raise SettingsError(
                f"The settings file {twice[0].start_mark.name} holds the key {twice[0].value} "
                f"more than once, in lines {lines}, and only one can count. Keep one."
            )
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)
