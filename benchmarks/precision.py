"""Gradient error at the working point: student and target close (JSD about 1e-4 nats), hidden
states and head in bfloat16.

Errors are ‖g − g64‖ / ‖g64‖, where g64 is the same loss's gradient in the student's hidden states,
from the same bfloat16 inputs, in float64 by autograd on full logits.  The peers know two
distributions, so they are judged on JSD(student, teacher).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from purified_opsd.objective.chunked_loss import chunked_loss
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.head import Fp32Accumulate, LinearHead
from purified_opsd.objective.kernels import tile_terms
from purified_opsd.objective.targets import PMITarget, TeacherTarget

from .tables import publish


class Point(NamedTuple):
    """bfloat16 values; the four hidden states differ by a part of the student's."""

    hidden_ND: dict[str, Tensor]
    head: nn.Linear


class Result(NamedTuple):
    loss: float
    gradient_ND: Tensor


def working_point(N: int, D: int, V: int, gap: float, device: str) -> Point:
    draw = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, device=device)

    head = nn.Linear(D, V, bias=False, device=device, dtype=torch.bfloat16).requires_grad_(False)
    head.weight.copy_(normal(V, D) * (3 / D**0.5))
    student = normal(N, D)
    hidden = {name: student + gap * normal(N, D) for name in ("base", "reference", "teacher")}
    return Point(
        {name: states.bfloat16() for name, states in ({"student": student} | hidden).items()}, head
    )


def exact(point: Point, target: PMITarget | TeacherTarget) -> Result:
    """The formulas in float64."""
    return _formulas(point, target, torch.float64, torch.float64)


def _formulas(
    point: Point, target: PMITarget | TeacherTarget, logits_in: torch.dtype, rest_in: torch.dtype
) -> Result:
    student_ND = point.hidden_ND["student"].clone().to(logits_in).requires_grad_()
    weight_VD = point.head.weight.to(logits_in)
    with torch.no_grad():
        logs = [
            (point.hidden_ND[name].to(logits_in) @ weight_VD.T).to(rest_in).log_softmax(-1)
            for name in target.contexts
        ]
        log_target = target(*logs)
    loss = JSD()((student_ND @ weight_VD.T).to(rest_in).log_softmax(-1), log_target).mean()
    loss.backward()
    return Result(loss.item(), _gradient(student_ND))


def port_of_logits(point: Point, target: PMITarget | TeacherTarget) -> Result:
    """`model(...).logits` rounds to bfloat16; the formulas after it in float32."""
    return _formulas(point, target, torch.bfloat16, torch.float32)


def ours(point: Point, target: PMITarget | TeacherTarget) -> Result:
    student_ND = (
        point.hidden_ND["student"].clone().float().requires_grad_()
    )  # a float32 leaf, so that no rounding follows the loss
    weight_N = torch.full((len(student_ND),), 1 / len(student_ND), device=student_ND.device)
    contexts = {name: states.float() for name, states in point.hidden_ND.items()}
    loss = chunked_loss(student_ND, contexts, point.head, weight_N, target=target, divergence=JSD())
    loss.backward()
    return Result(loss.item(), _gradient(student_ND))


class RoundedFactors(Fp32Accumulate):
    """What a GPU's matrix units do, on a CPU: bfloat16 factors, float32 sums."""

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(hidden_CD.bfloat16().float(), self.weight_VD.float().T, out=out_CV)

    def backward(self, gradient_CV: Tensor) -> Tensor:
        return gradient_CV.bfloat16().float() @ self.weight_VD.float()


def ours_as_on_a_gpu(point: Point, target: PMITarget | TeacherTarget) -> Result:
    """The GPU's rounding of the factors, emulated where there is none."""
    head = LinearHead(point.head, torch.float32)
    head.matmul = RoundedFactors(point.head.weight)
    logits_NV, backward = head.student_logits(point.hidden_ND["student"])
    contexts_NV = head.context_logits(target, point.hidden_ND)
    token_N = torch.zeros(len(logits_NV), dtype=torch.long, device=logits_NV.device)
    terms = tile_terms(
        head.token_loss(target, JSD(), temperature=1.0), token_N, logits_NV, contexts_NV
    )
    return Result(terms.divergence_R.mean().item(), backward(logits_NV).double() / len(logits_NV))


def trl(point: Point, _: Any) -> Result:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    student_ND, weight = point.hidden_ND["student"].clone().requires_grad_(), point.head.weight
    divergence_N, _ = ChunkedDivergenceFunction.apply(
        student_ND, weight, None, point.hidden_ND["teacher"], weight, None, 0.5
    )
    divergence_N.mean().backward()
    return Result(divergence_N.mean().item(), _gradient(student_ND))


def liger(point: Point, _: Any) -> Result:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    student_ND, weight = point.hidden_ND["student"].clone().requires_grad_(), point.head.weight
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, compiled=False)
    label_N = torch.zeros(len(student_ND), dtype=torch.long, device=student_ND.device)
    value = loss(student_ND, weight, point.hidden_ND["teacher"], weight, label_N)
    value.backward()
    return Result(value.item(), _gradient(student_ND))


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad.double()


def errors(
    contenders: dict[str, Callable], point: Point, target: PMITarget | TeacherTarget
) -> list[dict[str, Any]]:
    reference = exact(point, target)
    rows = [{"contender": "float64", "JSD": f"{reference.loss:.3e}"}]
    for name, contender in contenders.items():
        try:
            found = contender(point, target)
        except ImportError as error:
            rows.append({"contender": name, "JSD": f"not installed: {error.name}"})
            continue
        off = (found.gradient_ND - reference.gradient_ND).norm() / reference.gradient_ND.norm()
        value = abs(found.loss - reference.loss) / reference.loss
        rows.append(
            {
                "contender": name,
                "JSD": f"{found.loss:.3e}",
                "loss off": f"{value:.3%}",
                "gradient off": f"{off.item():.3%}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    N, D, V = (16, 64, 2048) if words.quick else (32, 512, 16_384)
    mine: dict[str, Callable] = {
        "ours": ours,
        "ours, as on a GPU (emulated)": ours_as_on_a_gpu,
        "port, logits of the model": port_of_logits,
    }
    tables = {}
    for gap in (0.005, 0.01, 0.03, 0.1):
        point = working_point(N, D, V, gap, device)
        size = f"N = {N}, D = {D}, V = {V}, hidden states {gap:g} apart"
        tables[f"PMI target, four distributions, {size}"] = errors(mine, point, PMITarget())
        everyone = mine | {"TRL": trl, "Liger": liger}
        tables[f"Teacher as target, two distributions, {size}"] = errors(
            everyone, point, TeacherTarget()
        )
    publish("precision", words.output, tables, device)


if __name__ == "__main__":
    main()
