"""Sampling: seeds by row, the distribution drawn from, log-probs, and where a completion ends."""

import pytest
import torch

from purified_opsd.sampling import hf
from purified_opsd.sampling.hf import HFSampler, draw
from purified_opsd.sampling.sampler import Sampling

from ..policy.conftest import build, with_adapter

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15], [16, 17, 18, 19]]
SEEDS = [11, 22, 33, 44]
OPEN = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=12)


def test_each_row_is_what_it_is_alone(student):
    sampler = HFSampler(student, OPEN)
    together = sampler.generate(PROMPTS, SEEDS)
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        (alone,) = sampler.generate([prompt], [seed])
        assert alone.ids == together[row].ids
        assert alone.log_probs == pytest.approx(together[row].log_probs, abs=1e-4)


def test_order_and_batch_size_change_nothing(qwen):
    together = HFSampler(qwen, OPEN).generate(PROMPTS, SEEDS)
    backwards = HFSampler(qwen, OPEN).generate(PROMPTS[::-1], SEEDS[::-1])
    by_two = HFSampler(qwen, Sampling(1.0, 1.0, 0, 12, batch_size=2)).generate(PROMPTS, SEEDS)
    assert [c.ids for c in backwards[::-1]] == [c.ids for c in together] == [c.ids for c in by_two]


def test_rows_that_share_a_prompt_have_it_read_once_and_write_what_each_writes_alone(student):
    hot = Sampling(temperature=9.0, top_p=1.0, top_k=0, max_new_tokens=12)
    prompts, seeds = [PROMPTS[1], PROMPTS[0], PROMPTS[1], PROMPTS[1]], SEEDS
    read = []
    watch = (
        student.get_base_model()
        .get_decoder()
        .register_forward_pre_hook(
            lambda _, __, inputs: read.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
        )
    )
    together = HFSampler(student, hot).generate(prompts, seeds)
    watch.remove()
    assert read[0] == (2, len(PROMPTS[1]))
    assert read[1] == (4, 1)
    assert len({tuple(completion.ids) for completion in together}) == 4
    for prompt, seed, completion in zip(prompts, seeds, together, strict=True):
        (alone,) = HFSampler(student, hot).generate([prompt], [seed])
        assert alone.ids == completion.ids


def test_missing_rows_are_drawn_with_their_whole_batch_and_handed_over_at_once(qwen):
    """At the bit, that is: with other neighbours a matrix product may round otherwise."""
    sampler, handed = HFSampler(qwen, OPEN), []
    whole = sampler.generate(PROMPTS, SEEDS)
    sampler.generate_missing(PROMPTS, SEEDS, [1, 3], handed.append)
    assert handed == [{1: whole[1], 3: whole[3]}]


