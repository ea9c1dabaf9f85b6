"""The frozen passes: micro-batches by length against one padded batch and against sequences packed
into rows without padding.

Packed, a sequence is told from its neighbour by its position ids alone, which start anew; the
attention kernel must then skip what lies between the two. Hidden states at the completions'
positions are compared with those of the micro-batches.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from purified_opsd.policy.model import base_of, frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden, micro_batches
from purified_opsd.training.setup import TrainingSetup, setup_training

from .race import Lane, race
from .tables import bars, publish
from .world import World, run_of

ROW_TOKENS = 8192
"""Of one packed row, and of one micro-batch."""


@dataclass(frozen=True)
class Work:
    """Prompts of the three contexts, each followed by the same made-up completion."""

    job: TrainingSetup
    prompts: dict[str, list[list[int]]]
    completions: list[list[int]]

    @property
    def sequences(self) -> list[tuple[list[int], list[int]]]:
        return [
            (prompt, completion)
            for prompts in self.prompts.values()
            for prompt, completion in zip(prompts, self.completions, strict=True)
        ]


def work_of(world: World) -> Work:
    job = setup_training(run_of(world))
    contexts = [job.prompts.contexts(example) for example in job.examples.batch(0, world.batch, 0)]
    prompts = {
        "teacher": [c.teacher for c in contexts],
        "reference": [c.reference for c in contexts],
    }
    prompts["base"] = [c.base for c in contexts]
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(
        world.completion // 4, world.completion + 1, (world.batch,), generator=draw
    ).tolist()
    completions = [torch.randint(4, 200, (length,), generator=draw).tolist() for length in lengths]
    return Work(job, prompts, completions)


def by_length(world: World) -> Callable[[], list[float]]:
    """As a run does it."""
    work = work_of(world)

    def run() -> list[float]:
        with frozen(work.job.policy.model):
            found = contexts_hidden(
                work.job.policy.model, work.prompts, work.completions, ROW_TOKENS
            )
        return _sample(torch.cat(list(found.values())))

    return run


def masked(world: World) -> Callable[[], list[float]]:
    """The same micro-batches with a mask over the padding, which keeps attention from its causal
    kernel.
    """
    work = work_of(world)
    groups = micro_batches(
        [len(prompt) + len(completion) - 1 for prompt, completion in work.sequences], ROW_TOKENS
    )

    def run() -> list[float]:
        with frozen(work.job.policy.model):
            model = base_of(work.job.policy.model)
            found = dict(
                hidden
                for group in groups
                for hidden in _masked_hidden(model, work.sequences, group)
            )
        return _sample(torch.cat([found[i] for i in sorted(found)]))

    return run


def _masked_hidden(
    model: Any, sequences: list[tuple[list[int], list[int]]], group: list[int]
) -> list[tuple[int, Tensor]]:
    texts = [[*sequences[place][0], *sequences[place][1][:-1]] for place in group]
    S = max(map(len, texts))
    ids_BS = torch.tensor([text + [0] * (S - len(text)) for text in texts], device=model.device)
    mask_BS = torch.tensor(
        [[1] * len(text) + [0] * (S - len(text)) for text in texts], device=model.device
    )
    hidden_BSD = model.get_decoder()(
        input_ids=ids_BS, attention_mask=mask_BS, use_cache=False
    ).last_hidden_state
    of_group = zip(group, hidden_BSD, texts, strict=True)
    return [
        (place, hidden[len(sequences[place][0]) - 1 : len(text)])
        for place, hidden, text in of_group
    ]


def one_batch(world: World) -> Callable[[], list[float]]:
    """All sequences padded to the longest."""
    work = work_of(world)
    prompts, completions = map(list, zip(*work.sequences, strict=True))

    def run() -> list[float]:
        with frozen(work.job.policy.model):
            return _sample(completion_hidden(work.job.policy.model, prompts, completions))

    return run


def packed_dense(world: World) -> Callable[[], list[float]]:
    """Packed rows under PyTorch's scaled dot product, whose mask is a dense square."""
    return _packed(world, "sdpa")


