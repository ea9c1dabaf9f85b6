"""Rollouts by vLLM in process against those of transformers: tokens a second, and how far log-probs
are from the trainer's.
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
from purified_opsd.sampling.hf import HF
from purified_opsd.sampling.sampler import Completion, Engine
from purified_opsd.sampling.vllm_engine import VLLM
from purified_opsd.training.setup import TrainingSetup, setup_training

from .race import race
from .tables import publish
from .world import World, run_of


def _ready(world: World, engine: Engine) -> tuple[TrainingSetup, list[list[int]]]:
    """A run with an adapter that changes the logits, and the prompts of its first batch."""
    job = setup_training(replace(run_of(world), sampler=engine))
    torch.manual_seed(0)
    for name, parameter in job.policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.01)
    job.sampler.sync(1)
    return job, [
        job.prompts.contexts(example).base for example in job.examples.batch(0, world.batch, 0)
    ]


def _drawing(world: World, engine: Engine) -> Callable[[], list[Completion]]:
    job, prompts = _ready(world, engine)
    return lambda: job.sampler.generate(prompts, list(range(len(prompts))))


def transformers(world: World) -> Callable[[], list[Completion]]:
    return _drawing(world, HF())


def vllm(world: World) -> Callable[[], list[Completion]]:
    return _drawing(world, VLLM(memory_fraction=0.2))


def gaps(policy: Policy, prompts: list[list[int]], completions: list[Completion]) -> list[float]:
    """|log π_θ| of each token, sampler against trainer, smallest first."""
    found: list[float] = []
    weight_VD = policy.base.get_output_embeddings().weight.float()
    with torch.no_grad():
        for prompt, completion in zip(prompts, completions, strict=True):
            hidden_ND = completion_hidden(policy.model, [prompt], [completion.ids]).float()
            log_prob_NV = (hidden_ND @ weight_VD.T).log_softmax(-1)
            log_prob_N = log_prob_NV.gather(
                -1, torch.tensor(completion.ids, device=hidden_ND.device)[:, None]
            )[:, 0].cpu()
            found += (log_prob_N - torch.tensor(completion.log_probs)).abs().tolist()
    return sorted(found)


def rows_of(world: World, rounds: int) -> list[dict[str, Any]]:
    lanes = race({"transformers": transformers, "vLLM": vllm}, world, rounds)
    job, prompts = _ready(world, HF())
    rows = []
    for name, lane in lanes.items():
        tokens = sum(len(completion.ids) for completion in lane.results[-1])
        off = gaps(job.policy, prompts, lane.results[-1])
        rows.append(
            {
                "dtype": world.precision,
                "sampler": name,
                "tokens": tokens,
                "tokens/s": round(tokens / median(lane.seconds), 1),
                "seconds, to transformers'": round(lane.ratio(lanes["transformers"]), 2)
                if "transformers" in lanes
                else "",
                "gap, mean": f"{fmean(off):.1e}",
                "gap, 99th percentile": f"{off[int(0.99 * (len(off) - 1))]:.1e}",
                "above 0.1": f"{fmean(gap > 0.1 for gap in off):.2%}",
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
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World(device, completion=words.completion, batch=words.batch, model=words.model)
    if words.quick:
        world = World(
            device,
            hidden=64,
            layers=2,
            vocabulary=512,
            question=20,
            reference=20,
            completion=8,
            batch=3,
        )
    worlds = [replace(world, dtype=dtype) for dtype in ("float32", "bfloat16")]
    found = [row for world in worlds for row in rows_of(world, 1 if words.quick else words.rounds)]
    name = (
        world.model
        or f"random Qwen3, D = {world.hidden}, {world.layers} layers, V = {world.vocabulary}"
    )
    publish(
        "rollouts",
        words.output,
        {f"{name}; {world.batch} rows, up to {world.completion} tokens each": found},
        device,
    )


if __name__ == "__main__":
    main()
