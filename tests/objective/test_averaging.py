import torch

from purified_opsd.objective.averaging import SequenceMean, TokenMean

LENGTHS = torch.tensor([1, 4, 5])


def test_sequence_mean_is_equation_12_averaged_over_the_batch():
    values = [torch.randn(n).double() for n in LENGTHS]
    weighted = sum((w * v).sum() for w, v in zip(SequenceMean()(LENGTHS), values, strict=True))
    torch.testing.assert_close(weighted, torch.stack([v.mean() for v in values]).mean())


def test_token_mean_is_the_mean_of_all_tokens():
    values = [torch.randn(n).double() for n in LENGTHS]
    weighted = sum((w * v).sum() for w, v in zip(TokenMean()(LENGTHS), values, strict=True))
    torch.testing.assert_close(weighted, torch.cat(values).mean())
