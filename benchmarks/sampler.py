"""The sampler against the library's own `generate`: the same model, prompts, settings and number of
tokens, in tokens a second.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from purified_opsd.policy.model import Policy
from purified_opsd.sampling.hf import HFSampler, pad_left
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.setup import setup_training

from .race import Lane, race
from .tables import bars, publish
from .world import World, run_of


@dataclass(frozen=True)
class Task:
    """Which work: a world, how tokens are drawn, and the share of the vocabulary that ends a
    completion.
    """

    world: World
    sampling: Sampling
    ending: float

    @property
    def device(self) -> str:
        return self.world.device


def _ready(task: Task) -> tuple[Policy, list[list[int]]]:
    job = setup_training(run_of(task.world))
    policy = job.policy
    ends = torch.randperm(task.world.vocabulary, generator=torch.Generator().manual_seed(1))
    policy.base.generation_config.eos_token_id = (
        ends[: max(1, int(task.ending * len(ends)))].tolist() if task.ending else [10**9]
    )
    examples = job.examples.batch(0, task.world.batch, 0)
    return policy, [job.prompts.contexts(example).base for example in examples]


def ours(task: Task) -> Callable[[], int]:
    """HFSampler, a seed a row."""
    policy, prompts = _ready(task)
    sampler = HFSampler(policy.model, task.sampling)
    return lambda: sum(len(c.ids) for c in sampler.generate(prompts, list(range(len(prompts)))))


def library(task: Task) -> Callable[[], int]:
    """`model.generate`, one seed for all rows."""
    policy, prompts = _ready(task)
    sampling, model = task.sampling, policy.model.eval()
    end = torch.tensor(policy.base.generation_config.eos_token_id, device=model.device)

    def run() -> int:
        torch.manual_seed(0)
        ids_BS, mask_BS = pad_left(prompts, model.device)
        options: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
        options |= {"do_sample": True, "max_new_tokens": sampling.max_new_tokens, "pad_token_id": 0}
        found_BS = model.generate(input_ids=ids_BS, attention_mask=mask_BS, **options)
        ended_BT = torch.isin(found_BS[:, ids_BS.shape[1] :], end)
        before_BT = ended_BT.long().cumsum(-1) - ended_BT.long()
        return int((before_BT == 0).sum())

    return run


def rows_of(title: str, lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    per_second = {
        name: [r / s for r, s in zip(lane.results, lane.seconds, strict=True)]
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
    T, rows = world.completion, world.batch
    paper, whole = Sampling(max_new_tokens=T, batch_size=rows), Sampling(1.0, 1.0, 0, T, rows)
    nucleus = Sampling(1.0, 0.95, 0, T, rows)
    tasks = {
        "top-k 20, top-p 0.95, none ends early": Task(world, paper, ending=0.0),
        "no top-k, no top-p, none ends early": Task(world, whole, ending=0.0),
        "no top-k, top-p 0.95, none ends early": Task(world, nucleus, ending=0.0),
        "no top-k, no top-p, rows end all along": Task(world, whole, ending=2 / T),
    }
    if words.quick:
        tasks = dict([*tasks.items()][:1] + [*tasks.items()][-1:])
    found = []
    for title, task in tasks.items():
        found += rows_of(
            title,
            race(
                {"model.generate": library, "ours": ours}, task, 1 if words.quick else words.rounds
            ),
        )
    name = (
        world.model
        or f"random Qwen3, D = {world.hidden}, {world.layers} layers, V = {world.vocabulary}"
    )
    publish("sampler", words.output, {f"{name}; {rows} rows, up to {T} tokens each": found}, device)
    drawn = [row | {"what": f"{row['contender']}: {row['work']}"} for row in found]
    bars(words.output / "sampler.png", drawn, "what", ["tokens/s"])


if __name__ == "__main__":
    main()
