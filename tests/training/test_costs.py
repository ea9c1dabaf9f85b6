"""The plan's formulas against steps that were run: operations as torch counts them, bytes as its allocator does."""

from dataclasses import replace

import pytest
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from purified_opsd.objective import PMITarget, TeacherTarget
from purified_opsd.policy import LoRA, Model, ModelError
from purified_opsd.policy.shape import PUBLISHED, Shape, shape_of
from purified_opsd.training.costs import Lengths, operations
from purified_opsd.training.job import prepare
from purified_opsd.training.train import training_step


def test_parameters_are_those_of_the_loaded_model(tiny_run):
    policy = prepare(tiny_run).policy
    shape = shape_of(tiny_run.model)
    loaded = sum(p.numel() for p in policy.model.parameters() if not p.requires_grad)
    adapter = sum(p.numel() for p in policy.adapter_parameters().values())
    assert shape.adapter_parameters(tiny_run.adapter) == adapter
    assert shape.adapter_parameters(replace(tiny_run.adapter, targets=("all-linear",))) == adapter
    assert 0.97 * loaded < shape.parameters <= loaded  # the norms of a model this small are 2 %


@pytest.mark.parametrize("target", [PMITarget(), TeacherTarget()], ids=["pmi", "standard"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_operations_of_a_step_are_within_15_percent_of_those_run(tiny_run, target, checkpointing):
    model = replace(tiny_run.model, attention="eager", gradient_checkpointing=checkpointing)  # plain products, which are counted
    run = replace(tiny_run, model=model, target=target, adapter=LoRA(rank=4, alpha=8))
    job = prepare(run)
    job.policy.model.train()
    with FlopCounterMode(display=False) as counter:
        step = training_step(job, 0)
    shape, expected = shape_of(run.model), 0.0
    batch = job.examples.batch(0, run.batch_size, run.seed)
    for trajectory in step.trajectories:
        prompts = job.prompts.contexts(batch[trajectory.place])
        reference = len(prompts.teacher) - len(prompts.question)
        expected += operations(run, shape, Lengths(len(prompts.question), reference, len(trajectory.completion.ids))).total
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.15)


CARDS = {
    "Qwen/Qwen3-8B": 8.19,
    "Qwen/Qwen3-4B": 4.02,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.62,
    "allenai/Olmo-3-7B-Think": 7.30,
}


@pytest.mark.parametrize("name", list(CARDS))
def test_published_shapes_have_about_the_parameters_that_are_told(name):
    assert PUBLISHED[name].parameters / 1e9 == pytest.approx(CARDS[name], rel=0.005)


def test_a_shape_is_read_from_a_configuration(tiny_model):
    vocabulary = AutoConfig.from_pretrained(tiny_model).vocab_size
    assert shape_of(Model(str(tiny_model))) == Shape(32, 2, 4, 2, 8, 48, vocabulary, tied=False)


def test_a_model_that_cannot_be_reached_is_named(tmp_path):
    with pytest.raises(ModelError, match="no/such-model cannot be read, so its sizes are not known. Give a hub id"):
        shape_of(Model("no/such-model"))
    AutoConfig.for_model("qwen3_moe").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a qwen3_moe: a plan knows dense decoders only"):
        shape_of(Model(str(tmp_path)))
