"""What a report is made of: figures and tables under a heading, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from .figures import Drawn


@dataclass(frozen=True)
class Figure:
    """Panels that belong together; `name` is that of its files."""

    name: str
    title: str
    caption: str
    panels: Sequence[Drawn]

    @property
    def measured(self) -> bool:
        return any(panel.measured for panel in self.panels)

    @property
    def legend(self) -> dict[str, str]:
        """By label: the colour it has in every panel."""
        return {label: colour for panel in self.panels for label, colour in panel.labels.items()}


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    title: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Missing:
    """What a run does not have, and the command that makes it."""

    run: str
    what: str
    """`has no diagnosis yet`."""
    command: str


@dataclass(frozen=True)
class Section:
    """One heading of the report.  What is folded is there for those who ask."""

    anchor: str
    title: str
    lead: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Figure | Table] = ()
    missing: Sequence[Missing] = ()

    def all_figures(self) -> list[Figure]:
        """Those with something in them, unfolded first."""
        return [
            item
            for item in (*self.figures, *self.folded)
            if isinstance(item, Figure) and item.measured
        ]
