"""Completions by vLLM inside this process.  The only file that imports vllm, and only when an
engine is opened.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from peft import LoraConfig

from purified_opsd.errors import ModelError
from purified_opsd.policy.model import Model, Policy, frozen

from .hf import eos_ids
from .logprob_check import GREEDY, TOP, LogProbCheck, logprob_check_of
from .sampler import Completion, Ids, Sampling
from .weight_sync import AdapterPublisher

if TYPE_CHECKING:
    from vllm import LLM  # pyright: ignore[reportMissingImports]

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the highest rank of an adapter."""

ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
"""The engine runs in this very process and says only what matters, unless the environment says
otherwise.
"""


@dataclass(frozen=True)
class VLLM:
    """A vLLM engine in this process, with a copy of the base of its own."""

    kind: ClassVar[str] = "vllm"
    library: ClassVar[str] = "vllm"

    memory_fraction: float = 0.4
    """Of the GPU's memory, for the engine's base and cache; between rollouts the base waits in CPU
    memory and the card is free.
    """
    directory: Path | None = None
    """Where adapters are handed over.  null: /dev/shm where there is room."""

    def __post_init__(self):
        if not 0 < self.memory_fraction < 1:
            raise ValueError(
                f"sampler.memory_fraction must be between 0 and 1, got {self.memory_fraction}. The "
                "default is 0.4."
            )

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "VLLMSampler":
        """Raises ModelError where vLLM is not installed or cannot load the base, or where its base
        is another.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise ModelError(
                "sampler.kind vllm is for one process, and this run has several. Start servers "
                "with `purified-opsd serve` and give --sampler.kind vllm-server --sampler.urls URL "
                "URL."
            )
        engine = _engine(self, model, policy, sampling, longest_prompt)
        return VLLMSampler(engine, policy, sampling, AdapterPublisher(self.directory, policy.model))


class VLLMSampler:
    """Draws with an engine that holds the base; the adapter is handed to it as a new one at every
    sync, and never merged.
    """

    def __init__(
        self, engine: "LLM", policy: Policy, sampling: Sampling, adapters: AdapterPublisher
    ):
        self.engine, self.policy, self.sampling, self.adapters = engine, policy, sampling, adapters
        self.eos: list[int] = eos_ids(policy.model).tolist()
        self.sleeps = policy.model.device.type == "cuda"
        self.awake = True
        self.adapter: Any = None
        """vLLM's name, number and place of the version that is served; None: the base."""
        with frozen(policy.model):
            self._compare(
                logprob_check_of(policy), "another base model, or this one in another dtype"
            )

    def sync(self, step: int) -> None:
        """Has the engine load the adapter under a name and a number that it has not had.  Raises
        ModelError.
        """
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        version, before = self.adapters.write(self.policy.model), self.adapter
        if before and before.lora_name == version.name:
            return
        self._wake()
        number = before.lora_int_id + 1 if before else 1
        self.adapter = LoRARequest(version.name, number, str(version.folder))
        if before:
            self.engine.llm_engine.remove_lora(before.lora_int_id)
        try:
            self.engine.llm_engine.add_lora(self.adapter)
        except Exception as error:  # whatever vLLM makes of files that it does not like
            raise ModelError(
                f"vLLM does not load the adapter: {type(error).__name__}: {error}."
            ) from error
        if number not in self.engine.llm_engine.list_loras():
            raise ModelError(
                f"vLLM says that it has loaded the adapter of step {step}, and does not list it."
            )
        self._compare(logprob_check_of(self.policy), "a stale adapter, or none at all")

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        self._wake()
        asked = [self._parameters(self.sampling, seed, top=0) for seed in seeds]
        found = self._ask(prompts, asked)
        if self.sleeps:  # the card is the trainer's until the next rollout
            self.engine.sleep(level=1)
            self.awake = False
        return [self._completion(output) for output in found]

    def _wake(self) -> None:
        if not self.awake:
            self.engine.wake_up()
            self.awake = True

    def _ask(self, prompts: Sequence[Ids], parameters: Sequence[Any]) -> list[Any]:
        ids = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = self.engine.generate(
            cast(Any, ids), list(parameters), use_tqdm=False, lora_request=self.adapter
        )
        return [answer.outputs[0] for answer in answers]

    def _parameters(self, sampling: Sampling, seed: int, top: int) -> Any:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
            logprobs=top,
            ignore_eos=True,
            stop_token_ids=self.eos,
            detokenize=False,
        )

    def _completion(self, output: Any) -> Completion:
        log_probs = [
            found[token].logprob
            for token, found in zip(output.token_ids, output.logprobs, strict=True)
        ]
        return Completion(list(output.token_ids), log_probs, ended=output.finish_reason == "stop")

    def _compare(self, fingerprint: LogProbCheck, reason: str) -> None:
        """Raises ModelError where its log-probs of the token after a fixed text are not the
        trainer's.
        """
        (output,) = self._ask([fingerprint.prompt], [self._parameters(GREEDY, 0, TOP)])
        fingerprint.check(
            {token: found.logprob for token, found in output.logprobs[0].items()},
            f"vLLM serves {reason}",
        )


def _engine(
    settings: VLLM, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
) -> "LLM":
    if find_spec("vllm") is None:
        raise ModelError(
            "vllm is not installed: pip install 'purified-opsd[vllm]', or sample with --sampler hf."
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    rank, cpu = (
        lora_rank(cast(LoraConfig, policy.model.peft_config["default"]).r),
        policy.model.device.type == "cpu",
    )
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        return LLM(
            model.path,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code_of == model.path,
            generation_config="vllm",
            dtype=cast(Any, str(policy.base.dtype).removeprefix("torch.")),
            logprobs_mode="raw_logprobs",
            enable_lora=True,
            max_lora_rank=rank,
            max_model_len=longest_prompt + sampling.max_new_tokens,
            max_num_seqs=sampling.batch_size,
            gpu_memory_utilization=settings.memory_fraction,
            enable_sleep_mode=not cpu,
            enforce_eager=cpu,
        )
    except Exception as error:  # an engine fails to start in as many ways as there are machines
        raise ModelError(
            f"vLLM cannot load {model.path}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]} If memory is short, lower "
            "sampler.memory_fraction or sampling.batch_size; else sample with --sampler hf."
        ) from error


def lora_rank(rank: int) -> int:
    """The least highest rank that vLLM can be started with for an adapter of this rank.  Raises
    ModelError.
    """
    fits = [known for known in LORA_RANKS if known >= rank]
    if not fits:
        raise ModelError(
            f"vLLM takes adapters up to rank {LORA_RANKS[-1]}, and adapter.rank is {rank}. Sample "
            "with --sampler hf."
        )
    return fits[0]
