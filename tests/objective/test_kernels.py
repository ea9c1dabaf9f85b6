"""The compiled elementwise part, in processes of its own: against the formulas in float64, and
where no compiler works.
"""

import os
import subprocess
import sys

PROGRAM = """
import logging, torch
from torch import nn
from purified_opsd.objective.chunked_loss import chunked_loss
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.kernels import Compiled, Eager
from purified_opsd.objective.targets import PMITarget

logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
D, V = 16, 1024
head = nn.Linear(D, V, bias=False).requires_grad_(False)

def gradient(N, kernels, dtype):
    draw = torch.Generator().manual_seed(N)
    hidden = [torch.randn(N, D, generator=draw).to(dtype) for _ in range(4)]
    contexts = dict(zip(("teacher", "reference", "base"), hidden[1:]))
    options = {"target": PMITarget(), "divergence": JSD(), "kernels": kernels, "chunk_rows": 32}
    weight = torch.full((N,), 1 / N)
    chunked_loss(hidden[0].requires_grad_(), contexts, head, weight, **options).backward()
    return hidden[0].grad

for N in (35, 1, 6, 35):  # tiles of 4 rows, of 3, of 2, of 1
    found = gradient(N, Compiled(min_head_rows=0), torch.float32)
    exact = gradient(N, Eager(), torch.float64)
    assert (found - exact).norm() < 1e-5 * exact.norm(), N
    assert torch.equal(found, gradient(N, Compiled(min_head_rows=0), torch.float32))
from torch._dynamo.utils import counters
print("graphs", counters["stats"]["unique_graphs"])
"""


def run(tmp_path, **environment):
    environment = (
        os.environ
        | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        | environment
    )
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )


def test_compiled_is_the_formula_and_compiles_no_more_than_twice(tmp_path):
    done = run(tmp_path)
    assert done.stdout == "graphs 2\n"
    assert "uncompiled" not in done.stderr


def test_without_a_compiler_the_formulas_run_as_written_and_the_log_says_so_once(tmp_path):
    done = run(tmp_path, CXX="/nowhere/g++")
    assert done.stderr.count("The loss runs uncompiled") == 1
