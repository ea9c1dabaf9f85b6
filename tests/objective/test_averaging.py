"""Averages against the means that they stand for."""

import pytest
import torch

from purified_opsd.objective.averaging import SequenceMean, TokenMean, token_weights

LENGTHS = torch.tensor([1, 4, 5])


def test_sequence_mean_is_equation_12_averaged_over_the_batch():
    values = [torch.randn(n).double() for n in LENGTHS]
    weighted = sum((w * v).sum() for w, v in zip(SequenceMean()(LENGTHS), values, strict=True))
    torch.testing.assert_close(weighted, torch.stack([v.mean() for v in values]).mean())


def test_token_mean_is_the_mean_of_all_tokens():
    values = [torch.randn(n).double() for n in LENGTHS]
    weighted = sum((w * v).sum() for w, v in zip(TokenMean()(LENGTHS), values, strict=True))
    torch.testing.assert_close(weighted, torch.cat(values).mean())


@pytest.mark.parametrize("averaging", [SequenceMean(), TokenMean()], ids=str)
def test_token_weights_are_each_sequences_repeated_over_its_tokens_and_sum_to_one(averaging):
    weight_N = token_weights(averaging, LENGTHS)
    weight_B = averaging(LENGTHS)
    assert weight_N.tolist() == [weight_B[0], *[weight_B[1]] * 4, *[weight_B[2]] * 5]
    assert weight_N.dtype == torch.float64
    torch.testing.assert_close(weight_N.sum(), torch.ones((), dtype=torch.float64))


def test_the_two_averages_differ_as_soon_as_lengths_do():
    assert token_weights(SequenceMean(), LENGTHS)[0].item() == pytest.approx(1 / 3)
    assert token_weights(TokenMean(), LENGTHS)[0].item() == pytest.approx(1 / 10)
