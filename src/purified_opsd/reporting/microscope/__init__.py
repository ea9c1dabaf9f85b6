"""The token microscope as HTML: a fragment for any page, or a page of its own.  Self-contained: no
network, no libraries.

Model text is made visible here, escaped by the templates, and written by the script as text alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from purified_opsd.reporting.sanitize import visible
from purified_opsd.storage.completions import CompletionRow, read_completion

_SHOWN = ("candidate", "reference_cut", "markers")
_TEXTS = ("problem", "reference")


def read_trajectories(run: Path) -> list[CompletionRow]:
    """All that `purified-opsd microscope` left in a run directory: the base first, then checkpoints
    by step.

    Raises RunError for a file that is damaged.
    """
    return [
        read_completion(file, *_SHOWN, *_TEXTS, "vocabulary", "tokens")
        for file in sorted((run / "microscope").glob("*/*.json"))
    ]


def fragment(trajectories: Sequence[CompletionRow]) -> str:
    """One element that holds data, style and script, which touch nothing outside it; its colours
    follow the page's color-scheme.
    """
    return (
        _environment()
        .get_template("fragment.html")
        .render(trajectories=[_shown(trajectory) for trajectory in trajectories])
    )


def page(trajectories: Sequence[CompletionRow], title: str) -> str:
    """A whole page around the fragment."""
    return (
        _environment()
        .get_template("page.html")
        .render(title=visible(title), trajectories=[_shown(t) for t in trajectories])
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _shown(trajectory: CompletionRow) -> dict[str, Any]:
    """What the page needs of a trajectory, its text made visible; a line break keeps its break."""
    row = trajectory.extras
    kept = {name: row[name] for name in _SHOWN} | {"finish_reason": trajectory.finish_reason}
    texts = {name: visible(row[name], keep="\n") for name in _TEXTS}
    texts["id"] = visible(trajectory.id, keep="\n")
    vocabulary = {
        token: visible(text, keep="\n").replace("\n", "⏎\n")
        for token, text in row["vocabulary"].items()
    }
    tokens = [
        {name: value for name, value in token.items() if name != "text"} for token in row["tokens"]
    ]
    return {**kept, **texts, "vocabulary": vocabulary, "tokens": tokens}
