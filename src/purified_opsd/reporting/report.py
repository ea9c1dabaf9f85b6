"""One HTML page that shows what became of one or several runs.

The page is self-contained; its figures lie beside it as PNG, SVG and CSV.
"""

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from purified_opsd.settings.build import flat
from purified_opsd.storage.files import write_atomic

from .cards import Card, before_after
from .completion_pairs import CompletionPair, completion_pairs
from .curves import colours
from .elements import Figure, Section, Table
from .figures import INKS, inline, write_figure
from .marker_counts import MarkerWords, tally_markers
from .microscope import fragment, read_trajectories
from .run_completions import SOURCES
from .runs import RunRecord, read_runs
from .sanitize import visible
from .sections import sections
from .tables import changes, facts, setting_differences, target_of


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    cards: Sequence[Card]
    facts: Table
    differences: Table
    changes: Table
    sections: Sequence[Section]
    pairs: Sequence[CompletionPair]
    microscopes: Mapping[str, str]
    """By run: an HTML fragment."""
    linked: Mapping[str, str]
    """By run: where the page of its microscope is, as this page sees it, of those that are too
    large to be in it.
    """
    files: str
    """The folder of the figures, as the page sees it."""


MOST_EMBEDDED = 50_000_000
"""Bytes of microscope files up to which they are put into the page: a browser opens so much at once
without trouble.
"""


def write_report(folders: Sequence[Path], output: Path, markers: MarkerWords) -> Path:
    """Writes the page and, in a folder beside it, its figures and no others; returns that folder.

    Raises RunError for a folder that is no run, or a run that is damaged; then nothing was written.
    """
    page = _page(read_runs(folders), output, markers)
    files = output.parent / page.files
    files.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for section in page.sections:
        for figure in section.all_figures():
            written += write_figure(figure.panels, min(2, len(figure.panels)), files / figure.name)
    write_atomic(output, render(page))
    for file in files.iterdir():
        if file.suffix in (".png", ".svg", ".csv") and file not in written:
            file.unlink()  # of a report that was here before
    return files


def render(page: Page) -> str:
    """The page as HTML.  Whatever a model or a stranger wrote is made visible, then escaped."""
    environment = Environment(
        loader=PackageLoader(__name__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "drawn": _drawn, "flat": flat}
    policy = content_policy(page.microscopes.values())
    return environment.get_template("report.html").render(page=page, inks=INKS, policy=policy)


def content_policy(fragments: Iterable[str]) -> str:
    """What the browser lets the page do: reach nothing, and run no script but those of the
    fragments, known by their digests.
    """
    scripts = [
        script
        for fragment in fragments
        for script in re.findall(r"<script>(.*?)</script>", fragment, re.DOTALL)
    ]
    digests = dict.fromkeys(
        base64.b64encode(sha256(script.encode()).digest()).decode() for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _embedded(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Those with trajectories, first to last, that fit into the page together."""
    sizes = [
        sum(file.stat().st_size for file in (run.folder / "microscope").glob("*/*.json"))
        for run in runs
    ]
    return [
        run
        for run, size, total in zip(runs, sizes, accumulate(sizes), strict=True)
        if size and total <= MOST_EMBEDDED
    ]


def _page(runs: Sequence[RunRecord], output: Path, markers: MarkerWords) -> Page:
    # 1. Every completion is read and its markers are counted, the runs' own words among them.
    own = dict.fromkeys(word for run in runs for word in run.markers if word not in markers.words)
    markers = replace(markers, own=tuple(own))
    tallies = {
        source: {run.name: tally_markers(run.folder, source, markers) for run in runs}
        for source in SOURCES
    }
    # 2. Microscopes stand in the page while they fit, and behind links where they do not.
    embedded = _embedded(runs)
    looked_at = [run for run in runs if any((run.folder / "microscope").glob("*/*.json"))]
    ink = colours(runs)
    return Page(
        cards=[
            Card(run, ink[run.name], target_of(run), before_after(run, tallies)) for run in runs
        ],
        facts=facts(runs),
        differences=setting_differences(runs),
        changes=changes(runs),
        sections=sections(runs, tallies, markers),
        pairs=completion_pairs(runs, markers),
        microscopes={run.name: fragment(read_trajectories(run.folder)) for run in embedded},
        linked={
            run.name: _seen_from(output, run.folder / "microscope.html")
            for run in looked_at
            if run not in embedded
        },
        files=f"{output.stem}_files",
    )


def _seen_from(page: Path, file: Path) -> str:
    """The address of a file in a link of the page."""
    return quote(os.path.relpath(file.absolute(), page.absolute().parent))


def _drawn(figure: Figure) -> list[tuple[str, Markup]]:
    """The title and the drawing of each panel; matplotlib escapes the text it draws."""
    return [
        (panel.title, Markup(inline(panel, f"{figure.name}-{index}")))
        for index, panel in enumerate(figure.panels)
    ]
