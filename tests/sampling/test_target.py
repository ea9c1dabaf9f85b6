"""Decoding a target: what scoring says of the completion is what it was drawn from."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.policy.model import frozen
from purified_opsd.policy.scoring import contexts_hidden
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.sampling.target import TargetSampler

from ..policy.conftest import build, with_adapter

BASE = [5, 6, 7]
PROMPTS = {
    "base": BASE,
    "teacher": [*BASE, 30, 31, 32, 33, 34, 35, 36],
    "reference": [30, 31, 32, 33, 34, 35, 36],
}
GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
OPEN = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=24)


@dataclass(frozen=True)
class BaseAlone:
    """The base itself, as a target."""

    contexts: ClassVar[tuple[str, ...]] = ("base",)

    def __call__(self, log_base):
        return log_base


def prompts_of(target):
    return [PROMPTS[name] for name in target.contexts]


def full_scoring(model, target, ids):
    """The target at every token of the completion, from one unpadded pass a context in float64,
    without any cache.
    """
    with frozen(model):
        hidden = {
            name: contexts_hidden(model, {name: [PROMPTS[name]]}, [ids], 1)[name]
            for name in target.contexts
        }
        head = ModelHead(model.get_base_model())
        return target(*(head(hidden[name]).double().log_softmax(-1) for name in target.contexts))


@pytest.mark.parametrize(
    "target", [PMITarget(), PMITarget(beta=0.3, clip=2.0), TeacherTarget()], ids=str
)
def test_greedy_decoding_is_the_argmax_of_full_scoring(student, target):
    completion = TargetSampler(student, target, GREEDY).generate(prompts_of(target), 0)
    log_target_NV = full_scoring(student, target, completion.ids)
    assert completion.ids == log_target_NV.argmax(-1).tolist()
    own = log_target_NV.gather(-1, torch.tensor(completion.ids)[:, None]).squeeze(-1)
    assert completion.log_probs == pytest.approx(own.tolist(), abs=1e-3)


def test_targets_write_differently():
    model = with_adapter(build("qwen3"))
    targets = (PMITarget(), PMITarget(beta=0.3, clip=2.0), TeacherTarget(), BaseAlone())
    written = {
        str(TargetSampler(model, target, GREEDY).generate(prompts_of(target), 0).ids)
        for target in targets
    }
    assert len(written) == 4  # so that none of the tests above could pass for another target


def test_the_base_as_a_target_writes_what_the_sampler_draws_for_the_seed(student):
    for seed in (1, 2, 3):
        with frozen(student):
            (drawn,) = HFSampler(student, OPEN).generate([BASE], [seed])
        written = TargetSampler(student, BaseAlone(), OPEN).generate([BASE], seed)
        assert (written.ids, written.finish_reason) == (drawn.ids, drawn.finish_reason)
        assert written.log_probs == pytest.approx(drawn.log_probs, abs=1e-4)


def test_a_large_beta_leaves_the_base(qwen):
    """Eq. 16: the tilt vanishes, whatever teacher and probe say."""
    target = PMITarget(beta=1e6)
    completion = TargetSampler(qwen, target, OPEN).generate(prompts_of(target), 4)
    assert completion.ids == TargetSampler(qwen, BaseAlone(), OPEN).generate([BASE], 4).ids


def test_an_end_token_ends_all_contexts():
    model = with_adapter(build("qwen3"))
    whole = TargetSampler(model, PMITarget(), OPEN).generate(prompts_of(PMITarget()), 5)
    end = whole.ids[7]
    model.get_base_model().generation_config.eos_token_id = end
    cut = TargetSampler(model, PMITarget(), OPEN).generate(prompts_of(PMITarget()), 5)
    assert cut.ids == whole.ids[: whole.ids.index(end) + 1]
    assert cut.finish_reason == "stop"
