"""Makes the miniature's weights from nothing.

python -m purified_opsd.miniature.build --output DIR
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

from .card import Card, measure_folder
from .measurement import CardSampling
from .pretraining import Pretraining, Progress, pretrain
from .tokenizer import END, PADDING, build_tokenizer, token_id


@dataclass(frozen=True)
class Build:
    """What one build does."""

    training: Pretraining = Pretraining()
    questions: int = 500
    """Held-out questions behind each line of the card."""


def build(folder: Path, settings: Build) -> Card:
    """Trains, saves and measures the base; writes a Hugging Face folder with its card.

    It runs on one thread, so that the weights do not depend on how many processors there are.
    Errors are those of the file system.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    lines: list[Progress] = []

    def report(progress: Progress) -> None:
        lines.append(progress)
        print(_progress_line(progress), flush=True)

    model = pretrain(tokenizer, settings.training, report)
    save(model, tokenizer, folder)
    print(f"measuring on {settings.questions} held-out questions", flush=True)
    card = Card(
        training=settings.training,
        parameters=model.num_parameters(),
        tokens=lines[-1].tokens,
        training_seconds=round(lines[-1].seconds, 1),
        measurements=measure_folder(folder, settings.questions),
    )
    card.save(folder)
    return card


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Saves weights in float16, and sampling settings that cut nothing off the distribution.

    Completions may be as long as the card's.
    """
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=CardSampling.new_tokens,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PADDING),
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _progress_line(progress: Progress) -> str:
    left = progress.seconds / progress.step * (progress.steps - progress.step)
    return (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  "
        f"{progress.tokens / 1e6:.2f} M tokens  {progress.seconds / 60:.1f} min, {left / 60:.1f} "
        "min left"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m purified_opsd.miniature.build",
        description="Makes the miniature's weights.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for weights, tokenizer and card",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="decides weights, documents and their order (default 0)"
    )
    arguments = parser.parse_args()
    card = build(arguments.output, Build(Pretraining(seed=arguments.seed)))
    print(card.text())


if __name__ == "__main__":
    main()
