import csv
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from purified_opsd.reporting.figures import Bars, Curve, Panel, write_figure

PANELS = [
    Panel("Accuracy", "share", [Curve("pmi", "#2a6f97", [(0, 0.5, 0.1), (20, 0.6, None)])]),
    Panel("Markers", "per completion", []),
]


def test_a_figure_is_written_with_its_numbers(tmp_path):
    files = write_figure(PANELS, 2, tmp_path / "summary")
    assert [file.name for file in files] == ["summary.png", "summary.svg", "summary.csv"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(files[1]).getroot().tag.endswith("svg")
    rows = list(csv.DictReader(files[2].open()))
    assert [(row["curve"], row["step"], row["value"], row["standard_error"]) for row in rows] == [
        ("pmi", "0", "0.5", "0.1"),
        ("pmi", "20", "0.6", ""),
    ]


def test_the_same_numbers_give_the_same_file(tmp_path):
    one, other = (
        write_figure(PANELS, 1, tmp_path / name)[1].read_text() for name in ("one", "other")
    )
    assert one == other


@pytest.mark.parametrize(
    ("values", "below"), [((0.0, 0.0), False), ((0.01, 0.2), False), ((0.1, -0.1), True)]
)
def test_an_axis_goes_below_zero_only_where_a_value_does(values, below):
    axes = Figure().subplots()
    Panel(
        "Accuracy",
        "%",
        [Curve("pmi", "#2a6f97", [(i, value, None) for i, value in enumerate(values)])],
    ).draw(axes)
    assert (axes.get_ylim()[0] < 0) == below
    axes = Figure().subplots()
    Bars("Markers", "per completion", ["wait", "hmm"], {"base": ("#8a8a8a", values)}).draw(axes)
    assert (axes.get_ylim()[0] < 0) == below
