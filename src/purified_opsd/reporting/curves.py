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
    return {run.name: PALETTE[place % len(PALETTE)] for place, run in enumerate(runs)}


def by_step(
    runs: Sequence[RunRecord], title: str, unit: str, values: Mapping[str, ByStep]
) -> Panel:
    """A curve a run, from its values by step."""
    ink = colours(runs)
    points = {
        name: [(step, estimate.mean, estimate.error) for step, estimate in sorted(found.items())]
        for name, found in values.items()
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
    panels = [
        by_step(runs, f"{title}, {benchmark}", unit, {
            run.name: {step: Estimate(scale * score[name], None) for step, score in run.scores.get(benchmark, {}).items()}
            for run in runs
        })
        for benchmark in benchmarks_of(runs)
        for name, title, unit, scale in (
            ("mean_tokens", "Tokens", "per completion", 1),
            ("truncation_rate", "Cut off at the limit", "% of completions", 100),
            ("no_box_rate", "No final answer", "% of completions", 100),
        )
    ]  # fmt: skip
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
    return list(dict.fromkeys(benchmark for run in runs for benchmark in run.scores))


def mean_accuracies(run: RunRecord, benchmarks: Sequence[str]) -> dict[int, Estimate]:
    """By step: the mean over benchmarks, where every one of them was evaluated."""
    each = [run.accuracies(benchmark) for benchmark in benchmarks]
    steps = (
        [step for step in each[0] if all(step in accuracies for accuracies in each)] if each else []
    )
    return {step: mean_of([accuracies[step] for accuracies in each]) for step in steps}


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Of estimates that are independent."""
    errors = [estimate.error for estimate in estimates if estimate.error is not None]
    known = len(errors) == len(estimates)
    return Estimate(
        fmean(e.mean for e in estimates),
        sqrt(sum(e**2 for e in errors)) / len(estimates) if known else None,
    )


def _accuracy_panel(runs: Sequence[RunRecord], title: str, values: Mapping[str, ByStep]) -> Panel:
    """In percent, with a line from every base."""
    percent = {
        name: {step: estimate.times(100) for step, estimate in found.items()}
        for name, found in values.items()
    }
    last = max((step for found in percent.values() for step in found), default=0)
    bases = dict.fromkeys(found[0].mean for found in percent.values() if 0 in found)
    lines = [
        Curve("base", GREY, [(0, base, None), (last, base, None)], dashed=True)
        for base in bases
        if last
    ]
    return Panel(title, "accuracy, %", [*lines, *by_step(runs, title, "", percent).curves])


def _partial(runs: Sequence[RunRecord]) -> str:
    """Whose scores are of fewer completions than were asked for; empty where none is."""
    who = [
        f"{run.name}, {f'step {step}' if step else 'base'} on {benchmark}"
        for run in runs
        for benchmark, scores in run.scores.items()
        for step, score in scores.items()
        if score["partial"]
    ]
    return f" PARTIAL: {'; '.join(who)}." if who else ""


def _diagnosed(runs: Sequence[RunRecord], number: str, title: str, unit: str) -> Panel:
    values = {
        run.name: {step: found[number] for step, found in run.diagnoses.items() if number in found}
        for run in runs
    }
    return by_step(runs, title, unit, values)
