"""The paper's quantities by checkpoint, one colour a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean

from .elements import Figure
from .figures import COLOURS, GREY, PALETTE, Curve, Panel
from .runs import Estimate, RunRecord

ByStep = Mapping[int, Estimate]
COSINE = (-1.05, 1.05)


def colours(runs: Sequence[RunRecord]) -> dict[str, str]:
    """By run: its arm's colour where every run is an arm of its own, else one after another."""
    arms = [run.arm for run in runs]
    if len(set(arms)) == len(arms):
        return {run.name: COLOURS[run.arm] for run in runs}
    return {run.name: PALETTE[index % len(PALETTE)] for index, run in enumerate(runs)}


def by_step(
    runs: Sequence[RunRecord], title: str, unit: str, values: Mapping[str, ByStep]
) -> Panel:
    """A curve a run, from its values by step."""
    ink = colours(runs)
    points = {
        name: [(step, estimate.mean, estimate.error) for step, estimate in sorted(by_step.items())]
        for name, by_step in values.items()
    }
    return Panel(title, unit, [Curve(run.name, ink[run.name], points[run.name]) for run in runs])


def from_zero(panels: Sequence[Panel]) -> list[Panel]:
    """The panels on one scale that begins at 0."""
    tops = [
        value + 1.96 * (error or 0.0)
        for panel in panels
        for curve in panel.curves
        for _, value, error in curve.points
    ]
    return [replace(panel, limits=(0.0, 1.08 * max(tops, default=0.0) or 1.0)) for panel in panels]


def accuracy(runs: Sequence[RunRecord]) -> Figure:
    """Figs. 1 and 4; of a sweep, Figs. 6 and 7."""
    benchmarks = benchmarks_of(runs)
    panels = [
        _accuracy_panel(runs, name, {run.name: run.accuracies(name) for run in runs})
        for name in benchmarks
    ]
    if len(benchmarks) > 1:
        means = {run.name: mean_accuracies(run, benchmarks) for run in runs}
        panels.append(_accuracy_panel(runs, f"mean of {len(benchmarks)}", means))
    caption = f"Step 0 is the base; the dashed line goes on from it.{_partial(runs)}"
    return Figure("accuracy", "Accuracy by checkpoint (Figs. 1, 4)", caption, panels)


def lengths(runs: Sequence[RunRecord]) -> Figure:
    """Tokens a completion, and the shares that were cut off or gave no answer."""
    panels = []
    for benchmark in benchmarks_of(runs):
        for name, title, unit, scale in (
            ("mean_tokens", "Tokens", "per completion", 1),
            ("truncation_rate", "Cut off at the limit", "% of completions", 100),
            ("no_box_rate", "No final answer", "% of completions", 100),
        ):
            values = {
                run.name: {
                    step: Estimate(scale * score[name], None)
                    for step, score in run.scores.get(benchmark, {}).items()
                }
                for run in runs
            }
            panels.append(by_step(runs, f"{title}, {benchmark}", unit, values))
    return Figure(
        "lengths",
        "Lengths and truncation by checkpoint",
        f"Of the completions of the evaluation.{_partial(runs)}",
        panels,
    )


def decomposition(runs: Sequence[RunRecord], view: str, title: str, caption: str) -> Figure:
    """Fig. 3 under one weighing of the vocabulary; `view` is what the numbers' names begin with."""
    directions = [
        _diagnosed(runs, f"{view}cos_{part}", f"Direction: cos(Δ_total, Δ_{part})", "cosine")
        for part in ("ref", "it")
    ]
    sizes = [
        _diagnosed(runs, f"{view}norm_fraction_{part}", f"Size: ‖Δ_{part}‖ / ‖Δ_total‖", "norms")
        for part in ("ref", "it")
    ]
    steps = [step for run in runs for step in run.diagnoses]
    whole = Curve(
        "‖Δ_total‖", GREY, [(0, 1.0, None), (max(steps), 1.0, None)] if steps else [], dashed=True
    )
    panels = [
        *(replace(panel, limits=COSINE) for panel in directions),
        *from_zero([replace(panel, curves=[whole, *panel.curves]) for panel in sizes]),
    ]
    return Figure(f"decomposition-{view}".rstrip("_-"), title, caption, panels)


def distances(runs: Sequence[RunRecord]) -> Figure:
    """KL divergences from the student, and how often the likeliest token is another."""
    panels = [
        _diagnosed(runs, f"kl_to_{other}", f"KL(student ‖ {other})", "nats a token")
        for other in ("base", "teacher", "target")
    ]
    panels += [
        _diagnosed(
            runs,
            f"{other}_disagrees",
            f"The {other}'s top token is not the base's",
            "share of tokens",
        )
        for other in ("teacher", "target")
    ]
    return Figure(
        "distances",
        "How far the student is from base, teacher and target",
        "Means over completions.",
        panels,
    )


def benchmarks_of(runs: Sequence[RunRecord]) -> list[str]:
    """Every benchmark that any of the runs was evaluated on."""
    return list(dict.fromkeys(benchmark for run in runs for benchmark in run.scores))


def mean_accuracies(run: RunRecord, benchmarks: Sequence[str]) -> dict[int, Estimate]:
    """The mean over benchmarks by step, where every one of them was evaluated."""
    if not benchmarks:
        return {}
    accuracies = [run.accuracies(benchmark) for benchmark in benchmarks]
    steps = [step for step in accuracies[0] if all(step in others for others in accuracies[1:])]
    return {step: _mean([by_step[step] for by_step in accuracies]) for step in steps}


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, with its error where every error is known."""
    errors = [estimate.error for estimate in estimates if estimate.error is not None]
    known = len(errors) == len(estimates)
    return Estimate(
        fmean(e.mean for e in estimates),
        sqrt(sum(e**2 for e in errors)) / len(estimates) if known else None,
    )


def _accuracy_panel(runs: Sequence[RunRecord], title: str, values: Mapping[str, ByStep]) -> Panel:
    """In percent, with a line from every base."""
    percent = {
        name: {step: estimate.times(100) for step, estimate in by_step.items()}
        for name, by_step in values.items()
    }
    last = max((step for by_step in percent.values() for step in by_step), default=0)
    bases = dict.fromkeys(by_step[0].mean for by_step in percent.values() if 0 in by_step)
    lines = [
        Curve("base", GREY, [(0, base, None), (last, base, None)], dashed=True)
        for base in bases
        if last
    ]
    return Panel(title, "accuracy, %", [*lines, *by_step(runs, title, "", percent).curves])


def _partial(runs: Sequence[RunRecord]) -> str:
    """Says which scores are of fewer completions than were asked for; empty where none is."""
    partial = [
        f"{run.name}, {f'step {step}' if step else 'base'} on {benchmark}"
        for run in runs
        for benchmark, scores in run.scores.items()
        for step, score in scores.items()
        if score["partial"]
    ]
    return f" PARTIAL: {'; '.join(partial)}." if partial else ""


def _diagnosed(runs: Sequence[RunRecord], number: str, title: str, unit: str) -> Panel:
    values = {
        run.name: {
            step: numbers[number] for step, numbers in run.diagnoses.items() if number in numbers
        }
        for run in runs
    }
    return by_step(runs, title, unit, values)
