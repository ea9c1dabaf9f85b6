"""The frozen passes: micro-batches by length, one padded batch, and sequences packed into rows.

Packed rows have no padding. In them a sequence is told from its neighbour by its position ids
alone, which start anew; the attention kernel must then skip what lies between the two. Hidden
states at the completions' positions are compared with those of the micro-batches.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
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
from .world import World, config_of, tiny_world

ROW_TOKENS = 8192
"""Of one packed row, and of one micro-batch."""


PromptAndCompletion = tuple[list[int], list[int]]
"""A prompt and its completion."""


@dataclass(frozen=True)
class Work:
    """Prompts of the three contexts, each followed by the same made-up completion."""

    setup: TrainingSetup
    prompts: dict[str, list[list[int]]]
    completions: list[list[int]]

    @property
    def sequences(self) -> list[PromptAndCompletion]:
        sequences: list[PromptAndCompletion] = []
        for prompts in self.prompts.values():
            sequences += zip(prompts, self.completions, strict=True)
        return sequences


def work_of(world: World) -> Work:
    setup = setup_training(config_of(world))
    examples = setup.examples.batch(0, world.batch, 0)
    contexts = [setup.prompts.contexts(example) for example in examples]
    prompts = {
        "teacher": [prompt.teacher for prompt in contexts],
        "reference": [prompt.reference for prompt in contexts],
        "base": [prompt.base for prompt in contexts],
    }
    draw = torch.Generator().manual_seed(0)
    shortest, longest = world.completion // 4, world.completion
    lengths = torch.randint(shortest, longest + 1, (world.batch,), generator=draw).tolist()
    completions = [torch.randint(4, 200, (length,), generator=draw).tolist() for length in lengths]
    return Work(setup, prompts, completions)


def by_length(world: World) -> Callable[[], list[float]]:
    """As a run does it."""
    work = work_of(world)
    model = work.setup.policy.model

    def run() -> list[float]:
        with frozen(model):
            hidden = contexts_hidden(model, work.prompts, work.completions, ROW_TOKENS)
        return _sample(torch.cat(list(hidden.values())))

    return run


def masked(world: World) -> Callable[[], list[float]]:
    """The same micro-batches with a mask over the padding.

    The mask keeps attention from its causal kernel.
    """
    work = work_of(world)
    model = work.setup.policy.model
    lengths = [len(prompt) + len(completion) - 1 for prompt, completion in work.sequences]
    groups = micro_batches(lengths, ROW_TOKENS)

    def run() -> list[float]:
        hidden: dict[int, Tensor] = {}
        with frozen(model):
            for group in groups:
                hidden |= _masked_hidden(base_of(model), work.sequences, group)
        return _sample(_in_order(hidden))

    return run


def _masked_hidden(
    model: Any, sequences: list[PromptAndCompletion], group: list[int]
) -> dict[int, Tensor]:
    """The hidden states at the completion's positions of each sequence of a group, by its index."""
    inputs = [_input_ids(sequences[index]) for index in group]
    S = max(map(len, inputs))
    padded = [ids + [0] * (S - len(ids)) for ids in inputs]
    mask = [[1] * len(ids) + [0] * (S - len(ids)) for ids in inputs]
    output = model.get_decoder()(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        use_cache=False,
    )
    hidden = {}
    for index, ids, hidden_SD in zip(group, inputs, output.last_hidden_state, strict=True):
        prompt, _ = sequences[index]
        hidden[index] = hidden_SD[len(prompt) - 1 : len(ids)]
    return hidden


def _input_ids(sequence: PromptAndCompletion) -> list[int]:
    """All tokens but the last, after which nothing is predicted."""
    prompt, completion = sequence
    return [*prompt, *completion[:-1]]


def _in_order(hidden: dict[int, Tensor]) -> Tensor:
    return torch.cat([hidden[index] for index in sorted(hidden)])


