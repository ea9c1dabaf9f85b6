from pathlib import Path

import pytest

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.data.prompts import Prompts
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.optimizer import AdamW
from purified_opsd.training.setup import setup_training


@pytest.fixture
def tiny_run(tiny_model, problems, tmp_path) -> TrainingConfig:
    """A real run in everything but size."""
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
def adapted_job(tiny_run):
    """A loaded run in float64 whose adapter is not zero."""
    job = setup_training(tiny_run)
    job.policy.model.double().train()
    for name, parameter in job.policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return job


def checkpoint_bytes(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.rglob("*.safetensors"))}
