"""A training run of any size without a download.

It has a random Qwen3 with a byte tokenizer, and problems of a realistic length mix.
"""

import atexit
import json
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.recipes import find_recipe
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.config import TrainingConfig

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]


@dataclass(frozen=True)
class World:
    """The sizes of a run.  Lengths are in tokens; problems' are log-normal around them."""

    device: str
    hidden: int = 384
    layers: int = 6
    vocabulary: int = 32_768
    question: int = 150
    reference: int = 600
    completion: int = 256
    batch: int = 8
    dtype: Literal["bfloat16", "float32"] | None = None
    """The base's; null: bfloat16 on a GPU, float32 elsewhere."""
    model: str | None = None
    """A folder with a real model; null: a random one of the sizes above."""
    data: str | None = None
    """A file of real problems; null: random text of the lengths above."""
    recipe: str | None = None
    """A recipe that is run as it stands, instead of a made-up run."""

    @property
    def precision(self) -> Literal["bfloat16", "float32"]:
        return self.dtype or ("bfloat16" if self.device == "cuda" else "float32")


def model_name(world: World) -> str:
    """How a table names the model of a world."""
    if world.model:
        return world.model
    return f"random Qwen3, D = {world.hidden}, {world.layers} layers, V = {world.vocabulary}"


def tiny_world(device: str, reference: int = 20, batch: int = 3) -> World:
    """A world of seconds, to see that a benchmark runs."""
    return World(
        device,
        hidden=64,
        layers=2,
        vocabulary=512,
        question=20,
        reference=reference,
        completion=8,
        batch=batch,
    )


def config_of(world: World, target: PMITarget | TeacherTarget = PMITarget()) -> TrainingConfig:  # noqa: B008
    """The run of a world, in a folder of its own that goes when the process ends."""
    folder = Path(mkdtemp(prefix="purified-opsd-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if world.recipe:
        return replace(find_recipe(world.recipe), target=target, output_dir=folder / "run")
    model = world.model or write_model(world, folder / "model")
    return TrainingConfig(
        model=Model(model, dtype=world.precision),
        data=TrainingSet(world.data or str(write_problems(world, folder / "problems.jsonl"))),
        output_dir=folder / "run",
        adapter=LoRA(rank=16, alpha=32),
        sampling=Sampling(max_new_tokens=world.completion, batch_size=world.batch),
        target=target,
        steps=1,
        batch_size=world.batch,
    )


def write_model(world: World, folder: Path) -> str:
    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=world.vocabulary,
        hidden_size=world.hidden,
        intermediate_size=3 * world.hidden,
        num_hidden_layers=world.layers,
        num_attention_heads=world.hidden // 64,
        num_key_value_heads=max(1, world.hidden // 128),
        head_dim=64,
        max_position_embeddings=40_960,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.get_output_embeddings().weight.data *= 8  # logits as far apart as a trained model's
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte."""
    symbols = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {symbol: id for id, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIALS[0], eos_token=SPECIALS[1]
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIALS[2:]})
    fast.chat_template = TEMPLATE
    return fast


def write_problems(world: World, file: Path) -> Path:
    """Lengths in the same proportions whatever the sizes."""
    lengths, text = random.Random(0), random.Random(1)
    rows = []
    for index in range(4 * world.batch):
        question = lengths.lognormvariate(0, 0.4) * world.question
        reference = lengths.lognormvariate(0, 0.8) * world.reference
        problem, solution = _text(text, int(question)), _text(text, int(reference))
        rows.append({"id": str(index), "problem": problem, "solution": solution})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _text(draw: random.Random, length: int) -> str:
    return "".join(draw.choice("0123456789+-=abcxyz ") for _ in range(max(1, length)))
