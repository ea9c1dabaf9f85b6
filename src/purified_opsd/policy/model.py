"""One set of weights, two policies: the base with its LoRA adapter off, the student with it on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from purified_opsd.errors import ModelError

from .lm_head import GeneralHead, _output_layer, find_head


@dataclass(frozen=True)
class Model:
    """Which weights, and how they are loaded."""

    short_form: ClassVar[tuple[str, ...]] = ("path", "revision")
    """`model: X` sets the first; the other, which described the former model, is as by default."""
    path: str
    """A hub id or a local folder in Hugging Face format, with safetensors weights."""
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto`: as the weights were saved."""
    attention: str | None = None
    """transformers' attn_implementation, such as flash_attention_2; null: its own choice."""
    trust_remote_code_of: str | None = None
    """Repeats `path` to let that model, and no other, run Python code of its own."""
    gradient_checkpointing: bool = True


@dataclass(frozen=True)
class LoRA:
    """The adapter that is trained, in PEFT's terms."""

    rank: int = 64
    alpha: int = 128
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of linear layers, or `all-linear` alone."""
    dropout: float = 0.0

    def __post_init__(self):
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(
                "LoRA needs rank and alpha of at least 1, dropout in [0, 1) and a target, got "
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}, "
                f"targets={self.targets}. The paper's setting is rank 64."
            )

    def peft_config(self) -> LoraConfig:
        targets = "all-linear" if self.targets == ("all-linear",) else list(self.targets)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )


@dataclass(frozen=True)
class Policy:
    """A loaded base with its adapter."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    head: "nn.Linear | GeneralHead"
    """From last hidden states to logits."""

    @property
    def base(self) -> PreTrainedModel:
        return base_of(self.model)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in the order of the names."""
        return dict(
            sorted((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        )

    def fingerprint(self) -> str:
        """Identifies the base's weights."""
        base = sorted(self.base.state_dict().items())
        return _fingerprint(
            {
                name.replace(".base_layer", ""): tensor
                for name, tensor in base
                if "lora_" not in name
            }
        )

    def adapter_fingerprint(self) -> str:
        """Identifies what is trained, as it is now."""
        return _fingerprint(self.adapter_parameters())


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Of names, shapes and 16 evenly spaced values of every tensor."""
    digest = sha256()
    for name, tensor in tensors.items():
        flat = tensor.flatten()
        places = torch.tensor([(len(flat) - 1) * i // 15 for i in range(16)], device=flat.device)
        digest.update(
            f"{name} {list(tensor.shape)} {flat[places].float().cpu().tolist()}\n".encode()
        )
    return digest.hexdigest()


def base_of(model: PeftModel) -> PreTrainedModel:
    """The causal language model inside; its linear layers carry the adapter."""
    return cast(PreTrainedModel, model.get_base_model())


@contextmanager
def frozen(model: PeftModel) -> Iterator[None]:
    """π_0: the adapter off, no gradients, no dropout."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), model.disable_adapter():
            yield
    finally:
        model.train(training)


def load_policy(
    settings: Model,
    adapter: LoRA,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    device: torch.device,
) -> Policy:
    """The base and a fresh adapter, whose initialisation is a function of `seed`.

    Raises ModelError where the weights cannot be loaded or the adapter does not fit.
    """
    base = load_base(settings, device)
    torch.manual_seed(seed)
    try:
        model = get_peft_model(base, adapter.peft_config())
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise ModelError(
                f"PEFT refuses the adapter {adapter} on {settings.path}: {_first_line(error)}"
            ) from error
        linears = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in base.named_modules()
                if isinstance(module, nn.Linear)
            }
        )
        raise ModelError(
            f"LoRA finds no layers {', '.join(adapter.targets)} in {settings.path}, whose linear "
            f"layers are called {', '.join(linears)}. Name some of those in adapter.targets, or "
            "say all-linear."
        ) from error
    if any("lora_" in name for name, _ in _output_layer(base).named_parameters()):
        raise ModelError(
            f"adapter.targets ({', '.join(adapter.targets)}) puts LoRA on the head of "
            f"{settings.path}. Student, base, teacher and probe are compared through one head, "
            "which must therefore stay frozen. Leave the head out of adapter.targets."
        )
    if settings.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Policy(model, tokenizer, find_head(base))


def load_base(settings: Model, device: torch.device) -> PreTrainedModel:
    """The causal language model, from safetensors only; remote code stays off unless asked for by
    the model's name.
    """
    _check_folder(settings.path)
    try:
        base = AutoModelForCausalLM.from_pretrained(
            settings.path,
            revision=settings.revision,
            dtype=settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
            attn_implementation=settings.attention,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code_of == settings.path,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"The model {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error
    if base.dtype == torch.float16:
        raise ModelError(
            f"{settings.path} is in float16, in which the small gradients of this loss vanish. "
            "Load it with --model.dtype bfloat16, or float32 (evaluate: --dtype)."
        )
    return cast(PreTrainedModel, cast(nn.Module, base).to(device))


def load_tokenizer(settings: Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer.  Raises ModelError where there is none."""
    _check_folder(settings.path)
    try:
        return AutoTokenizer.from_pretrained(
            settings.path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code_of == settings.path,
        )
    except (
        Exception
    ) as error:  # whatever a foreign or damaged file makes the library raise: there is no tokenizer
        raise ModelError(
            f"The tokenizer of {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error


def saved_dtype(settings: Model) -> torch.dtype:
    """The dtype that the settings name; `auto`: the one the weights were saved in."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    config = AutoConfig.from_pretrained(
        settings.path,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code_of == settings.path,
    )
    return cast(torch.dtype, config.dtype or torch.float32)


def context_length(settings: Model) -> int:
    """Positions that the model was made for.  Raises ModelError where it has no readable
    configuration.
    """
    _check_folder(settings.path)
    try:
        config = AutoConfig.from_pretrained(
            settings.path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code_of == settings.path,
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The configuration of {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error
    text = config.get_text_config()
    if "max_position_embeddings" not in text.to_dict():
        raise ModelError(
            f"The configuration of {settings.path} does not say how long its context is: add "
            "max_position_embeddings."
        )
    return text.max_position_embeddings


_ADVICE = (
    "Give a hub id that can be reached, or a folder with config.json, model.safetensors, "
    "tokenizer.json and tokenizer_config.json. Weights in pickle format (.bin) are not read: "
    "convert them with save_pretrained."
)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _check_folder(path: str) -> None:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    files = {file.name for file in folder.iterdir()}
    missing = [name for name in ("config.json", "tokenizer_config.json") if name not in files]
    if not any(name.endswith(".safetensors") for name in files):
        missing.append("*.safetensors")
    if missing:
        raise ModelError(f"The model folder {path} has no {', '.join(missing)}. {_ADVICE}")
