"""vLLM in this process: each version of the adapter is the one that PEFT has, and a run samples
from it.
"""

from dataclasses import replace

import pytest
import torch

from purified_opsd.errors import ModelError, Stopped
from purified_opsd.policy.loading import load_policy
from purified_opsd.policy.model import LoRA, base_of
from purified_opsd.sampling.engines import HF
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.logprob_check import logprob_check_of
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.sampling.vllm_engine import VLLMSampler
from purified_opsd.sampling.weight_sync import AdapterPublisher
from purified_opsd.settings.build import to_yaml
from purified_opsd.storage.run_dir import RunReader, RunWriter
from purified_opsd.training.mismatch import MismatchLimits
from purified_opsd.training.periodic_eval import PeriodicEvaluator
from purified_opsd.training.run import resume_run
from purified_opsd.training.setup import setup_training
from purified_opsd.training.trackers import Trackers
from purified_opsd.training.train import train

from .conftest import RUN, move

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19, 20]]
SEEDS = [2**62 + 1, 2, 3, 4]


def trainers_log_probs(policy, prompt, ids):
    with torch.no_grad():
        logits = base_of(policy.model)(input_ids=torch.tensor([prompt + ids])).logits[
            0, len(prompt) - 1 : -1
        ]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None]).squeeze(-1)


def off(policy, completions):
    return max(
        (trainers_log_probs(policy, prompt, c.ids) - torch.tensor(c.log_probs)).abs().max().item()
        for prompt, c in zip(PROMPTS, completions, strict=True)
    )


def test_each_version_is_pefts(policy, opened):
    drawn = []
    for version in range(3):
        move(policy, seed=version)
        opened.sync(version)
        drawn.append(opened.generate(PROMPTS, SEEDS))
        assert off(policy, drawn[-1]) < 1e-4
    assert off(policy, drawn[0]) > 0.1  # another version's are another's
    assert opened.adapter.lora_int_id >= 3


def test_a_row_is_a_function_of_its_seed(policy, opened):
    opened.sync(0)
    together = opened.generate(PROMPTS, SEEDS)
    for prompt, seed, row in zip(PROMPTS, SEEDS, together, strict=True):
        (alone,) = opened.generate([prompt], [seed])
        assert alone.ids == row.ids
    other = opened.generate(PROMPTS, [seed + 1 for seed in SEEDS])
    assert [row.ids for row in together] != [row.ids for row in other]


def test_greedy_is_what_transformers_writes_and_ends_where_it_does(policy, opened):
    opened.sync(0)
    greedy = Sampling(temperature=0.0, max_new_tokens=40)
    ours = HFSampler(policy.model, greedy).generate(PROMPTS, SEEDS)
    opened.sampling, before = greedy, opened.sampling
    theirs = opened.generate(PROMPTS, SEEDS)
    opened.sampling = before
    assert [(c.ids, c.finish_reason) for c in theirs] == [(c.ids, c.finish_reason) for c in ours]


def test_completions_end_as_they_should(policy, opened):
    move(policy, seed=0, std=0.0)
    opened.sync(0)
    eos = set(opened.eos)
    prompt = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": "2 3 4 → 9"}], add_generation_prompt=True
    )["input_ids"]
    opened.sampling, before = replace(RUN.sampling, max_new_tokens=160), opened.sampling
    completions = opened.generate([list(prompt)] * 16, range(16))
    opened.sampling = before
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for completion in completions:
        assert (completion.finish_reason == "stop") == (completion.ids[-1] in eos)
        assert not eos & set(completion.ids[:-1])
        assert completion.finish_reason == "stop" or len(completion.ids) == 160


def test_the_trap_of_an_id_used_again_is_seen(policy, opened):
    """vLLM keeps the weights of a number that it has had, in silence."""
    from vllm.lora.request import LoRARequest

    move(policy, seed=11)
    opened.sync(0)
    before = opened.adapter
    move(policy, seed=12)
    version = opened.publisher.publish(policy.model)
    opened.adapter = LoRARequest(version.name, before.lora_int_id, str(version.folder))
    opened.engine.llm_engine.add_lora(opened.adapter)
    with pytest.raises(ModelError, match="vLLM serves a stale adapter, or none at all"):
        opened._check_log_probs(logprob_check_of(policy), "a stale adapter, or none at all")


def test_a_rank_that_the_engine_was_not_started_for(opened):
    wide = load_policy(
        RUN.model, LoRA(rank=64, alpha=64), opened.policy.tokenizer, 0, torch.device("cpu")
    )
    sampler = VLLMSampler(opened.engine, wide, RUN.sampling, AdapterPublisher(None, wide.model))
    with pytest.raises(
        ModelError,
        match="does not load the adapter: .*LoRA rank 64 is greater than max_lora_rank 32",
    ):
        sampler.sync(0)


class Previous(VLLMSampler):
    """Serves the adapter of the sync before, on purpose."""

    def sync(self, step):
        if step != 1:
            super().sync(step)


def job_with(run, sampler_class, engine):
    job = setup_training(replace(run, sampler=HF()))
    publisher = AdapterPublisher(None, job.policy.model)
    sampler = sampler_class(engine, job.policy, run.sampling, publisher)
    return replace(job, config=run, sampler=sampler)


def test_a_run_samples_from_each_of_its_adapters_and_is_resumed(opened, folder, monkeypatch):
    run = replace(RUN, output_dir=folder, steps=3, alarm=MismatchLimits(warn=1e-5, stop=1e-4))
    job = job_with(run, VLLMSampler, opened.engine)
    writer = RunWriter(folder)
    writer.begin(to_yaml(run), {"fingerprint": job.examples.fingerprint})
    trackers = Trackers((), folder, {})
    train(job, PeriodicEvaluator(job, None, writer, trackers), writer, trackers, 0)
    again = replace(run, steps=5)
    monkeypatch.setattr(
        "purified_opsd.training.run.setup_training",
        lambda run: job_with(run, VLLMSampler, opened.engine),
    )
    resume_run(again, folder)
    rows = RunReader(folder).metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert max(row["log_prob_gap_p99"] for row in rows) < 1e-4
    assert job.sampler.adapter.lora_int_id == 3


def test_the_adapter_before_trips_the_alarm(opened, folder):
    run = replace(RUN, output_dir=folder, alarm=MismatchLimits(warn=1e-5, stop=1e-4))
    job = job_with(run, Previous, opened.engine)
    writer = RunWriter(folder)
    writer.begin(to_yaml(run), {})
    trackers = Trackers((), folder, {})
    with pytest.raises(
        Stopped,
        match="Stopped after step 1, which is saved. In step 2 the sampler's log-probs .*stale "
        "adapter",
    ) as end:
        train(job, PeriodicEvaluator(job, None, writer, trackers), writer, trackers, 0)
    assert end.value.exit_code == 4
