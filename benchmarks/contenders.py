"""The losses that are compared: each builds its inputs and returns one forward and backward pass to
the student's hidden states.

The floor and ours need four distributions, as the paper does; TRL's and Liger's chunked losses know
two, and do less.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from purified_opsd.objective.chunked_loss import chunk_sizes, chunked_loss, slices
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.head import choose_matmul
from purified_opsd.objective.kernels import Compiled, Eager, Kernels
from purified_opsd.objective.targets import PMITarget, TeacherTarget


@dataclass(frozen=True)
class Case:
    """One size of the problem; the same numbers in every process."""

    N: int
    D: int
    V: int
    dtype: torch.dtype
    device: str
    chunk_rows: int | None = None

    @property
    def chunk(self) -> int:
        return min(self.N, chunk_sizes(self.V, torch.device(self.device), self.chunk_rows).chunk)

    @property
    def buffer_bytes(self) -> int:
        """Of one [chunk, V] buffer in float32."""
        return 4 * self.chunk * self.V


@dataclass(frozen=True)
class Inputs:
    student_ND: Tensor
    contexts_ND: dict[str, Tensor]
    head: nn.Linear
    weight_N: Tensor


def inputs(case: Case) -> Inputs:
    """Logits of standard deviation 3, contexts that differ from the student's by a fifth of that."""
    draw = torch.Generator(case.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, device=case.device)

    head = nn.Linear(
        case.D, case.V, bias=False, device=case.device, dtype=case.dtype
    ).requires_grad_(False)
    with torch.no_grad():
        for rows in slices(case.V, 2**14):
            head.weight[rows] = (normal(len(head.weight[rows]), case.D) * (3 / case.D**0.5)).to(
                case.dtype
            )
    student = normal(case.N, case.D)
    contexts = {
        name: (student + 0.2 * normal(case.N, case.D)).to(case.dtype)
        for name in ("teacher", "reference", "base")
    }
    weight_N = torch.full((case.N,), 1 / case.N, device=case.device)
    return Inputs(student.to(case.dtype).requires_grad_(), contexts, head, weight_N)


def floor(case: Case) -> Callable[[], None]:
    """The four matrix products that no method can do without, on our chunks and nothing else: three
    projections, one way back.
    """
    given = inputs(case)
    matmul = choose_matmul(given.head.weight, torch.float32)
    hidden = [
        given.student_ND.detach().float(),
        *(given.contexts_ND[name].float() for name in ("teacher", "base")),
    ]

    def run() -> None:
        buffer_CV = torch.empty(case.chunk, case.V, device=case.device)
        gradient_ND = torch.empty_like(hidden[0])
        for rows in slices(case.N, case.chunk):
            logits_CV = buffer_CV[: len(gradient_ND[rows])]
            for states in hidden:
                matmul.logits(states[rows], logits_CV)
            gradient_ND[rows] = matmul.backward(logits_CV)

    return run


def ours_compiled(case: Case) -> Callable[[], None]:
    """`chunked_loss` as a run uses it."""
    return _ours(case, Compiled(min_head_rows=0), PMITarget())


def ours_eager(case: Case) -> Callable[[], None]:
    """`chunked_loss` with no compiler."""
    return _ours(case, Eager(), PMITarget())


def ours_standard(case: Case) -> Callable[[], None]:
    """`chunked_loss` with the teacher as target: two distributions, as TRL's and Liger's."""
    return _ours(case, Compiled(min_head_rows=0), TeacherTarget())


def _ours(case: Case, kernels: Kernels, target: PMITarget | TeacherTarget) -> Callable[[], None]:
    given = inputs(case)

    def run() -> None:
        given.student_ND.grad = None
        options = {
            "target": target,
            "divergence": JSD(),
            "kernels": kernels,
            "chunk_rows": case.chunk_rows,
        }
        chunked_loss(
            given.student_ND, given.contexts_ND, given.head, given.weight_N, **options
        ).backward()

    return run


def port(case: Case) -> Callable[[], None]:
    """Section 3.2's formulas on full logits, autograd for the gradient."""
    given = inputs(case)

    def run() -> None:
        given.student_ND.grad = None
        with torch.no_grad():
            logs = {
                name: given.head(hidden).float().log_softmax(-1)
                for name, hidden in given.contexts_ND.items()
            }
            delta = logs["teacher"] - logs["reference"]
            delta = 10.0 * torch.tanh((delta - delta.mean(-1, keepdim=True)) / 10.0)
            log_target = (logs["base"] + delta).log_softmax(-1)
        log_student = given.head(given.student_ND).float().log_softmax(-1)
        log_mixture = torch.logaddexp(log_student, log_target) - torch.log(torch.tensor(2.0))
        divergence_N = 0.5 * (log_target.exp() * (log_target - log_mixture)).sum(-1)
        divergence_N = divergence_N + 0.5 * (log_student.exp() * (log_student - log_mixture)).sum(
            -1
        )
        (given.weight_N * divergence_N).sum().backward()

    return run


def trl(case: Case) -> Callable[[], None]:
    """TRL's ChunkedDivergenceFunction: JSD of student and teacher."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    given, teacher_ND = (found := inputs(case)), found.contexts_ND["teacher"]
    weight_VD = given.head.weight

    def run() -> None:
        given.student_ND.grad = None
        heads = (given.student_ND, weight_VD, None, teacher_ND, weight_VD, None)
        divergence_N, _ = ChunkedDivergenceFunction.apply(*heads, 0.5)
        (given.weight_N * divergence_N).sum().backward()

    return run


def liger(case: Case) -> Callable[[], None]:
    """Liger's chunked JSD of student and teacher, with its own defaults (compiled, chunks of 1,024
    rows).
    """
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    given, teacher_ND = (found := inputs(case)), found.contexts_ND["teacher"]
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0)
    label_N = torch.zeros(case.N, dtype=torch.long, device=case.device)

    def run() -> None:
        given.student_ND.grad = None
        loss(given.student_ND, given.head.weight, teacher_ND, given.head.weight, label_N).backward()

    return run


CONTENDERS = {
    "floor": floor,
    "ours, compiled": ours_compiled,
    "ours, eager": ours_eager,
    "port of the formulas": port,
    "ours, two distributions": ours_standard,
    "TRL, two distributions": trl,
    "Liger, two distributions": liger,
}
