"""What drives the teacher on the student's own completions?  Section 2.4 and Fig. 3.

Every number is a mean over a completion's tokens.  The paper's cosines and norms weigh every row of
the vocabulary alike, so that tens of thousands of tokens nobody would write decide them; two more
views weigh by the student's probability and look at its 64 likeliest tokens alone.  KL divergences
and disagreements of the likeliest token stand beside them.

N completion tokens, V rows of the head, D hidden size.
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
from purified_opsd.objective.targets import LogProbs, PMITarget
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.policy.model import Policy, frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden, micro_batches
from purified_opsd.sampling.sampler import Completion, Sampler

CHUNK_ELEMENTS = 2**24
"""Logits of one distribution that exist at once."""

VIEWS: Mapping[str, Callable[[Decomposition, LogProbs], Decomposition]] = {
    "weighted": probability_weighted,
    "top64": lambda parts, log_student: likeliest(parts, log_student, 64),
}
"""The views beside the paper's, under which every row of the vocabulary counts alike."""


@dataclass(frozen=True)
class Probe:
    """What a diagnosis needs beside the policy and its prompts."""

    sampler: Sampler
    target: PMITarget
    """The purified target whose distance from base and student is measured."""
    token_budget: int
    """Tokens of one forward pass."""
    seed: int


@dataclass(frozen=True)
class Diagnosed:
    """One completion and its numbers, each a mean over its tokens."""

    completion: Completion
    numbers: dict[str, float]


def diagnose(policy: Policy, prompts: Sequence[Contexts], probe: Probe) -> list[Diagnosed]:
    """Draws one completion a prompt from the student as it is, and measures the teacher on it."""
    questions = [prompt.base for prompt in prompts]
    seeds = [seed_for(probe.seed, "diagnosis", index) for index in range(len(prompts))]
    completions = probe.sampler.generate(questions, seeds)
    return measure(policy, prompts, completions, probe.target, probe.token_budget)


def measure(
    policy: Policy,
    prompts: Sequence[Contexts],
    completions: Sequence[Completion],
    target: PMITarget,
    token_budget: int,
) -> list[Diagnosed]:
    """Measures the teacher on given completions, under the student as it is, without dropout."""
    training = policy.model.training
    policy.model.eval()
    pairs = zip(prompts, completions, strict=True)
    lengths = [len(prompt.base) + len(completion.ids) for prompt, completion in pairs]
    head = ModelHead(policy.base)
    by_index: dict[int, Diagnosed] = {}
    for indices in micro_batches(lengths, token_budget):
        batch_prompts = [prompts[i] for i in indices]
        ids = [completions[i].ids for i in indices]
        hidden_ND = hidden_states(policy, batch_prompts, ids, token_budget)
        token_counts = [len(completion_ids) for completion_ids in ids]
        of_each = _split(hidden_ND, token_counts)
        for index, completion_ND in zip(indices, of_each, strict=True):
            numbers = token_numbers(completion_ND, head, target)
            means = _over_tokens(numbers)
            by_index[index] = Diagnosed(completions[index], means)
    policy.model.train(training)
    return [by_index[index] for index in range(len(prompts))]


def _split(hidden_ND: Mapping[str, Tensor], lengths: Sequence[int]) -> list[dict[str, Tensor]]:
    """The hidden states of completions laid end to end, completion by completion."""
    of_each: list[dict[str, Tensor]] = [{} for _ in lengths]
    for name, states_ND in hidden_ND.items():
        pieces = states_ND.split(list(lengths))
        for completion, piece in zip(of_each, pieces, strict=True):
            completion[name] = piece
    return of_each


