"""What both losses refuse, as a user meets it: in a process without run-time type checks, which
would refuse some of it first and less helpfully.
"""

import json
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from purified_opsd.objective.chunked_loss import chunked_loss
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.targets import TeacherTarget

PROGRAM = """
import json, torch
from torch import nn
from purified_opsd.objective.chunked_loss import chunked_loss
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.kernels import Eager
from purified_opsd.objective.loss import loss_from_logits
from purified_opsd.objective.targets import PMITarget, TeacherTarget

N, D, V = 6, 4, 9
head = nn.Linear(D, V).requires_grad_(False)
settings = {"target": TeacherTarget(), "divergence": JSD()}

def chunked(x=torch.randn(N, D), head=head, weight=torch.ones(N), **other):
    contexts = {"teacher": x, "reference": x, "base": x}
    return chunked_loss(x, contexts, head, weight, **settings | other)

def full(x=torch.randn(N, V), weight=torch.ones(N), **other):
    contexts = {"teacher": x, "reference": x, "base": x}
    return loss_from_logits(x, contexts, weight, **settings | other)

trained = nn.Linear(D, V)
calls = {
    "chunked, padded": lambda: chunked(torch.randn(2, 3, D), weight=torch.ones(2, 3)),
    "full, padded": lambda: full(torch.randn(2, 3, V), weight=torch.ones(2, 3)),
    "chunked, target class": lambda: chunked(target=PMITarget),
    "full, target class": lambda: full(target=PMITarget),
    "chunked, divergence class": lambda: chunked(divergence=JSD),
    "full, divergence class": lambda: full(divergence=JSD),
    "chunked, kernels class": lambda: chunked(kernels=Eager),
    "chunked, trained head": lambda: chunked(head=trained),
    "chunked, trained function": lambda: chunked(head=lambda x: 3 * torch.tanh(trained(x) / 3)),
    "chunked, weights": lambda: chunked(weight=torch.ones(N - 1)),
    "full, weights": lambda: full(weight=torch.ones(N, 1)),
}
answers = {}
for name, call in calls.items():
    try:
        call()
        answers[name] = "accepted"
    except Exception as error:
        answers[name] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "chunked, padded",
            r"ValueError: student_ND has shape \[2, 3, 4\], and must be \[N, D\]: .* laid end to "
            r"end, so that neither padding nor .* x\[mask\], .* give N weights",
        ),
        ("full, padded", r"ValueError: student_NV has shape \[2, 3, 9\], and must be \[N, V\]: "),
        (
            "chunked, target class",
            r"TypeError: target is the class PMITarget, not an instance .* target=PMITarget\(\)",
        ),
        ("full, target class", r"TypeError: target is the class PMITarget, not an instance"),
        ("chunked, divergence class", r"TypeError: divergence is the class JSD, .*=JSD\(\)"),
        ("full, divergence class", r"TypeError: divergence is the class JSD, .*=JSD\(\)"),
        ("chunked, kernels class", r"TypeError: kernels is the class Eager, .*=Eager\(\)"),
        (
            "chunked, trained head",
            r"ValueError: The head is being trained \(its weight and its bias requires grad\), but "
            r"this loss gives a gradient to the student's hidden states alone: .*in silence\. .*"
            r"head\.requires_grad_\(False\)\. .*loss_from_logits",
        ),
        (
            "chunked, trained function",
            r"ValueError: The head is being trained \(its logits of detached hidden states require "
            r"grad\)",
        ),
        (
            "chunked, weights",
            r"ValueError: weight_N has shape \[5\], and there are 6 completion tokens: give one",
        ),
        ("full, weights", r"ValueError: weight_N has shape \[6, 1\], and there are 6 completion"),
    ],
)
def test_refused_with_what_why_and_what_to_do(answers, name, message):
    assert re.match(message, answers[name], re.DOTALL), answers[name]


@pytest.mark.parametrize("kind", ["linear", "function"])
def test_a_head_that_trains_elsewhere_is_accepted_where_no_gradient_is_taken(kind):
    states, trained = torch.randn(3, 4), nn.Linear(4, 9)
    head = trained if kind == "linear" else lambda hidden: trained(hidden)
    settings = {"target": TeacherTarget(), "divergence": JSD()}
    with torch.no_grad():
        loss = chunked_loss(states, {"teacher": states}, head, torch.ones(3), **settings)
    assert loss == 0
