"""What metrics.jsonl holds, by step, and the seconds of a step by part."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from .curves import colours
from .elements import Figure
from .figures import Bars, Curve, Panel
from .runs import RunRecord

Metric = tuple[str, str, str]
"""Its name in metrics.jsonl, title, unit."""

FIRST: Sequence[Metric] = (
    ("loss", "Loss", "nats"),
    ("grad_norm", "Gradient norm before clipping", "norm"),
    ("log_prob_gap_mean", "Log-prob gap, sampler against trainer", "nats, mean over tokens"),
    ("completion_length", "Completion length", "tokens"),
    ("truncation_rate", "Cut off at the limit", "share of completions"),
    ("epistemic_per_1000_tokens", "Epistemic markers", "per 1,000 tokens"),
)
FURTHER: Sequence[Metric] = (
    ("divergence", "Divergence of student and target", "nats a token"),
    ("learning_rate", "Learning rate", "rate"),
    ("reference_cut_rate", "References shortened to fit", "share of examples"),
    ("log_prob_gap_p99", "Log-prob gap, 99th percentile", "nats"),
    ("tokens_per_second", "Speed", "tokens a second"),
    ("peak_memory_gb", "Most memory held so far", "10⁹ bytes"),
)


def curves(runs: Sequence[RunRecord], name: str, title: str, metrics: Sequence[Metric]) -> Figure:
    """A panel a metric, a curve a run."""
    panels = [
        _panel(runs, heading, unit, lambda row, metric=metric: row.get(metric))
        for metric, heading, unit in metrics
    ]
    return Figure(name, title, "One point a step, of the completions sampled in it.", panels)


def decomposition(runs: Sequence[RunRecord]) -> Figure:
    """Fig. 3 during training, of the runs that decomposed some of their rollouts."""
    panels = [
        _panel(runs, title, unit, lambda row, part=part: row.get("decomposition", {}).get(part))
        for part, title, unit in (
            ("cos_ref", "Direction: cos(Δ_total, Δ_ref)", "cosine"),
            ("cos_it", "Direction: cos(Δ_total, Δ_it)", "cosine"),
            ("norm_fraction_ref", "Size: ‖Δ_ref‖ / ‖Δ_total‖", "norms"),
            ("norm_fraction_it", "Size: ‖Δ_it‖ / ‖Δ_total‖", "norms"),
        )
    ]
    caption = "On a few completions of each training step, before its update."
    return Figure("training-decomposition", "The same at every training step", caption, panels)


def _panel(
    runs: Sequence[RunRecord],
    title: str,
    unit: str,
    value_of: Callable[[Mapping[str, Any]], float | None],
) -> Panel:
    """A curve a run, of what `value_of` finds in its rows of metrics.jsonl."""
    ink = colours(runs)
    lines = []
    for run in runs:
        values = ((row["step"], value_of(row)) for row in run.metrics)
        points = [(step, value, None) for step, value in values if value is not None]
        lines.append(Curve(run.name, ink[run.name], points))
    return Panel(title, unit, lines)


def seconds(runs: Sequence[RunRecord]) -> Figure:
    """The median step of each run, by part."""
    ink = colours(runs)
    timed = [run for run in runs if run.metrics]
    parts = list(
        dict.fromkeys(part for run in timed for part in run.metrics[-1].get("seconds", {}))
    )
    series = {}
    for run in timed:
        medians = [
            median(row.get("seconds", {}).get(part, 0.0) for row in run.metrics) for part in parts
        ]
        series[run.name] = (ink[run.name], medians)
    return Figure(
        "seconds",
        "Seconds of a step by part",
        "Medians over the steps. They depend on the machine and on what else it did.",
        [Bars("Seconds of a step", "seconds", parts, series)],
    )
