"""One thread a process: the models of the tests are tiny.  No network: a test that would reach a
hub fails at once.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from purified_opsd import cli
from purified_opsd.data.dataset import TrainingSet
from purified_opsd.data.prompts import Prompts
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.optimizer import AdamW
from purified_opsd.training.setup import TrainingSetup, setup_training

torch.set_num_threads(1)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def byte_tokenizer(template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A token a byte, with a few special ones."""
    vocabulary = {
        symbol: i
        for i, symbol in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIALS[2:]})
    fast.chat_template = template
    return fast


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a random Qwen3 whose logits are as spread out as a trained model's, and a byte
    tokenizer.
    """
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.get_output_embeddings().weight.data *= 20
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


PROBLEMS = [
    {
        "id": f"p{i}",
        "problem": f"What is {i} + {i + 1}?",
        "solution": f"{i} + {i + 1} = {2 * i + 1}.",
        "answer": str(2 * i + 1),
    }
    for i in range(6)
]


@pytest.fixture
def problems(tmp_path):
    """A training set of six rows."""
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    return file


@pytest.fixture
def tiny_run(tiny_model, problems, tmp_path) -> TrainingConfig:
    """The config of a run that is real in everything but size."""
    return TrainingConfig(
        model=Model(str(tiny_model), dtype="float32"),
        data=TrainingSet(str(problems)),
        output_dir=tmp_path / "run",
        adapter=LoRA(rank=4, alpha=8),
        prompts=Prompts(max_tokens=600),
        sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=12),
        optimizer=AdamW(learning_rate=1e-3),
        steps=4,
        batch_size=3,
        checkpoint_every=2,
    )


@pytest.fixture
def adapted_setup(tiny_run) -> TrainingSetup:
    """A loaded run in float64 whose adapter is not zero."""
    setup = setup_training(tiny_run)
    setup.policy.model.double().train()
    for name, parameter in setup.policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return setup


@pytest.fixture
def shared_data():
    """Real problems that lie beside the checkout, not in it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real problems are not here: {folder}")
    return folder


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Runs the command in a folder of its own; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["purified-opsd", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capfd.readouterr()

    return run


@pytest.fixture
def settings(tiny_model, problems, tmp_path):
    file = tmp_path / "my_run.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "model": {"path": str(tiny_model), "dtype": "float32"},
                "data": str(problems),
                "adapter": {"rank": 4, "alpha": 8},
                "sampling": {"max_new_tokens": 8},
                "batch_size": 2,
                "steps": 2,
            }
        )
    )
    return file
