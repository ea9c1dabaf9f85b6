"""Settings from YAML, recipes and the command line, checked alike; and back to YAML.

A section whose class can be chosen carries its name as `kind`: `target: {kind: pmi, beta: 1.0}`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from purified_opsd.data.dataset import AfterThink, AnswerOnly, TrainingSet, WholeSolution
from purified_opsd.distributed.fsdp import FSDP2, Replicated
from purified_opsd.evaluation.benchmarks import located_benchmark
from purified_opsd.objective.averaging import SequenceMean, TokenMean
from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.objective.kernels import Compiled, Eager
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.sampling.hf import HF
from purified_opsd.sampling.vllm_engine import VLLM
from purified_opsd.sampling.vllm_servers import VLLMServers
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.optimizer import Constant, Cosine, Linear

from .errors import SettingsError

KINDS: Mapping[str, Mapping[str, type]] = {
    "sampler": {"hf": HF, "vllm": VLLM, "vllm-server": VLLMServers},
    "target": {"pmi": PMITarget, "teacher": TeacherTarget},
    "divergence": {"jsd": JSD, "forward-kl": ForwardKL, "reverse-kl": ReverseKL},
    "averaging": {"sequence-mean": SequenceMean, "token-mean": TokenMean},
    "sharding": {"replicated": Replicated, "fsdp2": FSDP2},
    "kernels": {"compiled": Compiled, "eager": Eager},
    "schedule": {"constant": Constant, "linear": Linear, "cosine": Cosine},
    "data.reference": {
        "whole-solution": WholeSolution,
        "after-think": AfterThink,
        "answer-only": AnswerOnly,
    },
}
"""The classes a section can be of, by the section's dotted name; the first is the default."""

SHORT_FORMS: Mapping[str, Mapping[str, Any]] = {
    "model": {"path": None, "revision": None},
    "data": {
        "path": None,
        "config": None,
        "split": "train",
        "revision": None,
        "columns": None,
        "where": {},
        "subset": None,
    },
}
"""What `model: X` or `--data X` stands for: `path` is X, and what described the former model or set
is forgotten.
"""


def read_settings(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.  Raises SettingsError."""
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The settings file {file} cannot be read: {error.strerror}. Check its name."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The settings file {file} is not YAML: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(value, dict):
        raise SettingsError(
            f"The settings file {file} holds a {type(value).__name__}, not settings such as "
            "`steps: 20`."
        )
    return value


def read_overrides(words: Sequence[str]) -> dict[str, Any]:
    """`--optimizer.learning-rate 1e-4 --trackers wandb tensorboard` as nested settings; `null` is
    null.
    """
    overrides: dict[str, Any] = {}
    words = [
        part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])
    ]
    starts = [i for i, word in enumerate(words) if word.startswith("--")]
    if not words:
        return overrides
    if starts[:1] != [0]:
        raise SettingsError(
            f"'{words[0]}' belongs to no setting. Settings are written --name value, such as "
            "--steps 20."
        )
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        name, values = words[start][2:].replace("-", "_"), words[start + 1 : end]
        if not values:
            raise SettingsError(f"{words[start]} has no value. Write {words[start]} VALUE.")
        section = overrides
        *parents, leaf = name.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):  # --data FILE before --data.subset 5
                named = "path" if parent in SHORT_FORMS else "kind"
                raise SettingsError(
                    f"{words[start]} follows a short form of {parent}; write --{parent}.{named} "
                    "for that one."
                )
        section[leaf] = None if values == ["null"] else values[0] if len(values) == 1 else values
    return overrides


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the overrides put over them; another `kind` starts its section anew."""
    merged = dict(settings)
    for name, value in overrides.items():
        before = merged.get(name)
        if isinstance(value, str) and name in SHORT_FORMS:
            value = {**SHORT_FORMS[name], "path": value}
        elif isinstance(value, str) and isinstance(before, Mapping) and "kind" in before:
            value = {"kind": value}
        if (
            isinstance(value, Mapping)
            and value
            and isinstance(before, Mapping)
            and _same_kind(before, value)
        ):
            value = merge(before, value)
        merged[name] = value
    return merged


def _same_kind(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return "kind" not in after or before.get("kind") == after["kind"]


def build_run(settings: Mapping[str, Any]) -> TrainingConfig:
    """The run that the settings describe.  Raises SettingsError for an unknown key, naming the
    nearest, or an impossible value.
    """
    return _build(settings, TrainingConfig, "")


def build_training_set(settings: Mapping[str, Any]) -> TrainingSet:
    """The training set that the settings under `data` describe.  Raises SettingsError as
    `build_run` does.
    """
    return _build(settings, TrainingSet, "data")


def located(run: TrainingConfig) -> TrainingConfig:
    """The run with its local paths absolute, so that it can be resumed from anywhere."""
    model = replace(run.model, path=_absolute(run.model.path))
    if run.model.trust_remote_code_of == run.model.path:
        model = replace(model, trust_remote_code_of=model.path)
    data = replace(run.data, path=_absolute(run.data.path))
    evaluation = replace(
        run.evaluation, benchmarks=tuple(map(located_benchmark, run.evaluation.benchmarks))
    )
    return replace(
        run, model=model, data=data, evaluation=evaluation, output_dir=run.output_dir.expanduser()
    )


def _absolute(path: str) -> str:
    """The path where something is there; else the text as it was, a hub id for all we know."""
    place = Path(path).expanduser()
    return str(place.absolute()) if place.exists() else path


def to_mapping(value: Any, path: str = "") -> Any:
    """The settings as plain mappings, lists, numbers and text; `build_run` turns them back."""
    if is_dataclass(value):
        kinds = {cls: {"kind": kind} for kind, cls in KINDS.get(path, {}).items()}
        inside = {
            f.name: to_mapping(getattr(value, f.name), _join(path, f.name)) for f in fields(value)
        }
        return {**kinds.get(type(value), {}), **inside}
    if isinstance(value, Path):
        return str(value)
    return (
        list(value)
        if isinstance(value, tuple)
        else dict(value)
        if isinstance(value, Mapping)
        else value
    )


def to_yaml(run: TrainingConfig) -> str:
    return yaml.safe_dump(to_mapping(run), sort_keys=False, allow_unicode=True)


def _build(value: Any, cls: type, path: str) -> Any:
    """An instance of the settings class, its sections built first."""
    if isinstance(value, str):
        value = {**SHORT_FORMS[path], "path": value} if path in SHORT_FORMS else {"kind": value}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{path or 'the settings'} must be a section with keys, got {value!r}.")
    if path in KINDS:
        value, cls = _choose(dict(value), path)
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    unknown = [_join(path, str(key)) for key in value if key not in names]
    if unknown:
        raise SettingsError(_unknown(unknown[0], cls))
    inside = {
        name: _prepare(inner, hints[name], _join(path, name)) for name, inner in value.items()
    }
    try:
        return TypeAdapter(cls).validate_python(inside)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e, path) for e in error.errors())) from error


