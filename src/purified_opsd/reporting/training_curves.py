"""What metrics.jsonl holds, by step, and the seconds of a step by part."""

from collections.abc import Sequence
from statistics import median

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
    ink = colours(runs)
    panels = [
        Panel(heading, unit, [
            Curve(run.name, ink[run.name], [(row["step"], row[metric], None) for row in run.metrics if metric in row])
            for run in runs
        ])
        for metric, heading, unit in metrics
    ]  # fmt: skip
    return Figure(name, title, "One point a step, of the completions sampled in it.", panels)


def decomposition(runs: Sequence[RunRecord]) -> Figure:
    """Fig. 3 on the way, of the runs that were asked to take their rollouts apart while they
    trained.
    """
    ink = colours(runs)
    panels = [
        Panel(title, unit, [
            Curve(run.name, ink[run.name], [
                (row["step"], row["decomposition"][number], None) for row in run.metrics if number in row.get("decomposition", {})
            ])
            for run in runs
        ])
        for number, title, unit in (
            ("cos_ref", "Direction: cos(Δ_total, Δ_ref)", "cosine"),
            ("cos_it", "Direction: cos(Δ_total, Δ_it)", "cosine"),
            ("norm_fraction_ref", "Size: ‖Δ_ref‖ / ‖Δ_total‖", "norms"),
            ("norm_fraction_it", "Size: ‖Δ_it‖ / ‖Δ_total‖", "norms"),
        )
    ]  # fmt: skip
    caption = "On a few completions of each training step, before its update."
    return Figure("training-decomposition", "The same at every training step", caption, panels)


def seconds(runs: Sequence[RunRecord]) -> Figure:
    """The median step by part."""
    ink, timed = colours(runs), [run for run in runs if run.metrics]
    parts = list(
        dict.fromkeys(part for run in timed for part in run.metrics[-1].get("seconds", {}))
    )
    series = {
        run.name: (
            ink[run.name],
            [
                median(row.get("seconds", {}).get(part, 0.0) for row in run.metrics)
                for part in parts
            ],
        )
        for run in timed
    }
    caption = "Medians over the steps. They depend on the machine and on what else it did."
    return Figure(
        "seconds",
        "Seconds of a step by part",
        caption,
        [Bars("Seconds of a step", "seconds", parts, series)],
    )
