"""A whole training step: purified against standard OPSD, and what follows the rollouts against a
plain port of Section 3.2.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.policy.scoring import micro_batches
from purified_opsd.training.rollouts import Rollout
from purified_opsd.training.setup import TrainingSetup, setup_training
from purified_opsd.training.train import sample_rollouts, training_step, update

from .race import Lane, race
from .tables import bars, publish
from .world import World, run_of

PORT_SEQUENCES = 4
"""Sequences of the port's micro-batches: full logits of more would not fit."""


def purified(world: World) -> Callable[[], dict[str, float]]:
    """A step towards the PMI target."""
    return _step(world, PMITarget())


def standard(world: World) -> Callable[[], dict[str, float]]:
    """A step towards the teacher."""
    return _step(world, TeacherTarget())


def _step(world: World, target: PMITarget | TeacherTarget) -> Callable[[], dict[str, float]]:
    job = _job(world, target)

    def run() -> dict[str, float]:
        step = training_step(job, 0)
        return {
            "tokens": sum(len(trajectory.completion.ids) for trajectory in step.rollouts),
            **step.seconds,
        }

    return run


def _job(world: World, target: PMITarget | TeacherTarget) -> TrainingSetup:
    run = run_of(world, target)
    job = setup_training(
        replace(run, optimizer=replace(run.optimizer, learning_rate=1e-12))
    )  # every round the same completions
    job.policy.model.train()
    return job


def ours_after_rollouts(world: World) -> Callable[[], None]:
    """What `training_step` does once the completions are there."""
    job = _job(world, PMITarget())
    rollouts = sample_rollouts(job, 0)

    @dataclass(frozen=True)
    class Drawn:
        """Hands out the completions again."""

        def generate(self, *_: Any) -> list:
            return [rollout.completion for rollout in rollouts]

        def sync(self, step: int) -> None:
            pass

    replayed = replace(job, sampler=Drawn())

    def run() -> None:
        training_step(replayed, 0)

    return run


def port_after_rollouts(world: World) -> Callable[[], None]:
    """Steps 1 to 6 of Section 3.2, written down as they stand: four forward passes one after
    another, full logits, autograd.
    """
    job = _job(world, PMITarget())
    rollouts = sample_rollouts(job, 0)

    def run() -> None:
        for first in range(0, len(rollouts), PORT_SEQUENCES):
            group = rollouts[first : first + PORT_SEQUENCES]
            with torch.no_grad(), job.policy.model.disable_adapter():
                teacher = _log_probs(job, [r.prompts.teacher for r in group], group)
                reference = _log_probs(job, [r.prompts.reference for r in group], group)
                base = _log_probs(job, [r.prompts.base for r in group], group)
            student = _log_probs(job, [r.prompts.base for r in group], group)
            loss = sum(_jsd(*logs) for logs in zip(student, teacher, reference, base, strict=True))
            (loss / len(rollouts)).backward()
        update(job, 0)

    return run


def _log_probs(
    job: TrainingSetup, prompts: Sequence[Sequence[int]], group: Sequence[Rollout]
) -> list[Tensor]:
    """Of each completion, from the model's logits at every position of the padded batch."""
    sequences = [
        [*prompt, *rollout.completion.ids] for prompt, rollout in zip(prompts, group, strict=True)
    ]
    S = max(map(len, sequences))
    device = job.policy.model.device
    ids_BS = torch.tensor([[*s, *[0] * (S - len(s))] for s in sequences], device=device)
    mask_BS = torch.tensor([[1] * len(s) + [0] * (S - len(s)) for s in sequences], device=device)
    log_BSV = (
        job.policy.model(input_ids=ids_BS, attention_mask=mask_BS).logits.float().log_softmax(-1)
    )
    return [
        log[len(p) - 1 : len(s) - 1] for log, p, s in zip(log_BSV, prompts, sequences, strict=True)
    ]


def _jsd(student: Tensor, teacher: Tensor, reference: Tensor, base: Tensor) -> Tensor:
    delta = teacher - reference
    delta = 10.0 * torch.tanh((delta - delta.mean(-1, keepdim=True)) / 10.0)
    target = (base + delta).log_softmax(-1)
    mixture = torch.logaddexp(student, target) - torch.log(torch.tensor(2.0))
    per_token = 0.5 * (target.exp() * (target - mixture)).sum(-1) + 0.5 * (
        student.exp() * (student - mixture)
    ).sum(-1)
    return per_token.mean()


