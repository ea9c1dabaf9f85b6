"""Figures, each as PNG, as SVG, and its numbers as CSV; and single panels as SVG in the colours of
the page they stand in.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from purified_opsd.storage.files import write_atomic

from .sanitize import csv_cell, visible

matplotlib.rcParams |= {
    "svg.hashsalt": "purified-opsd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "text.parse_math": False,  # a run may be called $x$
}

COLOURS = {"standard": "#c8553d", "pmi": "#2a6f97"}
"""The colour of each arm, in every figure."""
GREY = "#8a8a8a"
RULE = "#e2e2e2"
INKS: Mapping[str, str] = {
    "#2a6f97": "#6cb4dc",
    "#c8553d": "#f0917a",
    "#4d7c3a": "#90c47b",
    "#8a5a9e": "#c69cda",
    "#a87510": "#e2b550",
    "#1f857e": "#5fcac2",
    "#a8406f": "#e88db6",
    "#5b6470": "#a5afbc",
    GREY: "#8e8e8e",
    RULE: "#35383d",
}
"""Every colour of a figure, and what it becomes on a dark page."""
PALETTE = list(INKS)[:8]


@dataclass(frozen=True)
class Curve:
    """One line of a panel: values by step, with standard errors where there are any."""

    label: str
    colour: str
    points: Sequence[tuple[float, float, float | None]]
    """Step, value, standard error."""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes, with curves by step."""

    title: str
    unit: str
    curves: Sequence[Curve]
    limits: tuple[float, float] | None = None
    """Of the values; chosen from them where None, and not below 0 unless a value is."""
    columns: ClassVar = ("panel", "curve", "step", "value", "standard_error")

    @property
    def measured(self) -> bool:
        return any(curve.points for curve in self.curves)

    @property
    def has_errors(self) -> bool:
        return any(error for curve in self.curves for _, _, error in curve.points)

    @property
    def labels(self) -> dict[str, str]:
        """The colour of each label."""
        return {curve.label: curve.colour for curve in self.curves}

    def rows(self) -> Iterator[list[Any]]:
        """Its numbers, under `columns`."""
        for curve in self.curves:
            yield from ([self.title, curve.label, *point] for point in curve.points)

    def draw(self, axes: Axes) -> None:
        last_step = max((point[0] for curve in self.curves for point in curve.points), default=0)
        for index, curve in enumerate(self.curves):
            from_middle = index - (len(self.curves) - 1) / 2
            _draw_curve(axes, curve, 0.0 if curve.dashed else 0.008 * last_step * from_middle)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(y=0.15)
        if self.limits:
            axes.set_ylim(*self.limits)
        elif all(value >= 0 for curve in self.curves for _, value, _ in curve.points):
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))


@dataclass(frozen=True)
class Bars:
    """One set of axes, with a bar for each series in each category."""

    title: str
    unit: str
    categories: Sequence[str]
    series: Mapping[str, tuple[str, Sequence[float]]]
    """By label: its colour, and its value in each category."""
    columns: ClassVar = ("panel", "series", "category", "value")

    @property
    def measured(self) -> bool:
        return bool(self.categories and self.series)

    @property
    def has_errors(self) -> bool:
        return False

    @property
    def labels(self) -> dict[str, str]:
        """The colour of each label."""
        return {label: colour for label, (colour, _) in self.series.items()}

    def rows(self) -> Iterator[list[Any]]:
        for label, (_, values) in self.series.items():
            yield from (
                [self.title, label, *pair] for pair in zip(self.categories, values, strict=True)
            )

    def draw(self, axes: Axes) -> None:
        width = 0.8 / len(self.series)
        for index, (label, (colour, values)) in enumerate(self.series.items()):
            left = [x - 0.4 + (index + 0.5) * width for x in range(len(values))]
            axes.bar(left, values, width, color=colour, label=visible(label))
        if all(value >= 0 for _, values in self.series.values() for value in values):
            axes.set_ylim(bottom=0.0)
        axes.set_xticks(
            range(len(self.categories)), map(visible, self.categories), rotation=35, ha="right"
        )


Drawn = Panel | Bars


def draw(panels: Sequence[Drawn], columns: int) -> Figure:
    """The panels, row by row, with legends."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), dpi=150, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_title(visible(panel.title), fontsize=10)
        if panel.measured:
            axes.legend(frameon=False, fontsize=8)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if any(panel.has_errors for panel in panels):
        figure.supxlabel("bars: 95 % intervals (± 1.96 standard errors)", fontsize=8, color=GREY)
    return _laid_out(figure)


def write_figure(panels: Sequence[Drawn], columns: int, stem: Path) -> list[Path]:
    """Writes STEM.png, STEM.svg and STEM.csv, all panels of one kind; returns their paths."""
    figure = draw(panels, columns)
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".svg", ".csv")]
    _save(FigureCanvasAgg(figure).print_png, files[0])
    _save(partial(FigureCanvasSVG(figure).print_svg, metadata={"Date": None}), files[1])
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(panels[0].columns)
    for panel in panels:
        writer.writerows([*map(csv_cell, row)] for row in panel.rows())
    write_atomic(files[2], out.getvalue())
    return files


def inline(panel: Drawn, name: str) -> str:
    """The panel as an SVG element without title and legend, whose colours are the CSS variables
    `--ink-…` and the current colour.

    `name` is put before every id, so that a page can hold many.
    """
    figure = Figure(figsize=(4.2, 2.7), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    _draw_panel(axes, panel)
    _laid_out(figure)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(out)
    return _embeddable(out.getvalue(), name)


def _embeddable(svg: str, name: str) -> str:
    # 1. Only the element: no XML header, no metadata, no style that would reach the whole page.
    svg = svg[svg.index("<svg") :]
    style = r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>"
    svg = re.sub(style, "", svg, flags=re.DOTALL)
    # 2. The page's width, and the page's colours.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("#000000", "currentColor")
    for ink in INKS:
        svg = svg.replace(ink, f"var(--ink-{ink[1:]})")
    # 3. Ids of its own, and the references to them.
    for reference in (' id="', "url(#", 'href="#'):
        svg = svg.replace(reference, f"{reference}{name}-")
    return svg


def _draw_panel(axes: Axes, panel: Drawn) -> None:
    axes.set_ylabel(visible(panel.unit))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    if panel.measured:
        panel.draw(axes)
    else:
        axes.text(
            0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=GREY
        )


def _draw_curve(axes: Axes, curve: Curve, aside: float) -> None:
    """Draws the curve with its error bars moved `aside`, in steps, so that those of several curves
    do not cover each other.
    """
    steps, values, errors = zip(*curve.points, strict=True) if curve.points else ((), (), ())
    bars = [1.96 * (error or 0.0) for error in errors] if any(errors) else None
    axes.errorbar(
        [step + aside for step in steps] if bars else steps,
        values,
        yerr=bars,
        color=curve.colour,
        linestyle="--" if curve.dashed else "-",
        linewidth=1.5,
        capsize=0,
        elinewidth=0.8,
        marker="" if curve.dashed or len(steps) > 60 else "o",
        markersize=3.5,
        label=visible(curve.label),
    )


def _laid_out(figure: Figure) -> Figure:
    """The figure with its parts in their places, so that saving it does not look for them again."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def _save(write: Callable[[Path], None], file: Path) -> None:
    """The whole file or none of it."""
    temporary = file.with_name(f".{file.name}.tmp")
    write(temporary)
    temporary.replace(file)
