"""The plan's formulas against steps that were run: operations as torch counts them, bytes as its
allocator does.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from purified_opsd.errors import ModelError
from purified_opsd.objective.chunked_loss import ChunkSizes, chunk_sizes, chunked_terms
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.kernels import Eager
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.planning.flops_memory import Lengths, device_memory, sequence_flops
from purified_opsd.planning.model_dims import PUBLISHED, ModelDims, model_dims_of
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.policy.scoring import completion_hidden
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.training.setup import setup_training
from purified_opsd.training.train import training_step


def test_parameters_are_those_of_the_loaded_model(tiny_run):
    policy = setup_training(tiny_run).policy
    dims = model_dims_of(tiny_run.model)
    loaded = sum(p.numel() for p in policy.model.parameters() if not p.requires_grad)
    adapter = sum(p.numel() for p in policy.adapter_parameters().values())
    assert dims.adapter_parameters(tiny_run.adapter) == adapter
    assert dims.adapter_parameters(replace(tiny_run.adapter, targets=("all-linear",))) == adapter
    assert 0.97 * loaded < dims.parameters <= loaded  # the norms of a model this small are 2 %


@pytest.mark.parametrize("target", [PMITarget(), TeacherTarget()], ids=["pmi", "standard"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_operations_of_a_step_are_within_15_percent_of_those_run(tiny_run, target, checkpointing):
    model = replace(
        tiny_run.model, attention="eager", gradient_checkpointing=checkpointing
    )  # plain products, which are counted
    run = replace(tiny_run, model=model, target=target, adapter=LoRA(rank=4, alpha=8))
    job = setup_training(run)
    job.policy.model.train()
    with FlopCounterMode(display=False) as counter:
        step = training_step(job, 0)
    dims, expected = model_dims_of(run.model), 0.0
    batch = job.examples.batch(0, run.batch_size, run.seed)
    for trajectory in step.rollouts:
        prompts = job.prompts.contexts(batch[trajectory.index])
        lengths = Lengths(
            *(
                len(p)
                for p in (
                    prompts.base,
                    prompts.teacher,
                    prompts.reference,
                    trajectory.completion.ids,
                )
            )
        )
        expected += sequence_flops(run, dims, lengths).total
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.15)


CARDS = {
    "Qwen/Qwen3-8B": 8.19,
    "Qwen/Qwen3-4B": 4.02,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.62,
    "allenai/Olmo-3-7B-Think": 7.30,
}


def peak_bytes(work) -> int:
    """Most memory that tensors held at once above what they held before, as the allocator tells."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [
        event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.fixture
def wide_run(tiny_run, tmp_path):
    """Wide and deep enough that what the formulas count outweighs what they leave out."""
    config = AutoConfig.from_pretrained(tiny_run.model.path)
    config.update(
        {
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 6,
            "head_dim": 32,
            "layer_types": ["full_attention"] * 6,
        }
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "wide")
    for file in Path(tiny_run.model.path).glob("*token*"):
        shutil.copy(file, tmp_path / "wide")
    shutil.copy(Path(tiny_run.model.path) / "chat_template.jinja", tmp_path / "wide")
    return replace(tiny_run, model=replace(tiny_run.model, path=str(tmp_path / "wide")))


