"""Completions by vLLM inside this process.  The only file that imports vllm, and only when an
engine is opened.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig

from purified_opsd.errors import ModelError
from purified_opsd.policy.model import Model, Policy, frozen
from purified_opsd.policy.turn_end import eos_ids

from .engines import VLLM
from .logprob_check import GREEDY, TOP, LogProbCheck, logprob_check_of
from .sampler import Completion, Ids, Sampler, Sampling
from .vllm_api import INSTALL_VLLM
from .weight_sync import AdapterPublisher

if TYPE_CHECKING:
    from vllm import LLM  # pyright: ignore[reportMissingImports]

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM knows for max_lora_rank."""

ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
"""The engine runs in this very process and says only what matters, unless the environment says
otherwise.
"""


def open_engine(
    settings: VLLM, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
) -> "VLLMSampler":
    """Raises ModelError where vLLM is not installed, cannot load the base, or loads another."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        raise ModelError(
            "sampler.kind vllm is for one process, and this run has several. Start servers "
            "with `purified-opsd serve` and give --sampler.kind vllm-server --sampler.urls URL "
            "URL."
        )
    engine = _start_engine(settings, model, policy, sampling, longest_prompt)
    publisher = AdapterPublisher(settings.directory, policy.model)
    return VLLMSampler(engine, policy, sampling, publisher)


class VLLMSampler(Sampler):
    """Draws with an engine that holds the base; at every sync the engine loads the adapter as a new
    one, and never merges it.
    """

    def __init__(
        self, engine: "LLM", policy: Policy, sampling: Sampling, publisher: AdapterPublisher
    ):
        self.engine = engine
        self.policy = policy
        self.sampling = sampling
        self.publisher = publisher
        self.eos: list[int] = eos_ids(policy.base)
        self.sleeps = policy.model.device.type == "cuda"
        self.awake = True
        self.adapter: Any = None
        """vLLM's name, number and folder of the version that is served; None: the base."""
        with frozen(policy.model):
            check = logprob_check_of(policy)
            self._check_log_probs(check, "another base model, or this one in another dtype")

    def sync(self, step: int) -> None:
        """Has the engine load the adapter under a name and a number that it has not had.  Raises
        ModelError.
        """
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        # 1. The adapter as files; nothing else is to be done where it is the one that is served.
        version, before = self.publisher.publish(self.policy.model), self.adapter
        if before and before.lora_name == version.name:
            return
        self._wake()
        # 2. vLLM keeps the weights of a number that it has had, so each version has its own.
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
        # 3. The engine lists it, and its log-probs are the trainer's.
        if number not in self.engine.llm_engine.list_loras():
            raise ModelError(
                f"vLLM says that it has loaded the adapter of step {step}, and does not list it."
            )
        check = logprob_check_of(self.policy)
        self._check_log_probs(check, "a stale adapter, or none at all")

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        self._wake()
        parameters = [self._parameters(self.sampling, seed, top=0) for seed in seeds]
        outputs = self._run(prompts, parameters)
        if self.sleeps:  # the card is the trainer's until the next rollout
            self.engine.sleep(level=1)
            self.awake = False
        return [self._completion(output) for output in outputs]

    def _wake(self) -> None:
        if not self.awake:
            self.engine.wake_up()
            self.awake = True

    def _run(self, prompts: Sequence[Ids], parameters: Sequence[Any]) -> list[Any]:
        ids = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        results = self.engine.generate(
            cast(Any, ids), list(parameters), use_tqdm=False, lora_request=self.adapter
        )
        return [result.outputs[0] for result in results]

    def _parameters(self, sampling: Sampling, seed: int, top: int) -> Any:
        """vLLM's sampling parameters, with the log-probs of the `top` likeliest tokens."""
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
        steps = zip(output.token_ids, output.logprobs, strict=True)
        log_probs = [by_token[token].logprob for token, by_token in steps]
        reason = "stop" if output.finish_reason == "stop" else "length"
        return Completion(list(output.token_ids), log_probs, reason)

    def _check_log_probs(self, check: LogProbCheck, problem: str) -> None:
        """Raises ModelError where the engine's log-probs of the token after a fixed text are not
        the trainer's.
        """
        (output,) = self._run([check.prompt], [self._parameters(GREEDY, 0, TOP)])
        first = output.logprobs[0]
        check.check(
            {token: entry.logprob for token, entry in first.items()}, f"vLLM serves {problem}"
        )


def _start_engine(
    settings: VLLM, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
) -> "LLM":
    if find_spec("vllm") is None:
        raise ModelError(f"vllm is not installed: {INSTALL_VLLM}, or sample with --sampler hf.")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    adapter = cast(LoraConfig, policy.model.peft_config["default"])
    rank = lora_rank(adapter.r)
    cpu = policy.model.device.type == "cpu"
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
    """The smallest max_lora_rank of vLLM's that an adapter of this rank fits into.  Raises
    ModelError.
    """
    sufficient = [known for known in LORA_RANKS if known >= rank]
    if not sufficient:
        raise ModelError(
            f"vLLM takes adapters up to rank {LORA_RANKS[-1]}, and adapter.rank is {rank}. Sample "
            "with --sampler hf."
        )
    return sufficient[0]