def _prepare(value: Any, hint: Any, path: str) -> Any:
    """Sections become instances, a single word where a list is wanted becomes a list of it."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    sections = [choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)]
    if sections and not (value is None and NoneType in choices):
        return _build(value, sections[0], path)
    if get_origin(hint) is tuple and isinstance(value, str):
        return value.split(",")
    return value


def _choose(value: dict[str, Any], path: str) -> tuple[dict[str, Any], type]:
    kinds = KINDS[path]
    kind = value.pop("kind", next(iter(kinds)))
    if kind not in kinds:
        raise SettingsError(
            f"{path}.kind must be one of {', '.join(kinds)}, got "
            f"{kind!r}.{_nearest(str(kind), list(kinds))}"
        )
    return value, kinds[kind]


def _unknown(name: str, cls: type) -> str:
    section = name.rpartition(".")[0]
    here = [_join(section, f.name) for f in fields(cls)]
    known = ", ".join(here) or f"none: {cls.__name__} has nothing to set"
    others = [other for other in [*here, *_all_names(TrainingConfig)] if other != name]
    return f"There is no setting {name}.{_nearest(name, others)} Settings of {section or 'a run'}: {known}."


def _nearest(name: str, names: Sequence[str]) -> str:
    """` Did you mean x?`, by the whole dotted name or by its last part."""
    leaf = name.rpartition(".")[2]
    same_leaf = [other for other in names if other.rpartition(".")[2] == leaf]
    by_leaf = {other.rpartition(".")[2]: other for other in names}
    close = (
        same_leaf
        or difflib.get_close_matches(name, names, 1)
        or difflib.get_close_matches(leaf, list(by_leaf), 1)
    )
    return f" Did you mean {by_leaf.get(close[0], close[0])}?" if close else ""


def _all_names(cls: type, path: str = "") -> list[str]:
    """The dotted names of all settings below a class."""
    names: list[str] = []
    for name, hint in get_type_hints(cls).items():
        if name in {f.name for f in fields(cls)}:
            choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            names.append(_join(path, name))
            for section in choices:
                if isinstance(section, type) and is_dataclass(section):
                    names += _all_names(section, _join(path, name))
    return names


def _explain(error: Any, path: str) -> str:
    name = _join(path, ".".join(str(part) for part in error["loc"]))
    if error["type"] == "missing" or error["type"] == "missing_argument":
        return f"The setting {name} is missing. Add it to the YAML file, or give it as --{name.replace('_', '-')} VALUE."
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{name}: {error['msg']}, got {error['input']!r}."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