def packed_flex(world: World) -> Callable[[], list[float]]:
    """Packed rows under flex attention, which skips the blocks between two sequences."""
    return _packed(world, "flex_attention")


def _packed(world: World, attention: str) -> Callable[[], list[float]]:
    work = work_of(world)
    model = base_of(work.job.policy.model)
    model.set_attn_implementation(attention)
    rows = _rows(work.sequences)

    def run() -> list[float]:
        with frozen(work.job.policy.model):
            found = dict(
                hidden for row in rows for hidden in _row_hidden(model, work.sequences, row)
            )
        return _sample(torch.cat([found[i] for i in sorted(found)]))

    return run


def _rows(sequences: list[tuple[list[int], list[int]]]) -> list[list[int]]:
    """Places of the sequences, in order, cut where a row is full."""
    rows: list[list[int]] = []
    room = 0
    for place, (prompt, completion) in enumerate(sequences):
        length = len(prompt) + len(completion) - 1
        if length > room:
            rows.append([])
            room = ROW_TOKENS
        rows[-1].append(place)
        room -= length
    return rows


def _row_hidden(
    model: Any, sequences: list[tuple[list[int], list[int]]], row: list[int]
) -> list[tuple[int, Tensor]]:
    texts = [[*sequences[place][0], *sequences[place][1][:-1]] for place in row]
    ids_1S = torch.tensor([[token for text in texts for token in text]], device=model.device)
    position_1S = torch.tensor(
        [[p for text in texts for p in range(len(text))]], device=model.device
    )
    hidden_SD = model.get_decoder()(
        input_ids=ids_1S, position_ids=position_1S, use_cache=False
    ).last_hidden_state[0]
    pieces = hidden_SD.split([len(text) for text in texts])
    return [
        (place, piece[len(sequences[place][0]) - 1 :])
        for place, piece in zip(row, pieces, strict=True)
    ]


def _sample(hidden_ND: Tensor) -> list[float]:
    """Enough of the result to compare."""
    return hidden_ND[:: max(1, len(hidden_ND) // 64), :16].float().flatten().tolist()


def rows_of(lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    ours = lanes["by length (ours)"]
    return [
        {
            "contender": name,
            "seconds": round(median(lane.seconds), 3),
            "ratio to ours": round(lane.ratio(ours), 2),
            "largest difference": f"{max(abs(a - b) for a, b in zip(lane.results[-1], ours.results[-1], strict=True)):.1e}",
            "peak MB": round(lane.peak_bytes / 1e6, 1),
        }
        for name, lane in lanes.items()
    ]


CONTENDERS = {
    "by length (ours)": by_length,
    "by length, with a mask": masked,
    "one padded batch": one_batch,
    "packed, dense mask": packed_dense,
    "packed, flex attention": packed_flex,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--completion", type=int, default=256, help="most tokens of a completion")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World(device, completion=words.completion, batch=words.batch)
    contenders = CONTENDERS
    if words.quick:
        world = replace(
            world,
            hidden=64,
            layers=2,
            vocabulary=512,
            question=20,
            reference=60,
            completion=8,
            batch=3,
        )
        contenders = {
            name: build for name, build in CONTENDERS.items() if build is not packed_flex
        }  # it compiles for minutes
    found = rows_of(race(contenders, world, 1 if words.quick else words.rounds))
    shape = f"batch {world.batch}, completions of up to {world.completion}, references around {world.reference} tokens"
    publish(
        "packing",
        words.output,
        {f"The three frozen passes: D = {world.hidden}, {world.layers} layers; {shape}": found},
        device,
    )
    bars(words.output / "packing.png", found, "contender", ["seconds", "peak MB"])


if __name__ == "__main__":
    main()
