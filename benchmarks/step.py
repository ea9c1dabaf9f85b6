"""A whole training step, pmi against standard OPSD.

What follows the rollouts is also compared with a plain port of Section 3.2.
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
from .world import World, config_of, model_name, tiny_world

PORT_SEQUENCES = 4
"""Sequences of the port's micro-batches: full logits of more would not fit."""


def pmi(world: World) -> Callable[[], dict[str, float]]:
    """A step towards the PMI target."""
    return _step(world, PMITarget())


def standard(world: World) -> Callable[[], dict[str, float]]:
    """A step towards the teacher."""
    return _step(world, TeacherTarget())


def _step(world: World, target: PMITarget | TeacherTarget) -> Callable[[], dict[str, float]]:
    setup = _setup(world, target)

    def run() -> dict[str, float]:
        step = training_step(setup, 0)
        return {
            "tokens": sum(len(trajectory.completion.ids) for trajectory in step.rollouts),
            **step.seconds,
        }

    return run


def _setup(world: World, target: PMITarget | TeacherTarget) -> TrainingSetup:
    config = config_of(world, target)
    # Nothing is learned, so every round draws the same completions.
    optimizer = replace(config.optimizer, learning_rate=1e-12)
    setup = setup_training(replace(config, optimizer=optimizer))
    setup.policy.model.train()
    return setup


def ours_after_rollouts(world: World) -> Callable[[], None]:
    """What `training_step` does once the completions are there."""
    setup = _setup(world, PMITarget())
    rollouts = sample_rollouts(setup, 0)

    @dataclass(frozen=True)
    class Drawn:
        """Hands out the completions again."""

        def generate(self, *_: Any) -> list:
            return [rollout.completion for rollout in rollouts]

        def sync(self, step: int) -> None:
            pass

    replayed = replace(setup, sampler=Drawn())

    def run() -> None:
        training_step(replayed, 0)

    return run


def port_after_rollouts(world: World) -> Callable[[], None]:
    """Steps 1 to 6 of Section 3.2, written down as they stand.

    Four forward passes one after another, full logits, autograd.
    """
    setup = _setup(world, PMITarget())
    rollouts = sample_rollouts(setup, 0)

    def run() -> None:
        for first in range(0, len(rollouts), PORT_SEQUENCES):
            group = rollouts[first : first + PORT_SEQUENCES]
            with torch.no_grad(), setup.policy.model.disable_adapter():
                teacher = _log_probs(setup, [r.prompts.teacher for r in group], group)
                reference = _log_probs(setup, [r.prompts.reference for r in group], group)
                base = _log_probs(setup, [r.prompts.base for r in group], group)
            student = _log_probs(setup, [r.prompts.base for r in group], group)
            contexts = zip(student, teacher, reference, base, strict=True)
            losses = torch.stack([_jsd(*log_probs) for log_probs in contexts])
            (losses.sum() / len(rollouts)).backward()
        update(setup, 0)

    return run


def _log_probs(
    setup: TrainingSetup, prompts: Sequence[Sequence[int]], group: Sequence[Rollout]
) -> list[Tensor]:
    """Each completion's, from the model's logits at every position of the padded batch."""
    model = setup.policy.model
    pairs = zip(prompts, group, strict=True)
    sequences = [[*prompt, *rollout.completion.ids] for prompt, rollout in pairs]
    S = max(map(len, sequences))
    ids = [[*sequence, *[0] * (S - len(sequence))] for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (S - len(sequence)) for sequence in sequences]
    ids_BS = torch.tensor(ids, device=model.device)
    mask_BS = torch.tensor(mask, device=model.device)
    log_BSV = model(input_ids=ids_BS, attention_mask=mask_BS).logits.float().log_softmax(-1)
    return [
        log_SV[len(prompt) - 1 : len(sequence) - 1]
        for log_SV, prompt, sequence in zip(log_BSV, prompts, sequences, strict=True)
    ]


def _jsd(student: Tensor, teacher: Tensor, reference: Tensor, base: Tensor) -> Tensor:
    delta = teacher - reference
    delta = 10.0 * torch.tanh((delta - delta.mean(-1, keepdim=True)) / 10.0)
    target = (base + delta).log_softmax(-1)
    mixture = torch.logaddexp(student, target) - torch.log(torch.tensor(2.0))
    kl_target = (target.exp() * (target - mixture)).sum(-1)
    kl_student = (student.exp() * (student - mixture)).sum(-1)
    return (0.5 * kl_target + 0.5 * kl_student).mean()


def padding(world: World) -> list[dict[str, Any]]:
    """Share of the computed tokens that are padding, at several token budgets."""
    setup = _setup(world, PMITarget())
    examples = setup.examples.batch(0, world.batch, 0)
    scored = world.completion - 1
    passes: dict[str, list[int]] = {"student": [], "frozen": []}
    for contexts in map(setup.prompts.contexts, examples):
        passes["student"].append(len(contexts.base) + scored)
        for prompt in (contexts.teacher, contexts.reference, contexts.base):
            passes["frozen"].append(len(prompt) + scored)
    rows = []
    for budget in (4_096, 16_384, 65_536):
        for name, lengths in passes.items():
            groups = micro_batches(lengths, budget)
            widths = [max(lengths[index] for index in group) for group in groups]
            pairs = zip(groups, widths, strict=True)
            computed = sum(len(group) * width for group, width in pairs)
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
        row: dict[str, Any] = {"arm": name}
        for part in lane.results[0]:
            row[part] = round(median(result[part] for result in lane.results), 3)
        row["whole step"] = round(median(lane.seconds), 3)
        row["ratio"] = round(lane.ratio(lanes["standard"]), 3)
        row["peak MB"] = round(lane.peak_bytes / 1e6, 1)
        rows.append(row)
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
    problems = world.data or f"references around {world.reference} tokens"
    return (
        f"{model_name(world)}, {world.precision}; batch {world.batch}, completions of "
        f"{world.completion}, {problems}"
    )


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
        help="nothing but the first table: pmi against standard OPSD",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = ("completion", "batch", "reference", "model", "dtype", "data", "recipe")
    world = World(device, **{name: getattr(arguments, name) for name in names})
    if arguments.quick:
        world = tiny_world(device, reference=60)
    rounds = 1 if arguments.quick else arguments.rounds
    arms = parts(race({"standard": standard, "pmi": pmi}, world, rounds))
    tables = {f"A whole step, seconds by part: {described(world)}": arms}
    if not arguments.arms_only:
        contenders = {"ours": ours_after_rollouts, "port of Section 3.2": port_after_rollouts}
        tables["After the rollouts"] = after(race(contenders, world, rounds))
    if not (arguments.arms_only or world.recipe or world.data):
        mix = replace(world, batch=32, completion=1024)
        tables["Padding, 32 questions of the same mix, completions of 1,024"] = padding(mix)
    publish("step", arguments.output, tables, device)
    bars(arguments.output / "step.png", arms, "arm", ["whole step"])


if __name__ == "__main__":
    main()
