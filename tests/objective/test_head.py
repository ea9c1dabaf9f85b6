"""Products with the head in every dtype it comes in, against float64."""

import pytest
import torch

from purified_opsd.objective import head
from purified_opsd.objective.head import Fp32Accumulate, SameDtype, UpcastTiles, choose_matmul

C, D, V = 5, 8, 37


def factors(dtype: torch.dtype):
    draw = torch.Generator().manual_seed(0)
    hidden, weight, gradient = (
        torch.randn(*shape, generator=draw).to(dtype) for shape in ((C, D), (V, D), (C, V))
    )
    return hidden, weight, gradient


def check(matmul: head.HeadMatmul, dtype: torch.dtype, hidden, weight, gradient, tolerance: float):
    out = torch.full((C, V), float("nan"), dtype=dtype)
    matmul.logits(hidden.to(dtype), out)
    torch.testing.assert_close(
        out.double(), hidden.double() @ weight.double().T, rtol=tolerance, atol=tolerance
    )
    back = matmul.backward(gradient.to(dtype))
    assert back.dtype == dtype
    torch.testing.assert_close(
        back.double(), gradient.double() @ weight.double(), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("tile_rows", [1, 7, 37, 100])
@pytest.mark.parametrize(
    ("weights", "dtype", "tolerance"),
    [(torch.bfloat16, torch.float32, 1e-5), (torch.float32, torch.float64, 1e-12)],
)
def test_narrow_weights_are_widened_tile_by_tile(monkeypatch, weights, dtype, tolerance, tile_rows):
    monkeypatch.setattr(head, "WEIGHT_TILE_ELEMENTS", tile_rows * D)
    matmul = choose_matmul(factors(weights)[1], dtype)
    assert isinstance(matmul, UpcastTiles)
    check(matmul, dtype, *factors(weights), tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_the_same_dtype_are_used_as_they_are(dtype):
    matmul = choose_matmul(weight := factors(dtype)[1], dtype)
    assert isinstance(matmul, SameDtype)
    assert matmul.weight_VD is weight
    check(matmul, dtype, *factors(dtype), 1e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sums_half_precision_factors_in_float32():
    hidden, weight, gradient = (tensor.cuda() for tensor in factors(torch.bfloat16))
    matmul = choose_matmul(weight, torch.float32)
    assert isinstance(matmul, Fp32Accumulate)
    out = torch.empty(C, V, device="cuda")
    matmul.logits(hidden.float(), out)
    torch.testing.assert_close(
        out.double(), hidden.double() @ weight.double().T, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        matmul.backward(gradient.float()).double(),
        gradient.double() @ weight.double(),
        rtol=1e-5,
        atol=1e-5,
    )
