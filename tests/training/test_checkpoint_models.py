"""What of a run can be evaluated, on real weights: never the base in place of a checkpoint, nor the
other way round.
"""

import json
from dataclasses import replace

import pytest
import torch

from purified_opsd.errors import CheckpointError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.evaluation.requests import EvaluationPlan
from purified_opsd.policy.loading import load_policy
from purified_opsd.policy.model import LoRA, frozen
from purified_opsd.training.checkpoint import checkpoint_folder, load_adapter, save_checkpoint
from purified_opsd.training.checkpoint_models import base_candidate, checkpoint_candidates


@pytest.fixture
def saved_setup(adapted_setup):
    """A run with two checkpoints, whose adapters differ from each other and from zero."""
    setup = adapted_setup
    save_checkpoint(setup.config.output_dir, setup.state(2), setup.policy, setup.optimizer)
    for parameter in setup.policy.adapter_parameters().values():
        parameter.data *= -1.5
    save_checkpoint(setup.config.output_dir, setup.state(4), setup.policy, setup.optimizer)
    return setup


@pytest.fixture
def questions(problems):
    return load_benchmark(str(problems))


def sampled(folder, candidate):
    lines = (folder / "problems" / candidate / "samples.jsonl").read_text().splitlines()
    return [json.loads(line)["completion_ids"] for line in lines]


def test_base_and_checkpoints_are_each_drawn_from_their_own_weights(
    saved_setup, questions, tmp_path
):
    setup, run = saved_setup, saved_setup.config
    before = {name: p.detach().clone() for name, p in setup.policy.adapter_parameters().items()}
    candidates = [
        base_candidate(setup.policy),
        *checkpoint_candidates(setup.policy, run.output_dir, [2, 4]),
    ]
    evaluate(
        candidates, [questions], setup.prompts, EvaluationPlan(run.sampling, runs=2), tmp_path / "e"
    )
    drawn = {candidate.name: sampled(tmp_path / "e", candidate.name) for candidate in candidates}
    seeds = [
        json.loads(line)["seed"]
        for line in (tmp_path / "e/problems/base/samples.jsonl").read_text().splitlines()
    ]
    asked = [setup.prompts.base_context(q.problem) for _ in range(2) for q in questions.questions]
    with frozen(setup.policy.model):
        assert drawn["base"] == [c.ids for c in setup.sampler.generate(asked, seeds)]
    for name, p in setup.policy.adapter_parameters().items():  # what was there is back
        assert torch.equal(p, before[name])
    for step in (2, 4):
        load_adapter(checkpoint_folder(run.output_dir, step), setup.policy)
        assert drawn[f"step-{step:06d}"] == [c.ids for c in setup.sampler.generate(asked, seeds)]
    assert len({str(ids) for ids in drawn.values()}) == 3


def test_a_checkpoint_that_is_missing_or_damaged_is_an_error(saved_setup):
    folder = saved_setup.config.output_dir
    with pytest.raises(CheckpointError, match=r"step-000003 has no manifest.json"):
        checkpoint_candidates(saved_setup.policy, folder, [2, 3])
    (checkpoint_folder(folder, 4) / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"adapter_model.safetensors is damaged: .* nothing is there"
    ):
        checkpoint_candidates(saved_setup.policy, folder, [4])


def test_another_base_is_an_error(saved_setup):
    saved_setup.policy.base.get_input_embeddings().weight.data += 1
    with pytest.raises(
        CheckpointError, match="step-000002 was trained on another base: .* the loaded model's is"
    ):
        checkpoint_candidates(saved_setup.policy, saved_setup.config.output_dir, [2])


@pytest.mark.parametrize(
    ("other", "said"), [(LoRA(rank=2, alpha=4), "rank 4"), (LoRA(rank=4, alpha=80), "alpha 8")]
)
def test_an_adapter_of_another_shape_or_strength_is_an_error(saved_setup, other, said):
    run = replace(saved_setup.config, adapter=other)
    policy = load_policy(run.model, other, saved_setup.policy.tokenizer, 0, torch.device("cpu"))
    policy.model.double()
    with pytest.raises(CheckpointError, match=f"step-000002.* is an adapter of {said}"):
        checkpoint_candidates(policy, run.output_dir, [2])
