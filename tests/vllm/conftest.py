"""The real vLLM, on the CPU: an engine in this process, and servers on the loopback.  Fails where
vLLM is missing.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_API_KEY": "a-key-of-the-tests",
}

import httpx
import pytest
import torch
import vllm  # noqa: F401

from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.recipes import find_recipe
from purified_opsd.sampling.engines import VLLM
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.optimizer import AdamW

RUN = replace(
    find_recipe("miniature.pmi"),
    sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=40, batch_size=32),
    optimizer=AdamW(learning_rate=3e-3, max_grad_norm=1e9),
    batch_size=4,
    steps=3,
    checkpoint_every=100,
)
"""The miniature in float32, with updates large enough to be seen after a step."""

SETTINGS = (
    "--sampling.max-new-tokens",
    "40",
    "--batch-size",
    "4",
    "--optimizer.learning-rate",
    "3e-3",
)


def move(policy, seed, std=0.2):
    """Another adapter, far from the one before; that of the base for a `std` of zero."""
    torch.manual_seed(seed)
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=std)


@pytest.fixture(scope="session")
def policy():
    return load_policy(RUN.model, RUN.adapter, load_tokenizer(RUN.model), 0, torch.device("cpu"))


@pytest.fixture(scope="session")
def opened(policy):
    """The engine is started once; it takes the better part of a minute."""
    return VLLM(memory_fraction=0.05).open(RUN.model, policy, RUN.sampling, 200)


def command(*words, **environment) -> subprocess.CompletedProcess:
    """Runs `purified-opsd`."""
    line = [sys.executable, "-m", "purified_opsd.cli", *map(str, words)]
    return subprocess.run(
        line, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )


@dataclass
class Served:
    """`purified-opsd serve` in a process of its own."""

    words: tuple[str, ...] = ()
    port: int = 0

    def __post_init__(self):
        with socket.socket() as free:
            free.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # the port of one that was just killed
            free.bind(("127.0.0.1", self.port))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        words = ["serve", "miniature.pmi", "--port", str(self.port), *self.words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "purified_opsd.cli", *words], start_new_session=True
        )

    def wait(self) -> "Served":
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return self
            except httpx.TransportError:
                time.sleep(0.5)
        raise TimeoutError(f"{self.url} did not come up; exit code {self.process.poll()}")

    def names(self) -> list[str]:
        headers = {"Authorization": f"Bearer {os.environ['VLLM_API_KEY']}"}
        return [
            card["id"]
            for card in httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False).json()[
                "data"
            ]
        ]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """To the process that was started, as a supervisor would; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """As if its machine had gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def servers():
    """Two of them."""
    both = Served(), Served()
    try:
        yield [server.wait() for server in both]
    finally:
        for server in both:
            server.kill()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"
