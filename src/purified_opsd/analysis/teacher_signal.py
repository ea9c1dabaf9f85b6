"""What drives the teacher on the student's own completions?  Section 2.4 and Fig. 3, with what the
paper's numbers leave out.

Per token, averaged over each completion; means and intervals are over completions.  The paper's
numbers weigh every row of the vocabulary alike, so that tens of thousands of tokens nobody would
write decide them; the other two views weigh by the student's probability and look at its 64
likeliest tokens alone.  N completion tokens, V rows of the head, D hidden size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from purified_opsd.data.prompts import Contexts
from purified_opsd.data.seeds import seed_for
from purified_opsd.objective.decomposition import (
    Decomposition,
    alignment,
    decompose,
    likeliest,
    norm_fraction,
    probability_weighted,
)
from purified_opsd.objective.divergences import kl
from purified_opsd.objective.targets import PMITarget
from purified_opsd.policy.lm_head import GeneralHead
from purified_opsd.policy.model import Policy, frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden, micro_batches
from purified_opsd.sampling.sampler import Completion, Sampler

CHUNK_ELEMENTS = 2**24
"""Logits of one distribution that exist at once."""

VIEWS: Mapping[str, Callable[[Decomposition, Float[Tensor, "N V"]], Decomposition]] = {
    "weighted": probability_weighted,
    "top64": lambda parts, log_student: likeliest(parts, log_student, 64),
}
"""Beside the paper's, under which every row of the vocabulary counts alike."""


@dataclass(frozen=True)
class Probe:
    """What a diagnosis needs beside the policy."""

    sampler: Sampler
    target: PMITarget
    """Whose distance from base and student is told."""
    token_budget: int
    seed: int


@dataclass(frozen=True)
class Diagnosed:
    """One completion and its numbers, each a mean over its tokens."""

    completion: Completion
    numbers: dict[str, float]


def diagnose(policy: Policy, prompts: Sequence[Contexts], probe: Probe) -> list[Diagnosed]:
    """One completion a prompt from the student as it is, scored under the frozen base's contexts."""
    seeds = [seed_for(probe.seed, "diagnosis", place) for place in range(len(prompts))]
    return measure(
        policy,
        prompts,
        probe.sampler.generate([p.base for p in prompts], seeds),
        probe.target,
        probe.token_budget,
    )


def measure(
    policy: Policy,
    prompts: Sequence[Contexts],
    completions: Sequence[Completion],
    target: PMITarget,
    token_budget: int,
) -> list[Diagnosed]:
    """The numbers of completions that are there already, under the student as it is, without
    dropout.
    """
    training = policy.model.training
    policy.model.eval()
    lengths = [len(p.base) + len(c.ids) for p, c in zip(prompts, completions, strict=True)]
    head, done = GeneralHead(policy.base), {}
    for group in micro_batches(lengths, token_budget):
        ids = [completions[i].ids for i in group]
        hidden = hidden_states(policy, [prompts[i] for i in group], ids, token_budget)
        pieces = {name: states.split([len(c) for c in ids]) for name, states in hidden.items()}
        for row, place in enumerate(group):
            numbers = token_numbers(
                {name: states[row] for name, states in pieces.items()}, head, target
            )
            done[place] = Diagnosed(completions[place], _over_tokens(numbers))
    policy.model.train(training)
    return [done[place] for place in range(len(prompts))]


def token_numbers(
    hidden: Mapping[str, Float[Tensor, "N D"]], head: Callable[[Tensor], Tensor], target: PMITarget
) -> dict[str, Float[Tensor, " N"]]:
    """Every number of every token, from the hidden states of student, base, teacher and reference;
    in chunks of rows.
    """
    with torch.no_grad():
        V = head(hidden["student"][:1]).shape[-1]
        rows = max(1, CHUNK_ELEMENTS // V)
        chunks = [
            _chunk_numbers(
                {
                    name: head(states[first : first + rows]).log_softmax(-1)
                    for name, states in hidden.items()
                },
                target,
            )
            for first in range(0, len(hidden["student"]), rows)
        ]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def hidden_states(
    policy: Policy, prompts: Sequence[Contexts], ids: Sequence[Sequence[int]], budget: int
) -> dict[str, Tensor]:
    """The hidden states of the same completions under student, base, teacher and reference."""
    questions = [p.base for p in prompts]
    asked_for = {
        "base": questions,
        "teacher": [p.teacher for p in prompts],
        "reference": [p.reference for p in prompts],
    }
    with torch.no_grad():
        student_ND = completion_hidden(policy.model, questions, ids)
    with frozen(policy.model):
        return {"student": student_ND, **contexts_hidden(policy.model, asked_for, ids, budget)}


def _chunk_numbers(
    log: Mapping[str, Float[Tensor, "N V"]], target: PMITarget
) -> dict[str, Float[Tensor, " N"]]:
    log_target = target(log["teacher"], log["reference"], log["base"])
    parts = decompose(log["student"], log["teacher"], log["reference"])
    numbers = {
        "cos_ref": alignment(parts.reference, parts.total),
        "cos_it": alignment(parts.transferable, parts.total),
        "norm_fraction_ref": norm_fraction(parts.reference, parts.total),
        "norm_fraction_it": norm_fraction(parts.transferable, parts.total),
    }
    for name, view in VIEWS.items():
        seen = view(parts, log["student"])
        numbers |= {
            f"{name}_cos_ref": alignment(seen.reference, seen.total),
            f"{name}_cos_it": alignment(seen.transferable, seen.total),
            f"{name}_norm": seen.total.norm(dim=-1),
            f"{name}_norm_ref": seen.reference.norm(dim=-1),
            f"{name}_norm_it": seen.transferable.norm(dim=-1),
        }
    others = {"base": log["base"], "teacher": log["teacher"], "target": log_target}
    numbers |= {f"kl_to_{name}": kl(log["student"], other) for name, other in others.items()}
    base_choice = log["base"].argmax(-1)
    numbers |= {
        f"{name}_disagrees": (others[name].argmax(-1) != base_choice).float()
        for name in ("teacher", "target")
    }
    return numbers


def _over_tokens(numbers: Mapping[str, Float[Tensor, " N"]]) -> dict[str, float]:
    """Means over a completion's tokens; a view's norm fractions are ratios of sums, which no token
    with ‖Δ_total‖ near 0 rules.
    """
    means = {name: values.mean().item() for name, values in numbers.items() if "_norm" not in name}
    for name in VIEWS:
        total = numbers[f"{name}_norm"].sum()
        means |= {
            f"{name}_norm_fraction_{part}": (numbers[f"{name}_norm_{part}"].sum() / total).item()
            for part in ("ref", "it")
        }
    return means
