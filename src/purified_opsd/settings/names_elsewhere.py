"""What other trainers call things (TRL, transformers, PEFT, verl, vLLM), and what it is here.

Data alone: a name written with underscores, the settings that do it here, and what is to be known
of them.  Where there is no such setting the list is empty, and the remark says why.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Here(NamedTuple):
    """The settings that do here what a name does elsewhere."""

    settings: tuple[str, ...] = ()
    remark: str = ""


_BATCH = Here(("batch_size",), "It counts the questions of a step over all processes.")
_DTYPE = Here(("model.dtype",), "It takes auto, bfloat16 or float32.")
_EPOCHS = Here(("steps",), "A run is steps x batch_size questions long; nothing counts epochs.")
_EVALUATION = Here(("evaluation.every",), "In steps; evaluation.benchmarks names what is asked.")
_GENERATIONS = Here((), "Each question of a step has one completion; batch_size counts both.")
_GPUS = Here((), "How many processes there are is the launcher's: torchrun --nproc-per-node N.")
_LAYOUT = Here(("sharding",), "It takes replicated or fsdp2.")
_LENGTH = Here(("prompts.max_tokens", "sampling.max_new_tokens"))
_LORA_ONLY = Here(
    ("adapter.rank", "adapter.targets"),
    "Only a LoRA adapter is trained: the frozen base is the teacher too.",
)
_LOSS = Here(("divergence", "target"))
_METRICS = Here((), "Every step is recorded, in metrics.jsonl of the run.")
_MICRO_BATCH = Here(
    ("micro_batch_tokens",), "A step is split by tokens, and no split changes its gradient."
)
_NO_PENALTY = Here(
    ("target.beta",), "The loss has no penalty; a larger beta keeps the target near the base."
)
_PACKED = Here((), "Sequences are batched by length up to micro_batch_tokens.")
_QUANTIZED = Here((), "The base is held in the dtype of model.dtype; it is never quantized.")
_RESUME = Here((), "A run goes on with `purified-opsd resume RUN`.")
_SAVE = Here(("checkpoint_every",), "In steps.")
_TEACHER = Here(
    ("model.path",), "The teacher is the frozen base itself, shown the reference in its prompt."
)
_TRACKER = Here(("trackers",), "It takes tensorboard, wandb and trackio.")
_VLLM = Here(("sampler",), "It takes hf, vllm or vllm-server.")

SETTINGS_ELSEWHERE: Mapping[str, Here] = {
    # learning
    "lr": Here(("optimizer.learning_rate",)),
    "adam_beta1": Here(("optimizer.beta1",)),
    "adam_beta2": Here(("optimizer.beta2",)),
    "adam_epsilon": Here(("optimizer.epsilon",)),
    "eps": Here(("optimizer.epsilon",)),
    "wd": Here(("optimizer.weight_decay",)),
    "grad_clip": Here(("optimizer.max_grad_norm",)),
    "clip_grad": Here(("optimizer.max_grad_norm",)),
    "gradient_clip_val": Here(("optimizer.max_grad_norm",)),
    "optim": Here(("optimizer.learning_rate",), "The optimizer is always AdamW."),
    "lr_scheduler": Here(("schedule",), "It takes constant, linear or cosine."),
    "lr_scheduler_type": Here(("schedule",), "It takes constant, linear or cosine."),
    "scheduler": Here(("schedule",), "It takes constant, linear or cosine."),
    "warmup": Here(("schedule.warmup_steps",)),
    "warmup_ratio": Here(("schedule.warmup_steps",), "In steps, not as a share."),
    "lr_warmup_steps": Here(("schedule.warmup_steps",)),
    "max_steps": Here(("steps",)),
    "num_steps": Here(("steps",)),
    "train_steps": Here(("steps",)),
    "total_steps": Here(("steps",)),
    "total_training_steps": Here(("steps",)),
    "epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "num_train_epochs": _EPOCHS,
    "total_epochs": _EPOCHS,
    "random_seed": Here(("seed",)),
    "data_seed": Here(("seed",)),
    # batches
    "batch": _BATCH,
    "bs": _BATCH,
    "train_batch_size": _BATCH,
    "per_device_train_batch_size": _BATCH,
    "ppo_mini_batch_size": _BATCH,
    "gradient_accumulation_steps": _MICRO_BATCH,
    "micro_batch_size": _MICRO_BATCH,
    "ppo_micro_batch_size_per_gpu": _MICRO_BATCH,
    "ppo_max_token_len_per_gpu": _MICRO_BATCH,
    "per_device_eval_batch_size": Here(("evaluation.sampling.batch_size",)),
    "eval_batch_size": Here(("evaluation.sampling.batch_size",)),
    "num_generations": _GENERATIONS,
    "group_size": _GENERATIONS,
    "n": _GENERATIONS,
    "rollout_n": _GENERATIONS,
    "packing": _PACKED,
    # lengths
    "max_completion_length": Here(("sampling.max_new_tokens",)),
    "max_response_length": Here(("sampling.max_new_tokens",)),
    "response_length": Here(("sampling.max_new_tokens",)),
    "max_prompt_length": Here(("prompts.max_tokens",)),
    "prompt_length": Here(("prompts.max_tokens",)),
    "max_length": _LENGTH,
    "max_seq_len": _LENGTH,
    "max_seq_length": _LENGTH,
    "max_model_len": _LENGTH,
    # adapter
    "lora": _LORA_ONLY,
    "lora_r": Here(("adapter.rank",)),
    "lora_rank": Here(("adapter.rank",)),
    "r": Here(("adapter.rank",)),
    "lora_alpha": Here(("adapter.alpha",)),
    "lora_dropout": Here(("adapter.dropout",)),
    "target_modules": Here(("adapter.targets",)),
    "lora_target_modules": Here(("adapter.targets",)),
    "use_peft": _LORA_ONLY,
    "use_lora": _LORA_ONLY,
    "full": _LORA_ONLY,
    "full_finetuning": _LORA_ONLY,
    "finetuning_type": _LORA_ONLY,
    # loss
    "loss": _LOSS,
    "loss_type": _LOSS,
    "kl": Here(("divergence",), "It takes jsd, forward-kl or reverse-kl."),
    "jsd": Here(("divergence",), "It takes jsd, forward-kl or reverse-kl."),
    "jsd_weight": Here(("divergence.weight",), "GKD calls it beta."),
    "kl_coef": _NO_PENALTY,
    "kl_beta": _NO_PENALTY,
    "kl_loss_coef": _NO_PENALTY,
    "lmbda": Here((), "Every completion is the student's own, as in GKD with lmbda = 1."),
    "opsd": Here(("target",), "Standard OPSD is the target teacher; the purified one is pmi."),
    "standard": Here(("target",), "Standard OPSD is the target teacher; the purified one is pmi."),
    "purified": Here(("target",), "The purified target is pmi; standard OPSD is teacher."),
    "pmi": Here(("target",), "The purified target is pmi; standard OPSD is teacher."),
    "arm": Here(("target",), "The purified target is pmi; standard OPSD is teacher."),
    "teacher": _TEACHER,
    "teacher_model": _TEACHER,
    "teacher_model_name_or_path": _TEACHER,
    "ref_model": _TEACHER,
    "reference_model": _TEACHER,
    "temp": Here(("sampling.temperature",)),
    # model
    "model_name": Here(("model.path",)),
    "model_path": Here(("model.path",)),
    "model_name_or_path": Here(("model.path",)),
    "base_model": Here(("model.path",)),
    "pretrained_model_name_or_path": Here(("model.path",)),
    "model_revision": Here(("model.revision",)),
    "attn": Here(("model.attention",)),
    "attn_implementation": Here(("model.attention",)),
    "torch_dtype": _DTYPE,
    "precision": _DTYPE,
    "bf16": _DTYPE,
    "fp16": _DTYPE,
    "fp32": _DTYPE,
    "trust_remote_code": Here(("model.trust_remote_code_of",), "It repeats model.path."),
    "load_in_4bit": _QUANTIZED,
    "load_in_8bit": _QUANTIZED,
    "quantization": _QUANTIZED,
    "enable_thinking": Here(("prompts.thinking",)),
    "chat_template": Here(("prompts.template",), "It takes a file."),
    "chat_template_path": Here(("prompts.template",), "It takes a file."),
    "system_prompt": Here(("prompts.system",)),
    "system_message": Here(("prompts.system",)),
    # data
    "dataset": Here(("data.path",)),
    "dataset_name": Here(("data.path",)),
    "dataset_path": Here(("data.path",)),
    "data_path": Here(("data.path",)),
    "train_file": Here(("data.path",)),
    "train_files": Here(("data.path",)),
    "dataset_config": Here(("data.config",)),
    "dataset_split": Here(("data.split",)),
    "dataset_train_split": Here(("data.split",)),
    "max_samples": Here(("data.subset",)),
    "max_train_samples": Here(("data.subset",)),
    "prompt_column": Here(("data.columns.problem",)),
    "question_column": Here(("data.columns.problem",)),
    "response_column": Here(("data.columns.solution",)),
    "answer_column": Here(("data.columns.answer",)),
    # sampler
    "vllm": _VLLM,
    "use_vllm": _VLLM,
    "vllm_mode": _VLLM,
    "vllm_server_host": Here(("sampler.urls",)),
    "vllm_server_base_url": Here(("sampler.urls",)),
    "vllm_gpu_memory_utilization": Here(("sampler.memory_fraction",)),
    "gpu_memory_utilization": Here(("sampler.memory_fraction",)),
    # records
    "report_to": _TRACKER,
    "logger": _TRACKER,
    "log_with": _TRACKER,
    "wandb": _TRACKER,
    "tensorboard": _TRACKER,
    "logging_steps": _METRICS,
    "log_every": _METRICS,
    "run_name": Here(("output_dir",), "A run is known by its folder's name."),
    "experiment_name": Here(("output_dir",), "A run is known by its folder's name."),
    "out": Here(("output_dir",)),
    "output": Here(("output_dir",)),
    "output_path": Here(("output_dir",)),
    "save_dir": Here(("output_dir",)),
    "default_local_dir": Here(("output_dir",)),
    "save_total_limit": Here(("keep_checkpoints",)),
    "max_actor_ckpt_to_keep": Here(("keep_checkpoints",)),
    "save_steps": _SAVE,
    "save_freq": _SAVE,
    "save_every": _SAVE,
    "save_strategy": _SAVE,
    "checkpoint_steps": _SAVE,
    "eval_steps": _EVALUATION,
    "eval_freq": _EVALUATION,
    "eval_every": _EVALUATION,
    "eval_strategy": _EVALUATION,
    "evaluation_strategy": _EVALUATION,
    "test_freq": _EVALUATION,
    "resume": _RESUME,
    "resume_from_checkpoint": _RESUME,
    # processes and kernels
    "deepspeed": _LAYOUT,
    "fsdp": _LAYOUT,
    "fsdp_config": _LAYOUT,
    "ddp": _LAYOUT,
    "strategy": _LAYOUT,
    "zero_stage": _LAYOUT,
    "gpus": _GPUS,
    "devices": _GPUS,
    "num_gpus": _GPUS,
    "num_processes": _GPUS,
    "nproc_per_node": _GPUS,
    "compile": Here(("kernels",), "It takes compiled or eager."),
    "torch_compile": Here(("kernels",), "It takes compiled or eager."),
    "use_liger_kernel": Here(("kernels",), "It takes compiled or eager."),
}

KINDS_ELSEWHERE: Mapping[str, str] = {
    "kl": "forward-kl",
    "fkl": "forward-kl",
    "forward": "forward-kl",
    "rkl": "reverse-kl",
    "reverse": "reverse-kl",
    "js": "jsd",
    "jensen-shannon": "jsd",
    "generalized-jsd": "jsd",
    "gkd": "jsd",
    "opsd": "teacher",
    "opsd-standard": "teacher",
    "standard": "teacher",
    "opsd-pmi": "pmi",
    "purified": "pmi",
    "purified-opsd": "pmi",
    "cosine-with-warmup": "cosine",
    "warmup-cosine": "cosine",
    "linear-with-warmup": "linear",
    "constant-with-warmup": "constant",
    "fsdp": "fsdp2",
    "full-shard": "fsdp2",
    "zero3": "fsdp2",
    "deepspeed": "fsdp2",
    "ddp": "replicated",
    "none": "replicated",
    "no-shard": "replicated",
    "transformers": "hf",
    "huggingface": "hf",
    "colocate": "vllm",
    "server": "vllm-server",
    "servers": "vllm-server",
    "vllm-servers": "vllm-server",
    "inductor": "compiled",
    "torch-compile": "compiled",
    "liger": "compiled",
    "triton": "compiled",
    "sequence": "sequence-mean",
    "seq-mean-token-mean": "sequence-mean",
    "token": "token-mean",
    "answer": "answer-only",
    "solution": "whole-solution",
    "full": "whole-solution",
}
"""Kinds by what they are called elsewhere, with dashes."""

SECTIONS_ELSEWHERE: Mapping[str, str] = {
    "adapter": "Only LoRA is trained: the base stays frozen, for it is the teacher too. More of "
    "the model is reached by a larger adapter.rank and by adapter.targets all-linear.",
    "optimizer": "For AdamW's own settings write --optimizer.learning-rate 1e-5, say.",
}
"""What to know of a section that has one class only, for who asks for another."""
