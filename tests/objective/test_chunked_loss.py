"""The chunked loss against the ten lines on full logits, in float64: value and gradient."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from purified_opsd.objective.chunked_loss import chunked_loss, chunked_terms
from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.objective.kernels import Eager
from purified_opsd.objective.loss import purified_loss, standard_loss
from purified_opsd.objective.targets import PMITarget, TeacherTarget

N, D, V = 13, 8, 37
TARGETS = [PMITarget(beta=0.7, clip=2.5), PMITarget(center_rows=30), TeacherTarget()]
DIVERGENCES = [JSD(), JSD(0.25), ForwardKL(), ReverseKL()]


def case(bias: bool = False, dtype: torch.dtype = torch.float64):
    draw = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    head = nn.Linear(D, V, bias=bias).to(dtype)
    head.weight.data = random(V, D)
    if bias:
        head.bias.data = random(V)
    head.requires_grad_(False)
    contexts = {name: random(N, D) for name in ("teacher", "reference", "base")}
    return random(N, D), contexts, head, random(N).abs()


def naive(student, contexts, head, weight, target, divergence, temperature=1.0):
    """Section 3.2 as it is written: full log-distributions, autograd for the gradient."""

    def log_probs(hidden):
        return (head(hidden) / temperature).log_softmax(-1)

    student = student.clone().requires_grad_()
    four = [log_probs(x) for x in (student, *map(contexts.get, ("teacher", "reference", "base")))]
    if isinstance(target, PMITarget):
        settings = {
            "beta": target.beta,
            "clip": target.clip,
            "center_rows": target.center_rows,
            "divergence": divergence,
        }
        loss = purified_loss(*four, weight, **settings)
    else:
        loss = standard_loss(*four[:2], weight, divergence=divergence)
    loss.backward()
    return loss.detach(), student.grad


def chunked(student, contexts, head, weight, target, divergence, **options):
    student = student.clone().requires_grad_()
    tokens = torch.zeros(len(student), dtype=torch.long)
    loss = chunked_terms(
        student, contexts, head, weight, tokens, target=target, divergence=divergence, **options
    ).loss
    loss.backward()
    return loss.detach(), student.grad


def agree(a, b, tolerance=1e-9):
    torch.testing.assert_close(a[0], b[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a[1], b[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_linear_head(target, divergence, bias):
    expected = naive(*case(bias), target, divergence)
    assert expected[1].abs().max() > 1e-3
    agree(chunked(*case(bias), target, divergence), expected)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_soft_capped_head_takes_the_general_path(target):
    student, contexts, linear, weight = case()

    def head(hidden):
        return 3 * torch.tanh(linear(hidden) / 3)

    agree(
        chunked(student, contexts, head, weight, target, JSD()),
        naive(student, contexts, head, weight, target, JSD()),
    )


@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 12, 13, 14, 1000])
def test_no_chunk_size_changes_anything(chunk_rows):
    agree(
        chunked(*case(True), PMITarget(), JSD(), chunk_rows=chunk_rows),
        naive(*case(True), PMITarget(), JSD()),
    )


@pytest.mark.parametrize("head_kind", ["linear", "general"])
def test_temperature_divides_every_logit(head_kind):
    student, contexts, linear, weight = case(bias=True)
    head = linear if head_kind == "linear" else lambda hidden: linear(hidden)
    expected = naive(student, contexts, head, weight, PMITarget(), JSD(), temperature=1.7)
    agree(chunked(student, contexts, head, weight, PMITarget(), JSD(), temperature=1.7), expected)


def test_gradcheck_of_the_autograd_function():
    student, contexts, head, weight = case()
    contexts = {name: hidden[:3] for name, hidden in contexts.items()}

    def loss(hidden):
        return chunked_loss(
            hidden, contexts, head, weight[:3], target=PMITarget(), divergence=JSD(), chunk_rows=2
        )

    assert torch.autograd.gradcheck(loss, student[:3].clone().requires_grad_())


def test_upstream_gradient_is_passed_on():
    student, contexts, head, weight = case()
    student.requires_grad_()
    (
        3 * chunked_loss(student, contexts, head, weight, target=PMITarget(), divergence=JSD())
    ).backward()
    torch.testing.assert_close(
        student.grad, 3 * naive(student.detach(), contexts, head, weight, PMITarget(), JSD())[1]
    )


def test_splitting_and_shuffling_the_tokens_changes_nothing():
    student, contexts, head, weight = case()
    whole = chunked(student, contexts, head, weight, PMITarget(), JSD())
    order = torch.randperm(N)
    parts = [
        chunked(
            student[p], {k: v[p] for k, v in contexts.items()}, head, weight[p], PMITarget(), JSD()
        )
        for p in order.split([4, 9])
    ]
    gradient = torch.empty_like(student)
    gradient[order] = torch.cat([part[1] for part in parts])
    agree((sum(part[0] for part in parts), gradient), whole)


def test_terms_are_the_divergence_and_log_prob_of_each_token():
    student, contexts, head, weight = case()
    tokens = torch.randint(V, (N,))
    for temperature in (1.0, 2.0):
        terms = chunked_terms(
            student,
            contexts,
            head,
            weight,
            tokens,
            target=TeacherTarget(),
            divergence=JSD(),
            temperature=temperature,
            chunk_rows=4,
        )
        logs = [
            (head(hidden) / temperature).log_softmax(-1)
            for hidden in (student, contexts["teacher"])
        ]
        torch.testing.assert_close(terms.divergence_N, JSD()(*logs))
        untempered = head(student).log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
        torch.testing.assert_close(terms.log_prob_N, untempered)
        torch.testing.assert_close(terms.loss, terms.divergence_N @ weight)


def test_bfloat16_states_are_computed_in_float32():
    inputs = case(dtype=torch.bfloat16)
    wide = [x.double() for x in (inputs[0], inputs[3])]
    head = nn.Linear(D, V, bias=False).double()
    head.weight.data = inputs[2].weight.double()
    expected = naive(
        wide[0], {k: v.double() for k, v in inputs[1].items()}, head, wide[1], PMITarget(), JSD()
    )
    loss, gradient = chunked(*inputs[:3], inputs[3].float(), PMITarget(), JSD())
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        gradient.double(), expected[1], rtol=2**-8, atol=1e-6
    )  # one rounding to bfloat16


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


def large_case(N: int, head_kind: str, dtype: torch.dtype = torch.float32):
    """A vocabulary so large that whatever has its rows stands out."""
    D, V = 4, 4096
    linear = nn.Linear(D, V, bias=False, dtype=dtype).requires_grad_(False)
    head = linear if head_kind == "linear" else lambda hidden: 3 * torch.tanh(linear(hidden) / 3)
    contexts = {name: torch.randn(N, D, dtype=dtype) for name in ("teacher", "reference", "base")}
    student, weight = torch.randn(N, D, dtype=dtype).requires_grad_(), torch.ones(N)

    def work():
        options = {"target": PMITarget(), "divergence": JSD(), "kernels": Eager(), "chunk_rows": 16}
        chunked_loss(student, contexts, head, weight, **options).backward()

    return work, 16 * V * 4


@pytest.mark.parametrize(("head_kind", "buffers"), [("linear", 6), ("general", 11)])
def test_memory_above_the_inputs_is_a_few_chunks_however_many_tokens(head_kind, buffers):
    peaks = []
    for N in (32, 512):
        work, buffer = large_case(N, head_kind)
        peaks.append(peak_bytes(work))
    assert buffer < peaks[0] < buffers * buffer
    assert (
        peaks[1] < peaks[0] + buffer / 4
    )  # the [N, D] results; 480 more rows of logits would be 30 buffers


def test_a_bfloat16_head_is_never_copied_whole():
    D, V = 512, 32_768  # 64 MiB when widened
    head = nn.Linear(D, V, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    hidden = {name: torch.randn(2, D, dtype=torch.bfloat16) for name in ("teacher", "student")}

    def work():
        chunked_loss(
            *(hidden["student"], {"teacher": hidden["teacher"]}, head, torch.ones(2)),
            **{"target": TeacherTarget(), "divergence": JSD(), "kernels": Eager()},
        )

    assert peak_bytes(work) < 4 * V * D * 0.75


def test_without_a_graph_it_is_a_plain_number():
    student, contexts, head, weight = case()
    loss = chunked_loss(student, contexts, head, weight, target=PMITarget(), divergence=JSD())
    assert not loss.requires_grad
    torch.testing.assert_close(loss, naive(student, contexts, head, weight, PMITarget(), JSD())[0])


def test_wrong_inputs_say_what_is_wrong():
    student, contexts, head, weight = case()
    options = {"target": PMITarget(), "divergence": JSD()}
    with pytest.raises(ValueError, match="chunk_rows must be at least 1, got 0"):
        chunked_loss(student, contexts, head, weight, chunk_rows=0, **options)
    with pytest.raises(
        ValueError,
        match="PMITarget needs the hidden states of teacher, reference, base; got teacher",
    ):
        chunked_loss(student, {"teacher": contexts["teacher"]}, head, weight, **options)
    with pytest.raises(ValueError, match="the head is on meta, the student's hidden states on cpu"):
        chunked_loss(student, contexts, nn.Linear(D, V, device="meta"), weight, **options)
    with pytest.raises(
        ValueError, match=r"contexts_ND\['base'\] is on meta, the student's hidden states on cpu"
    ):
        chunked_loss(
            student, contexts | {"base": contexts["base"].to("meta")}, head, weight, **options
        )
    with pytest.raises(
        ValueError, match=r"contexts_ND\['base'\] has shape \[12, 8\], the student \[13, 8\]"
    ):
        chunked_loss(student, contexts | {"base": student[1:]}, head, weight, **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_states_that_are_not_finite_are_counted_not_trained_on(bad):
    student, contexts, head, weight = case()
    contexts["teacher"][[3, 7]] = bad
    with pytest.raises(FloatingPointError, match=r"2 of 13 completion tokens .*the first is row 3"):
        chunked_loss(
            student.requires_grad_(), contexts, head, weight, target=PMITarget(), divergence=JSD()
        )
