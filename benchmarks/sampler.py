"""The sampler against the library's own `generate`, in tokens a second.

Both have the same model, prompts, settings and number of tokens.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from purified_opsd.policy.decoding import DecodingBatch
from purified_opsd.policy.model import Policy
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.setup import setup_training

from .race import Lane, race
from .tables import bars, publish
from .world import World, config_of, model_name, tiny_world


@dataclass(frozen=True)
class Task:
    """What is to be drawn."""

    world: World
    sampling: Sampling
    ending: float
    """Share of the vocabulary that ends a completion."""

    @property
    def device(self) -> str:
        return self.world.device


def _ready(task: Task) -> tuple[Policy, list[list[int]]]:
    setup = setup_training(config_of(task.world))
    shuffled = torch.randperm(task.world.vocabulary, generator=torch.Generator().manual_seed(1))
    ends = [10**9]  # no token
    if task.ending:
        ends = shuffled[: max(1, int(task.ending * len(shuffled)))].tolist()
    setup.policy.base.generation_config.eos_token_id = ends
    examples = setup.examples.batch(0, task.world.batch, 0)
    return setup.policy, [setup.prompts.contexts(example).base for example in examples]


def ours(task: Task) -> Callable[[], int]:
    """HFSampler, a seed a row."""
    policy, prompts = _ready(task)
    sampler = HFSampler(policy.model, task.sampling)

    def run() -> int:
        completions = sampler.generate(prompts, list(range(len(prompts))))
        return sum(len(completion.ids) for completion in completions)

    return run


def library(task: Task) -> Callable[[], int]:
    """`model.generate`, one seed for all rows."""
    policy, prompts = _ready(task)
    sampling, model = task.sampling, policy.model.eval()
    end = torch.tensor(policy.base.generation_config.eos_token_id, device=model.device)

    def run() -> int:
        torch.manual_seed(0)
        inputs = DecodingBatch(policy.base).prefill(prompts)
        output_BS = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=0,
        )
        ended_BT = torch.isin(output_BS[:, inputs["input_ids"].shape[1] :], end)
        before_BT = ended_BT.long().cumsum(-1) - ended_BT.long()
        return int((before_BT == 0).sum())

    return run


def rows_of(title: str, lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    per_second = {
        name: [tokens / seconds for tokens, seconds in zip(lane.results, lane.seconds, strict=True)]
        for name, lane in lanes.items()
    }
    pairs = zip(per_second["ours"], per_second["model.generate"], strict=True)
    ratio = median(mine / theirs for mine, theirs in pairs)
    return [
        {
            "work": title,
            "contender": name,
            "tokens": lanes[name].results[-1],
            "tokens/s": round(median(rates), 1),
            "ours to generate": round(ratio, 3) if name == "ours" else "",
            "peak MB": round(lanes[name].peak_bytes / 1e6, 1),
        }
        for name, rates in per_second.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampler", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--model", help="folder of a real model (default: a random one)")
    parser.add_argument("--completion", type=int, default=256, help="tokens a completion")
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
    T, batch = world.completion, world.batch
    paper = Sampling(max_new_tokens=T, batch_size=batch)
    whole = Sampling(1.0, 1.0, 0, T, batch)
    nucleus = Sampling(1.0, 0.95, 0, T, batch)
    tasks = {
        "top-k 20, top-p 0.95, none ends early": Task(world, paper, ending=0.0),
        "no top-k, no top-p, none ends early": Task(world, whole, ending=0.0),
        "no top-k, top-p 0.95, none ends early": Task(world, nucleus, ending=0.0),
        "no top-k, no top-p, rows end all along": Task(world, whole, ending=2 / T),
    }
    rounds = arguments.rounds
    if arguments.quick:
        del tasks["no top-k, no top-p, none ends early"]
        del tasks["no top-k, top-p 0.95, none ends early"]
        rounds = 1
    rows = []
    for title, task in tasks.items():
        lanes = race({"model.generate": library, "ours": ours}, task, rounds)
        rows += rows_of(title, lanes)
    title = f"{model_name(world)}; {batch} rows, up to {T} tokens each"
    publish("sampler", arguments.output, {title: rows}, device)
    bar_rows = [row | {"what": f"{row['contender']}: {row['work']}"} for row in rows]
    bars(arguments.output / "sampler.png", bar_rows, "what", ["tokens/s"])


if __name__ == "__main__":
    main()