@pytest.mark.parametrize(("questions", "completion"), [(3, 40), (6, 40), (3, 160)])
def test_memory_of_the_student_and_of_the_sampler_is_within_15_percent_of_that_held(
    wide_run, questions, completion
):
    job = setup_training(
        replace(
            wide_run,
            sampling=replace(wide_run.sampling, max_new_tokens=completion, batch_size=questions),
        )
    )
    job.policy.model.train()
    prompt, ids = list(range(20, 80)), [20 + i % 200 for i in range(completion)]
    lengths = Lengths(len(prompt), 0, 0, completion)
    tokens = questions * (len(prompt) + completion)
    expected = device_memory(
        job.config,
        model_dims_of(job.config.model),
        lengths,
        tokens,
        ChunkSizes(64, 8),
        value_bytes=4,
    )

    def student():
        hidden_ND = completion_hidden(job.policy.model, [prompt] * questions, [ids] * questions)
        hidden_ND.sum().backward()

    states = 4 * 5 * questions * completion * 128  # the loss's, which this pass has not
    student()  # the adapter's gradients are there from here on
    assert peak_bytes(student) == pytest.approx(expected.student - states, rel=0.15)
    job.policy.base.generation_config.eos_token_id = (
        10**6
    )  # so that no row ends and frees its cache
    sampler = HFSampler(job.policy.model, job.config.sampling)
    prompts = [
        [20 + place, *prompt[1:]] for place in range(questions)
    ]  # equal ones would share what is computed of them
    sampled = peak_bytes(lambda: sampler.generate(prompts, range(questions)))
    assert sampled == pytest.approx(expected.sampler, rel=0.15)


@pytest.mark.parametrize("target", [PMITarget(), TeacherTarget()], ids=["pmi", "standard"])
@pytest.mark.parametrize("N", [60, 240])
def test_memory_of_the_loss_is_within_15_percent_of_that_held(wide_run, target, N):
    job = setup_training(replace(wide_run, target=target))
    D, V, rows = 128, model_dims_of(job.config.model).vocabulary, ChunkSizes(48, 6)
    student_ND = torch.randn(N, D, requires_grad=True)
    contexts_ND = {name: torch.randn(N, D) for name in target.contexts}
    tokens, ones = torch.zeros(N, dtype=torch.long), torch.ones(N)
    settings = {"target": target, "divergence": JSD(), "kernels": Eager(), "chunk_rows": rows.chunk}

    def loss():
        chunked_terms(
            student_ND, contexts_ND, job.policy.head, ones, tokens, **settings
        ).loss.backward()

    assert chunk_sizes(V, student_ND.device, rows.chunk) == rows
    expected = device_memory(
        job.config, model_dims_of(job.config.model), Lengths(0, 0, 0, N), N, rows, value_bytes=4
    )
    loss_inputs = (
        4 * N * D * (6 + len(target.contexts) + 1)
    )  # the layers' inputs and the hidden states, which this loss was given
    assert peak_bytes(loss) == pytest.approx(expected.loss - loss_inputs, rel=0.15)


def test_memory_of_the_adapter_is_that_held(tiny_run):
    job = setup_training(tiny_run)
    training_step(job, 0)
    weights = sum(p.nbytes for p in job.policy.adapter_parameters().values())
    moments = sum(
        t.nbytes for state in job.optimizer.state.values() for t in state.values() if t.dim()
    )
    expected = device_memory(
        tiny_run,
        model_dims_of(tiny_run.model),
        Lengths(1, 1, 1, 1),
        1,
        ChunkSizes(1, 1),
        value_bytes=4,
    )
    assert (
        expected.adapter == weights + moments + weights
    )  # a gradient is as large as what it is of


@pytest.mark.parametrize("name", list(CARDS))
def test_published_shapes_have_about_the_parameters_that_are_told(name):
    assert PUBLISHED[name].parameters / 1e9 == pytest.approx(CARDS[name], rel=0.005)


def test_a_shape_is_read_from_a_configuration(tiny_model):
    vocabulary = AutoConfig.from_pretrained(tiny_model).vocab_size
    assert model_dims_of(Model(str(tiny_model))) == ModelDims(
        32, 2, 4, 2, 8, 48, vocabulary, tied=False
    )


def test_a_model_that_cannot_be_reached_is_named(tmp_path):
    with pytest.raises(
        ModelError, match="no/such-model cannot be read, so its sizes are not known. Give a hub id"
    ):
        model_dims_of(Model("no/such-model"))
    AutoConfig.for_model("qwen3_moe").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a qwen3_moe: a plan knows dense decoders only"):
        model_dims_of(Model(str(tmp_path)))