def token_numbers(
    hidden: Mapping[str, Float[Tensor, "N D"]], head: Callable[[Tensor], Tensor], target: PMITarget
) -> dict[str, Float[Tensor, " N"]]:
    """Every number of every token, from the hidden states of student, base, teacher and reference.

    The logits of `CHUNK_ELEMENTS` entries of one distribution exist at once.
    """
    chunks = []
    with torch.no_grad():
        V = head(hidden["student"][:1]).shape[-1]
        rows = max(1, CHUNK_ELEMENTS // V)
        for first in range(0, len(hidden["student"]), rows):
            log_CV = {}
            for name, states in hidden.items():
                logits_CV = head(states[first : first + rows])
                log_CV[name] = logits_CV.log_softmax(-1)
            numbers = _chunk_numbers(log_CV, target)
            chunks.append(numbers)
    joined = {}
    for name in chunks[0]:
        pieces = [chunk[name] for chunk in chunks]
        joined[name] = torch.cat(pieces)
    return joined


def hidden_states(
    policy: Policy, prompts: Sequence[Contexts], ids: Sequence[Sequence[int]], budget: int
) -> dict[str, Tensor]:
    """The hidden states of the same completions under student, base, teacher and reference."""
    questions = [p.base for p in prompts]
    contexts = {
        "base": questions,
        "teacher": [p.teacher for p in prompts],
        "reference": [p.reference for p in prompts],
    }
    with torch.no_grad():
        student_ND = completion_hidden(policy.model, questions, ids)
    with frozen(policy.model):
        others_ND = contexts_hidden(policy.model, contexts, ids, budget)
    return {"student": student_ND, **others_ND}


def _chunk_numbers(
    log: Mapping[str, LogProbs], target: PMITarget
) -> dict[str, Float[Tensor, " N"]]:
    parts = decompose(log["student"], log["teacher"], log["reference"])
    numbers = {
        "cos_ref": alignment(parts.reference, parts.total),
        "cos_it": alignment(parts.transferable, parts.total),
        "norm_fraction_ref": norm_fraction(parts.reference, parts.total),
        "norm_fraction_it": norm_fraction(parts.transferable, parts.total),
    }
    for name, view in VIEWS.items():
        seen = view(parts, log["student"])
        numbers |= _view_numbers(name, seen)
    return numbers | _distances(log, target)


def _view_numbers(name: str, seen: Decomposition) -> dict[str, Float[Tensor, " N"]]:
    """The numbers of one view."""
    return {
        f"{name}_cos_ref": alignment(seen.reference, seen.total),
        f"{name}_cos_it": alignment(seen.transferable, seen.total),
        f"{name}_norm": seen.total.norm(dim=-1),
        f"{name}_norm_ref": seen.reference.norm(dim=-1),
        f"{name}_norm_it": seen.transferable.norm(dim=-1),
    }


def _distances(log: Mapping[str, LogProbs], target: PMITarget) -> dict[str, Float[Tensor, " N"]]:
    """The student's divergences, and where the likeliest token is not the base's."""
    others = {
        "base": log["base"],
        "teacher": log["teacher"],
        "target": target(log["teacher"], log["reference"], log["base"]),
    }
    numbers = {}
    for name, other in others.items():
        numbers[f"kl_to_{name}"] = kl(log["student"], other)
    base_choice = log["base"].argmax(-1)
    for name in ("teacher", "target"):
        choice = others[name].argmax(-1)
        disagrees = choice != base_choice
        numbers[f"{name}_disagrees"] = disagrees.float()
    return numbers


def _over_tokens(numbers: Mapping[str, Float[Tensor, " N"]]) -> dict[str, float]:
    """The means over a completion's tokens.

    A view's norm fractions are ratios of sums, so that no token with ‖Δ_total‖ near 0 rules them.
    """
    means = {}
    for name, values in numbers.items():
        if "_norm" not in name:
            means[name] = values.mean().item()
    for name in VIEWS:
        total = numbers[f"{name}_norm"].sum()
        for part in ("ref", "it"):
            norm = numbers[f"{name}_norm_{part}"].sum()
            fraction = norm / total
            means[f"{name}_norm_fraction_{part}"] = fraction.item()
    return means
