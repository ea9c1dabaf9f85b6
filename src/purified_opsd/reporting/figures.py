"""Figures, each as PNG, as SVG, and its numbers as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

matplotlib.rcParams |= {"svg.hashsalt": "purified-opsd", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}

COLOURS = {"opsd-standard": "#c8553d", "opsd-pmi": "#2a6f97"}
"""Of the arms, in every figure."""
GREY = "#8a8a8a"


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
    """One set of axes."""

    title: str
    unit: str
    curves: Sequence[Curve]


def draw(panels: Sequence[Panel], columns: int) -> Figure:
    """The panels, row by row; error bars are 95 % intervals."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout="constrained")
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        _draw_panel(axes, panel)
    figure.supxlabel("bars: 95 % intervals", fontsize=8, color=GREY)
    return figure


def write_figure(panels: Sequence[Panel], columns: int, stem: Path) -> list[Path]:
    """Writes STEM.png, STEM.svg and STEM.csv; their paths."""
    figure, files = draw(panels, columns), [stem.with_suffix(suffix) for suffix in (".png", ".svg", ".csv")]
    figure.savefig(files[0], dpi=150)
    figure.savefig(files[1], metadata={"Date": None})
    with files[2].open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["panel", "curve", "step", "value", "standard_error"])
        for panel in panels:
            for curve in panel.curves:
                writer.writerows([panel.title, curve.label, *point] for point in curve.points)
    return files


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        steps, values, errors = zip(*curve.points, strict=True) if curve.points else ((), (), ())
        bars = [1.96 * (error or 0.0) for error in errors]
        style = "--" if curve.dashed else "-"
        axes.errorbar(steps, values, yerr=bars, color=curve.colour, linestyle=style, marker="o", markersize=3, capsize=2,
                      linewidth=1.4, label=curve.label)  # fmt: skip
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(panel.unit)
    axes.margins(y=0.15)
    if any(curve.points for curve in panel.curves):
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=GREY)
