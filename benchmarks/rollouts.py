"""Rollouts by vLLM in process against those of transformers.

Compared are tokens a second, and how far log-probs are from the trainer's.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from purified_opsd.policy.model import Policy
from purified_opsd.policy.scoring import completion_hidden
from purified_opsd.sampling.engines import HF, VLLM, Engine
from purified_opsd.sampling.sampler import Completion
from purified_opsd.training.setup import TrainingSetup, setup_training

from .race import race
from .tables import publish
from .world import World, config_of, model_name, tiny_world


def _ready(world: World, engine: Engine) -> tuple[TrainingSetup, list[list[int]]]:
    """A run with an adapter that changes the logits, and the prompts of its first batch."""
    setup = setup_training(replace(config_of(world), sampler=engine))
    torch.manual_seed(0)
    for name, parameter in setup.policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.01)
    setup.sampler.sync(1)
    examples = setup.examples.batch(0, world.batch, 0)
    return setup, [setup.prompts.contexts(example).base for example in examples]


def _drawing(world: World, engine: Engine) -> Callable[[], list[Completion]]:
    setup, prompts = _ready(world, engine)
    return lambda: setup.sampler.generate(prompts, list(range(len(prompts))))


def transformers(world: World) -> Callable[[], list[Completion]]:
    return _drawing(world, HF())


def vllm(world: World) -> Callable[[], list[Completion]]:
    return _drawing(world, VLLM(memory_fraction=0.2))


def mismatches(
    policy: Policy, prompts: list[list[int]], completions: list[Completion]
) -> list[float]:
    """How far log π_θ of each token is, sampler against trainer, smallest first."""
    distances: list[float] = []
    weight_VD = policy.base.get_output_embeddings().weight.float()
    with torch.no_grad():
        for prompt, completion in zip(prompts, completions, strict=True):
            hidden_ND = completion_hidden(policy.model, [prompt], [completion.ids]).float()
            log_prob_NV = (hidden_ND @ weight_VD.T).log_softmax(-1)
            ids_N = torch.tensor(completion.ids, device=hidden_ND.device)
            log_prob_N = log_prob_NV.gather(-1, ids_N[:, None])[:, 0].cpu()
            distances += (log_prob_N - torch.tensor(completion.log_probs)).abs().tolist()
    return sorted(distances)


def rows_of(world: World, rounds: int) -> list[dict[str, Any]]:
    lanes = race({"transformers": transformers, "vLLM": vllm}, world, rounds)
    setup, prompts = _ready(world, HF())
    rows = []
    for name, lane in lanes.items():
        tokens = sum(len(completion.ids) for completion in lane.results[-1])
        distances = mismatches(setup.policy, prompts, lane.results[-1])
        ratio: float | str = ""
        if "transformers" in lanes:
            ratio = round(lane.ratio(lanes["transformers"]), 2)
        rows.append(
            {
                "dtype": world.precision,
                "sampler": name,
                "tokens": tokens,
                "tokens/s": round(tokens / median(lane.seconds), 1),
                "seconds, to transformers'": ratio,
                "mismatch, mean": f"{fmean(distances):.1e}",
                "mismatch, 99th percentile": f"{distances[int(0.99 * (len(distances) - 1))]:.1e}",
                "above 0.1": f"{fmean(distance > 0.1 for distance in distances):.2%}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--model", help="folder of a real model (default: a random one)")
    parser.add_argument("--completion", type=int, default=128, help="tokens a completion")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World(
        device, completion=arguments.completion, batch=arguments.batch, model=arguments.model
    )
    if arguments.quick:
        world = tiny_world(device)
    worlds = [replace(world, dtype=dtype) for dtype in ("float32", "bfloat16")]
    rounds = 1 if arguments.quick else arguments.rounds
    rows = []
    for world_of_dtype in worlds:
        rows += rows_of(world_of_dtype, rounds)
    title = f"{model_name(world)}; {world.batch} rows, up to {world.completion} tokens each"
    publish("rollouts", arguments.output, {title: rows}, device)


if __name__ == "__main__":
    main()
