"""The token microscope as HTML: a fragment for any page, or a page of its own.  Self-contained: no
network, no libraries.

Model text is made visible here, escaped by the templates, and written by the script as text alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from purified_opsd.reporting.sanitize import visible
from purified_opsd.storage.files import read_json

_SHOWN = ("candidate", "ended", "reference_cut", "markers")
_TEXTS = ("id", "problem", "reference")

Trajectory = Mapping[str, Any]
"""One file of RUN/microscope/, as read from JSON."""


def read_trajectories(run: Path) -> list[Trajectory]:
    """All that `purified-opsd microscope` left in a run directory: the base first, then checkpoints
    by step.

    Raises RunError for a file that is damaged.
    """
    return [
        read_json(file, *_SHOWN, *_TEXTS, "vocabulary", "tokens")
        for file in sorted((run / "microscope").glob("*/*.json"))
    ]


def fragment(trajectories: Sequence[Trajectory]) -> str:
    """One element that holds data, style and script, which touch nothing outside it; its colours
    follow the page's color-scheme.
    """
    return (
        _environment()
        .get_template("fragment.html")
        .render(trajectories=[_shown(trajectory) for trajectory in trajectories])
    )


def page(trajectories: Sequence[Trajectory], title: str) -> str:
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


def _shown(trajectory: Trajectory) -> dict[str, Any]:
    """What the page needs of a trajectory, its text made visible; a line break keeps its break."""
    kept = {name: trajectory[name] for name in _SHOWN}
    texts = {name: visible(trajectory[name], keep="\n") for name in _TEXTS}
    vocabulary = {
        token: visible(text, keep="\n").replace("\n", "⏎\n")
        for token, text in trajectory["vocabulary"].items()
    }
    tokens = [
        {name: value for name, value in token.items() if name != "text"}
        for token in trajectory["tokens"]
    ]
    return {**kept, **texts, "vocabulary": vocabulary, "tokens": tokens}