def one_batch(world: World) -> Callable[[], list[float]]:
    """All sequences padded to the longest."""
    work = work_of(world)
    model = work.setup.policy.model
    prompts, completions = map(list, zip(*work.sequences, strict=True))

    def run() -> list[float]:
        with frozen(model):
            return _sample(completion_hidden(model, prompts, completions))

    return run


def packed_dense(world: World) -> Callable[[], list[float]]:
    """Packed rows under PyTorch's scaled dot product, whose mask is a dense square."""
    return _packed(world, "sdpa")


def packed_flex(world: World) -> Callable[[], list[float]]:
    """Packed rows under flex attention, which skips the blocks between two sequences."""
    return _packed(world, "flex_attention")


def _packed(world: World, attention: str) -> Callable[[], list[float]]:
    work = work_of(world)
    model = base_of(work.setup.policy.model)
    model.set_attn_implementation(attention)
    rows = _rows(work.sequences)

    def run() -> list[float]:
        hidden: dict[int, Tensor] = {}
        with frozen(work.setup.policy.model):
            for row in rows:
                hidden |= _row_hidden(model, work.sequences, row)
        return _sample(_in_order(hidden))

    return run


def _rows(sequences: list[PromptAndCompletion]) -> list[list[int]]:
    """Indices of the sequences, in order, cut where a row is full."""
    rows: list[list[int]] = []
    room = 0
    for index, sequence in enumerate(sequences):
        length = len(_input_ids(sequence))
        if length > room:
            rows.append([])
            room = ROW_TOKENS
        rows[-1].append(index)
        room -= length
    return rows


def _row_hidden(
    model: Any, sequences: list[PromptAndCompletion], row: list[int]
) -> dict[int, Tensor]:
    """As `_masked_hidden`, for the sequences of a packed row."""
    inputs = [_input_ids(sequences[index]) for index in row]
    lengths = [len(ids) for ids in inputs]
    packed = list(chain(*inputs))
    positions = list(chain(*map(range, lengths)))
    output = model.get_decoder()(
        input_ids=torch.tensor([packed], device=model.device),
        position_ids=torch.tensor([positions], device=model.device),
        use_cache=False,
    )
    pieces = output.last_hidden_state[0].split(lengths)
    hidden = {}
    for index, hidden_SD in zip(row, pieces, strict=True):
        prompt, _ = sequences[index]
        hidden[index] = hidden_SD[len(prompt) - 1 :]
    return hidden


def _sample(hidden_ND: Tensor) -> list[float]:
    """Enough of the result to compare."""
    return hidden_ND[:: max(1, len(hidden_ND) // 64), :16].float().flatten().tolist()


def rows_of(lanes: dict[str, Lane]) -> list[dict[str, Any]]:
    ours = lanes["by length (ours)"]
    rows = []
    for name, lane in lanes.items():
        pairs = zip(lane.results[-1], ours.results[-1], strict=True)
        difference = max(abs(mine - theirs) for mine, theirs in pairs)
        rows.append(
            {
                "contender": name,
                "seconds": round(median(lane.seconds), 3),
                "ratio to ours": round(lane.ratio(ours), 2),
                "largest difference": f"{difference:.1e}",
                "peak MB": round(lane.peak_bytes / 1e6, 1),
            }
        )
    return rows


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
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World(device, completion=arguments.completion, batch=arguments.batch)
    contenders = dict(CONTENDERS)
    rounds = arguments.rounds
    if arguments.quick:
        world = tiny_world(device, reference=60)
        del contenders["packed, flex attention"]  # it compiles for minutes
        rounds = 1
    rows = rows_of(race(contenders, world, rounds))
    title = (
        f"The three frozen passes: D = {world.hidden}, {world.layers} layers; batch {world.batch}, "
        f"completions of up to {world.completion}, references around {world.reference} tokens"
    )
    publish("packing", arguments.output, {title: rows}, device)
    bars(arguments.output / "packing.png", rows, "contender", ["seconds", "peak MB"])


if __name__ == "__main__":
    main()