def padding(world: World) -> list[dict[str, Any]]:
    """Share of the computed tokens that are padding, in the frozen passes and the student's, at
    several token budgets.
    """
    job = _job(world, PMITarget())
    examples = job.examples.batch(0, world.batch, 0)
    prompts = [job.prompts.contexts(example) for example in examples]
    T = world.completion
    passes = {
        "student": [len(p.base) + T - 1 for p in prompts],
        "frozen": [len(c) + T - 1 for p in prompts for c in (p.teacher, p.reference, p.base)],
    }
    rows = []
    for budget in (4_096, 16_384, 65_536):
        for name, lengths in passes.items():
            groups = micro_batches(lengths, budget)
            computed = sum(len(group) * max(lengths[i] for i in group) for group in groups)
            whole = len(lengths) * max(lengths)
            rows.append(
                {
                    "pass": name,
                    "token budget": budget,
                    "sequences": len(lengths),
                    "tokens": f"{min(lengths)} to {max(lengths)}",
                    "micro-batches": len(groups),
                    "padding": f"{1 - sum(lengths) / computed:.1%}",
                    "as one batch": f"{1 - sum(lengths) / whole:.1%}",
                }
            )
    return rows


def parts(lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    """Median seconds of each part of a step, and of the whole against standard OPSD's."""
    rows = []
    for name, lane in lanes.items():
        seconds = {
            part: round(median(result[part] for result in lane.results), 3)
            for part in lane.results[0]
        }
        whole = {
            "whole step": round(median(lane.seconds), 3),
            "ratio": round(lane.ratio(lanes["standard"]), 3),
        }
        rows.append({"arm": name} | seconds | whole | {"peak MB": round(lane.peak_bytes / 1e6, 1)})
    return rows


def after(lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    return [
        {
            "contender": name,
            "seconds": round(median(lane.seconds), 3),
            "ratio": round(lane.ratio(lanes["ours"]), 2),
            "peak MB": round(lane.peak_bytes / 1e6, 1),
            "peak ratio": round(lane.peak_bytes / max(1, lanes["ours"].peak_bytes), 2),
        }
        for name, lane in lanes.items()
    ]


def described(world: World) -> str:
    if world.recipe:
        return f"the recipe {world.recipe}"
    model = (
        world.model
        or f"random Qwen3, D = {world.hidden}, {world.layers} layers, V = {world.vocabulary}"
    )
    problems = world.data or f"references around {world.reference} tokens"
    return f"{model}, {world.precision}; batch {world.batch}, completions of {world.completion}, {problems}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--model", help="folder of a real model (default: a random one)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the base (default: bfloat16 on a GPU, else float32)",
    )
    parser.add_argument("--data", help="a file of real problems (default: random text)")
    parser.add_argument(
        "--recipe",
        help="a recipe as it stands, such as miniature.pmi, instead of the run that the rest "
        "describes",
    )
    parser.add_argument("--completion", type=int, default=256, help="tokens a completion")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--reference", type=int, default=600, help="median tokens of a reference")
    parser.add_argument(
        "--arms-only",
        action="store_true",
        help="nothing but the first table: purified against standard OPSD",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = ("completion", "batch", "reference", "model", "dtype", "data", "recipe")
    world = World(device, **{name: getattr(words, name) for name in names})
    if words.quick:
        world = World(
            device,
            hidden=64,
            layers=2,
            vocabulary=512,
            question=20,
            reference=60,
            completion=8,
            batch=3,
        )
    rounds = 1 if words.quick else words.rounds
    arms = parts(race({"standard": standard, "purified": purified}, world, rounds))
    tables = {f"A whole step, seconds by part: {described(world)}": arms}
    if not words.arms_only:
        contenders = {"ours": ours_after_rollouts, "port of Section 3.2": port_after_rollouts}
        tables["After the rollouts"] = after(race(contenders, world, rounds))
    if not (words.arms_only or world.recipe or world.data):
        mix = replace(world, batch=32, completion=1024)
        tables["Padding, 32 questions of the same mix, completions of 1,024"] = padding(mix)
    publish("step", words.output, tables, device)
    bars(words.output / "step.png", arms, "arm", ["whole step"])


if __name__ == "__main__":
    main()