def test_another_seed_writes_something_else(qwen):
    (first,), (again,), (other,) = (
        HFSampler(qwen, OPEN).generate([PROMPTS[0]], [seed]) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.ids != other.ids


def test_log_probs_are_the_untempered_students(student):
    """Sampled hot and from a nucleus, yet scored as the model itself would."""
    sampler = HFSampler(student, Sampling(temperature=1.7, top_p=0.9, top_k=11, max_new_tokens=12))
    for prompt, completion in zip(PROMPTS, sampler.generate(PROMPTS, SEEDS), strict=True):
        with torch.no_grad():
            logits = student(input_ids=torch.tensor([prompt + completion.ids])).logits[
                0, len(prompt) - 1 : -1
            ]
        expected = (
            logits.float()
            .log_softmax(-1)
            .gather(-1, torch.tensor(completion.ids)[:, None])
            .squeeze(-1)
        )
        assert completion.log_probs == pytest.approx(expected.tolist(), abs=1e-4)


def test_greedy_is_what_transformers_generates(qwen):
    sampler = HFSampler(qwen, Sampling(temperature=0.0, max_new_tokens=12))
    for prompt, completion in zip(PROMPTS, sampler.generate(PROMPTS, SEEDS), strict=True):
        expected = qwen.generate(
            input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=12
        )[0, len(prompt) :]
        assert completion.ids == expected.tolist()


def test_a_completion_ends_with_any_of_the_end_tokens_and_keeps_it():
    model = with_adapter(build("qwen3"))
    whole = HFSampler(model, OPEN).generate(PROMPTS, SEEDS)
    ends = [whole[0].ids[3], whole[1].ids[6]]
    model.get_base_model().generation_config.eos_token_id = ends
    for before, after in zip(whole, HFSampler(model, OPEN).generate(PROMPTS, SEEDS), strict=True):
        first = next((i for i, token in enumerate(before.ids) if token in ends), None)
        assert after.ids == (before.ids if first is None else before.ids[: first + 1])
        assert (after.finish_reason == "stop") == (first is not None)
        assert len(after.log_probs) == len(after.ids)


def test_sampling_leaves_the_model_as_it_found_it(qwen):
    qwen.train()
    HFSampler(qwen, OPEN).generate(PROMPTS, SEEDS)
    assert qwen.training
    assert not any(p.grad is not None for p in qwen.parameters())


def frequencies(logits, sampling, n=20_000):
    uniform = (torch.arange(n) + 0.5) / n  # every quantile once: frequencies are exact to 1/n
    tokens, _ = draw(logits.expand(n, -1), uniform, sampling)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / n


LOGITS = torch.tensor([[2.0, -1.0, 0.5, 1.5, -30.0]])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_draws_follow_the_tempered_softmax(temperature):
    expected = (LOGITS[0] / temperature).softmax(-1)
    torch.testing.assert_close(
        frequencies(LOGITS, Sampling(temperature, 1.0, 0)), expected, atol=2e-4, rtol=0
    )


def test_top_k_keeps_the_k_likeliest():
    expected = LOGITS[0].exp() * torch.tensor([1, 0, 0, 1, 0])
    torch.testing.assert_close(
        frequencies(LOGITS, Sampling(1.0, 1.0, 2)), expected / expected.sum(), atol=2e-4, rtol=0
    )


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    probabilities = LOGITS[0].softmax(-1)
    p = (probabilities[0] + probabilities[3] / 2).item()  # the two likeliest are needed to reach it
    expected = probabilities * torch.tensor([1, 0, 0, 1, 0])
    torch.testing.assert_close(
        frequencies(LOGITS, Sampling(1.0, p, 0)), expected / expected.sum(), atol=2e-4, rtol=0
    )


def test_top_p_counts_what_top_k_left():
    """top-k first: of two equal tokens each has one half, so p = 0.6 keeps both and p = 0.4 the
    first.
    """
    even = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert (frequencies(even, Sampling(1.0, 0.6, 2)) > 0).sum() == 2
    assert (frequencies(even, Sampling(1.0, 0.4, 2)) > 0).sum() == 1


@pytest.mark.parametrize("first", [1, 2, 3, 5, 9])
def test_a_nucleus_is_found_whole_however_few_candidates_are_tried_first(monkeypatch, first):
    whole = frequencies(LOGITS, Sampling(1.0, 0.9, 0))
    monkeypatch.setattr(hf, "NUCLEUS", first)
    torch.testing.assert_close(frequencies(LOGITS, Sampling(1.0, 0.9, 0)), whole, atol=0, rtol=0)
    assert (whole > 0).sum() == 3


@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_allowed_tokens(uniform, top_p):
    tokens, log_probs = draw(LOGITS, torch.tensor([uniform]), Sampling(1.0, top_p, 0))
    assert tokens.item() in (0, 2, 3) if top_p < 1 else (0, 1, 2, 3)
    assert log_probs.item() > -5


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"max_new_tokens": 0},
        {"batch_size": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"sampling needs temperature >= 0.*{name}={wrong[name]}"):
        Sampling(**wrong)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "settings",
    [Sampling(), Sampling(temperature=0.0), Sampling(1.0, 1.0, 0)],
    ids=["paper", "greedy", "open"],
)
def test_logits_that_are_no_distribution_are_an_error(bad, settings):
    logits = torch.zeros(3, 50)
    logits[1, 7] = bad
    with pytest.raises(
        FloatingPointError,
        match="1 of 3 completions have logits that are NaN or infinite.*lower learning rate",
    ):
        draw(logits, torch.full((3,), 0.5), settings)
