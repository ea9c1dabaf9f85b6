"""Signs that a run has collapsed, read from its rows of metrics.jsonl.

A sign is said where it holds in STEPS steps, one after the other.  It never stops a run: what it
means depends on the data, and the run may come back.  docs/metrics.md has every threshold.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

STEPS = 2
"""Steps that a sign must hold, so that one odd batch is none."""
NEAR_MAXIMUM = 0.8
"""Share of the divergence's maximum that is near it."""
FAR_APART = 5.0
"""Nats a token from which student and target have nothing in common, where the divergence has no
maximum.
"""
RISEN = 10.0
"""How many times the first step's loss is one that has gone the wrong way, if it is large too."""
LARGE = 0.3
"""Share of the divergence's maximum that is large; without a maximum, 1 nat is."""
ONE_TOKEN = 0.9
"""Share of a completion's tokens that are one and the same."""
SURE = 0.1
"""Share of the first step's surprise that is left of a student that has become sure of all."""
CLIPPED = 1000.0
"""How many times longer than the clip a gradient is of which only the direction is left."""
NO_GRADIENT = 1e-10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CollapseLimits:
    """What the numbers of a run are held against."""

    max_divergence: float
    """Of one token, in nats; inf where there is none."""
    max_grad_norm: float
    batch_size: int


Sign = Callable[[Row, Row, CollapseLimits], str]
"""Returns, of the run's first row and another, what is wrong with the other; or nothing."""


def loss_at_maximum(first: Row, row: Row, limits: CollapseLimits) -> str:
    loss, maximum = row["loss"], limits.max_divergence
    if loss < min(NEAR_MAXIMUM * maximum, FAR_APART):
        return ""
    bound = f", of at most {maximum:.3f}" if maximum < FAR_APART else ""
    return (
        f"the loss is {loss:.3g} nats{bound}: student and target have next to nothing in common; "
        "look for a learning rate that is too high"
    )


def loss_risen(first: Row, row: Row, limits: CollapseLimits) -> str:
    loss, before = row["loss"], first["loss"]
    if loss < RISEN * before or loss < min(LARGE * limits.max_divergence, 1.0):
        return ""
    return (
        f"the loss is {loss:.3g} nats, and was {before:.3g} in the first step: the student moves "
        "away from its target; look for a learning rate that is too high"
    )


def sure_of_everything(first: Row, row: Row, limits: CollapseLimits) -> str:
    before, now = -first["log_prob_mean"], -row["log_prob_mean"]
    if now >= SURE * before:
        return ""
    return (
        f"the student's own tokens surprise it by {now:.3g} nats, and by {before:.3g} in the first "
        "step: its entropy has collapsed"
    )


def one_token(first: Row, row: Row, limits: CollapseLimits) -> str:
    share = row["top_token_share"]
    if share < ONE_TOKEN or row["completion_length"] < 8:
        return ""
    return f"{share:.0%} of a completion is one token over and over"


def all_the_same(first: Row, row: Row, limits: CollapseLimits) -> str:
    if limits.batch_size < 4 or row["different_completions"] > 1:
        return ""
    return f"all {limits.batch_size} completions of a step are the same, whatever the question"


def nothing_written(first: Row, row: Row, limits: CollapseLimits) -> str:
    if row["completion_length"] > 1 or row["eos_rate"] < 1:
        return ""
    return "every completion ends with its first token"


def never_ending(first: Row, row: Row, limits: CollapseLimits) -> str:
    if row["truncation_rate"] < 1 or first["truncation_rate"] > 0.5:
        return ""
    return (
        f"every completion is cut off, and {first['truncation_rate']:.0%} were in the first step: "
        "the student no longer comes to an end"
    )


def clipped_to_a_direction(first: Row, row: Row, limits: CollapseLimits) -> str:
    norm = row["grad_norm"]
    if norm < CLIPPED * limits.max_grad_norm:
        return ""
    return (
        f"the gradient's norm is {norm:.3g}, and clipped to {limits.max_grad_norm:g}: only its "
        "direction is left, at every step"
    )


def no_gradient(first: Row, row: Row, limits: CollapseLimits) -> str:
    if row["grad_norm"] > NO_GRADIENT:
        return ""
    why = ""
    if row["loss"] < NO_GRADIENT:
        why = ", since student and target are the same; look at whether the prompts hold references"
    return f"the gradient's norm is {row['grad_norm']:.3g}: nothing is learned{why}"


SIGNS: Sequence[Sign] = (
    loss_at_maximum,
    loss_risen,
    sure_of_everything,
    one_token,
    all_the_same,
    nothing_written,
    never_ending,
    clipped_to_a_direction,
    no_gradient,
)


class CollapseWatch:
    """Looks at a run's rows as they come, and says each sign when it is first seen."""

    def __init__(self, limits: CollapseLimits, rows: Sequence[Row]):
        self.limits = limits
        self.first = rows[0] if rows else None
        self.last = list(rows[1 - STEPS :])
        """The rows of the steps before, as many as a sign must hold beside the next."""
        self.said: set[str] = set()

    def signs(self, row: Row) -> dict[str, str]:
        """Returns, by name, what is wrong in this step and was in those before; says what is new.

        Called once a step, in order.
        """
        first = self.first = self.first or row
        window = [*self.last, row][-STEPS:]
        self.last = window[1 - STEPS :]
        found: dict[str, str] = {}
        if len(window) == STEPS:
            sentences = {s.__name__: [s(first, r, self.limits) for r in window] for s in SIGNS}
            found = {name: said[-1] for name, said in sentences.items() if all(said)}
        for name in found.keys() - self.said:
            logger.warning("A sign of collapse in step %d: %s.", row["step"], found[name])
        self.said |= found.keys()
        return found


@dataclass(frozen=True)
class SeenSign:
    """A sign over a whole run."""

    name: str
    sentence: str
    """As it was last said."""
    steps: Sequence[int]

    def text(self) -> str:
        first, last, count = self.steps[0], self.steps[-1], len(self.steps)
        when = f"step {first}" if count == 1 else f"{count} steps, {first} to {last}"
        return f"{self.sentence} ({when})"


def seen_signs(rows: Sequence[Row]) -> list[SeenSign]:
    """Returns the signs that a run's rows record, in the order in which they were first seen."""
    steps: dict[str, list[int]] = {}
    sentences: dict[str, str] = {}
    for row in rows:
        for name, sentence in row.get("collapse", {}).items():
            steps.setdefault(name, []).append(row["step"])
            sentences[name] = sentence
    return [SeenSign(name, sentences[name], seen) for name, seen in steps.items()]


def say_at_the_end(rows: Sequence[Row]) -> None:
    """Says once more, after the last step, what was seen on the way."""
    seen = seen_signs(rows)
    if seen:
        logger.warning(
            "This run shows signs of collapse, and its checkpoints may be worthless: %s. "
            "docs/metrics.md says what each means.",
            "; ".join(sign.text() for sign in seen),
        )
