"""Settings: strict, from YAML and from the command line alike, and back."""

from pathlib import Path

import pytest
import yaml

from purified_opsd.data.dataset import AnswerOnly, Columns, TrainingSet
from purified_opsd.errors import SettingsError
from purified_opsd.objective.averaging import TokenMean
from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.recipes import RECIPES, find_recipe
from purified_opsd.sampling.engines import HF, VLLMServers
from purified_opsd.settings.build import (
    build,
    merge,
    override,
    to_mapping,
    to_yaml,
)
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.training.config import TrainingConfig, new_config
from purified_opsd.training.optimizer import Cosine

BARE = {"model": "some/model", "data": "file.jsonl", "output_dir": "runs/x"}


def config_of(settings) -> TrainingConfig:
    return build(TrainingConfig, settings)


def config_with(*words: str, start=BARE) -> TrainingConfig:
    return config_of(override(TrainingConfig, start, words))


def test_defaults_are_the_papers():
    run = config_of(BARE)
    assert run.target == PMITarget(beta=1.0, clip=10.0)
    assert run.divergence == JSD(0.5)
    assert (run.steps, run.batch_size, run.sampling.max_new_tokens, run.checkpoint_every) == (
        200,
        32,
        1024,
        50,
    )
    assert (run.adapter.rank, run.optimizer.learning_rate, run.optimizer.max_grad_norm) == (
        64,
        5e-6,
        0.1,
    )
    assert run.arm == "pmi"


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_survives_yaml(name):
    assert config_of(yaml.safe_load(to_yaml(RECIPES[name]))) == RECIPES[name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--decompose-per-step", "-1"), "decompose_per_step must be at least 0, got -1"),
        (
            ("--decompose-per-step", "2", "--sharding", "fsdp2"),
            "takes a base that is whole in each process",
        ),
        (("--markers", "wait,"), "markers holds an empty one"),
    ],
)
def test_what_is_watched_is_checked(words, said):
    with pytest.raises(SettingsError, match=said):
        config_with(*words)
    assert config_with("--markers", "let me think", "so").markers == ("let me think", "so")


def test_yaml_and_command_line_say_the_same(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "model: some/model\ndata: {path: file.jsonl, columns: {problem: q}, reference: "
        "answer-only}\noutput_dir: runs/x\n"
        "target: {kind: pmi, beta: 2}\noptimizer: {learning_rate: 1e-4}\ndivergence: reverse-kl\n"
        "schedule: {kind: cosine, warmup_steps: 5}\n"
        "averaging: token-mean\ntrackers: [wandb, tensorboard]\nsteps: 7\nprompts: {thinking: "
        "false}\n"
    )
    words = (
        "--data.columns.problem q --data.reference answer-only --target.beta 2 "
        "--optimizer.learning-rate 1e-4 --divergence reverse-kl --schedule.kind cosine "
        "--schedule.warmup-steps 5 --averaging token-mean --trackers wandb tensorboard --steps 7 "
        "--prompts.thinking false"
    )
    run = config_of(read_yaml(file))
    assert config_with(*words.split()) == run
    assert config_with(*words.split(), start=to_mapping(config_of(BARE))) == run
    assert run.target == PMITarget(beta=2.0)
    assert run.divergence == ReverseKL()
    assert run.schedule == Cosine(5)
    assert run.averaging == TokenMean()
    assert run.optimizer.learning_rate == 1e-4
    assert run.data.columns == Columns(problem="q")
    assert run.data.reference == AnswerOnly()
    assert run.trackers == ("wandb", "tensorboard")
    assert run.prompts.thinking is False


def test_a_new_kind_starts_its_section_anew():
    mapping = to_mapping(find_recipe("qwen3-8b.dasd.pmi"))
    assert config_with("--target", "teacher", start=mapping).target == TeacherTarget()
    assert config_with("--target.kind", "teacher", start=mapping).arm == "standard"
    assert config_with("--target.clip", "5", start=mapping).target == PMITarget(clip=5.0)


def test_another_data_set_forgets_what_described_the_former():
    mapping = to_mapping(find_recipe("qwen3-4b.dasd.standard"))
    run = config_of(merge(TrainingConfig, mapping, {"data": "mine.jsonl", "model": "mine"}))
    assert (run.data.path, run.data.config, run.data.where, run.data.subset) == (
        "mine.jsonl",
        None,
        {},
        None,
    )
    assert run.model.path == "mine"
    kept = config_with("--data.path", "mine.jsonl", start=mapping)
    assert kept.data.subset == 10_000


def test_servers_are_named_one_or_several():
    words = ("--sampler.kind", "vllm-server", "--sampler.urls", "http://a:1", "http://b:1")
    run = config_with(*words)
    assert run.sampler == VLLMServers(("http://a:1", "http://b:1"))
    assert config_of(yaml.safe_load(to_yaml(run))) == run
    assert config_with(*words[:4]).sampler == VLLMServers(("http://a:1",))
    assert config_with().sampler == HF()


def test_words_after_an_equals_sign_and_null():
    run = config_with(
        "--optimizer.learning-rate=2e-5", "--chunk-rows", "64", "--target.center-rows=null"
    )
    assert run.optimizer.learning_rate == 2e-5
    assert run.chunk_rows == 64
    assert run.target == PMITarget()


WRONG = {
    "an unknown key": (
        ["--learning-rate", "1"],
        "no setting learning_rate. Did you mean optimizer.learning_rate?",
    ),
    "a slip in a section": (
        ["--target.betta", "1"],
        "no setting target.betta. Did you mean target.beta?",
    ),
    "a slip at the top": (["--batchsize", "1"], "no setting batchsize. Did you mean batch_size?"),
    "a key of another kind": (
        ["--target", "teacher", "--divergence.weigt", "1"],
        "Did you mean divergence.weight?",
    ),
    "an unknown kind": (
        ["--target.kind", "pmii"],
        "target.kind must be one of pmi, teacher, got 'pmii'. Did you mean pmi?",
    ),
    "no number": (["--steps", "many"], "steps: .*valid integer.*got 'many'"),
    "no choice": (
        ["--model.dtype", "int8"],
        "model.dtype: .*'auto', 'bfloat16' or 'float32', got 'int8'",
    ),
    "impossible": (["--divergence.weight", "1"], "strictly between 0 and 1, got 1.0"),
    "zero steps": (["--steps", "0"], "steps must be at least 1, got 0"),
    "no value": (["--steps"], "--steps has no value. Write --steps VALUE"),
    "no name": (["steps", "3"], "'steps' belongs to no setting"),
    "a kind and its settings": (
        ["--sampler", "vllm-server", "--sampler.urls", "http://a:1"],
        "follows a short form of sampler; write --sampler.kind for that one",
    ),
    "settings and then a kind": (
        ["--sampler.urls", "http://a:1", "--sampler", "vllm-server"],
        "--sampler is a short form after settings of sampler; write --sampler.kind",
    ),
    "a section as a word": (["--optimizer", "adam"], "There is no setting optimizer.kind"),
    "an unknown tracker": (
        ["--trackers", "mlflow"],
        "trackers.0: .*'tensorboard', 'wandb' or 'trackio', got 'mlflow'",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_named(name):
    words, message = WRONG[name]
    with pytest.raises(SettingsError, match=message):
        config_with(*words)


def test_missing_settings_are_asked_for():
    with pytest.raises(
        SettingsError,
        match="The setting model is missing. Add it to the YAML file, or give it as --model VALUE",
    ):
        config_of({"data": "x", "output_dir": "y"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"- 1", "holds a list, not settings"),
        (b"\xff\xfe\x00", "is not YAML"),
    ],
)
def test_files_that_hold_no_settings(tmp_path, content, message):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_yaml(tmp_path / "x.yaml")


def test_a_file_that_is_not_there():
    with pytest.raises(SettingsError, match="gone.yaml cannot be read: No such file"):
        read_yaml(Path("gone.yaml"))


def test_the_cells_of_table_1_and_the_ablations_are_there():
    models, sets, arms = (
        ("qwen3-8b", "qwen3-4b", "r1-distill-7b", "olmo3-7b-think"),
        ("dasd", "math-cot"),
        ("pmi", "standard"),
    )
    for name in (f"{m}.{d}.{a}" for m in models for d in sets for a in arms):
        run = find_recipe(name)
        assert run.arm == ("pmi" if name.endswith("pmi") else "standard")
        assert (run.steps, run.batch_size, run.sampling.max_new_tokens, run.checkpoint_every) == (
            200,
            32,
            1024,
            50,
        )
    assert [find_recipe(f"qwen3-8b.math-cot.pmi-clip-{c}").target for c in (5, 10, 20)] == [
        PMITarget(clip=c * 1.0) for c in (5, 10, 20)
    ]
    assert [
        find_recipe(f"r1-distill-7b.math-cot.pmi-beta-{b:g}").target.beta for b in (0.5, 1, 2)
    ] == [0.5, 1.0, 2.0]
    upstream = find_recipe("qwen3-8b.openthoughts.upstream")
    assert (upstream.divergence, upstream.loss_temperature, upstream.target) == (
        ForwardKL(),
        1.1,
        TeacherTarget(),
    )


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(
        SettingsError,
        match=r"no recipe 'qwen3-8b.mathcot.pmi'.*Did you mean qwen3-8b.math-cot.pmi\?",
    ):
        find_recipe("qwen3-8b.mathcot.pmi")


def test_a_short_form_in_yaml_keeps_its_word_under_dotted_settings():
    config = config_with("--data.subset", "5", "--model.dtype", "float32", start=BARE)
    assert (config.data.path, config.data.subset) == ("file.jsonl", 5)
    assert (config.model.path, config.model.dtype) == ("some/model", "float32")
    start = BARE | {"schedule": "cosine"}
    assert config_with("--schedule.warmup-steps", "3", start=start).schedule == Cosine(3)


def test_the_default_kind_may_be_named_without_losing_its_settings():
    start = BARE | {"target": {"beta": 2}}
    assert config_with("--target.kind", "pmi", start=start).target == PMITarget(beta=2.0)


def test_a_section_without_a_kind_is_of_the_default_kind():
    assert config_with("--target.clip", "5").target == PMITarget(clip=5.0)
    assert config_of(BARE | {"divergence": {"weight": 0.3}}).divergence == JSD(0.3)


def test_a_file_and_settings_of_it_in_any_order():
    words = ["--data", "x.jsonl"], ["--data.columns.problem", "q", "--data.where.kind", "1"]
    for ordered in ([*words[0], *words[1]], [*words[1], *words[0]]):
        config = config_with("--data.columns.solution", "s", "--data.where.old", "2")
        assert config.data.columns == Columns(solution="s")
        settings = override(TrainingConfig, to_mapping(config), ordered)
        data = build(TrainingConfig, settings).data
        assert data == TrainingSet("x.jsonl", columns=Columns("q"), where={"kind": "1"})


def test_local_paths_become_absolute_and_hub_ids_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    model = {"path": "weights", "trust_remote_code_of": "weights"}
    config = new_config(BARE | {"model": model, "data": "org/set"})
    assert config.model.path == config.model.trust_remote_code_of == str(tmp_path / "weights")
    assert config.data.path == "org/set"
    home = new_config(BARE | {"output_dir": "~/runs/x"})
    assert home.output_dir == Path.home() / "runs" / "x"


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["q_proj"], ("q_proj",)),
        (["q_proj", "v_proj"], ("q_proj", "v_proj")),
        (["q_proj,v_proj"], ("q_proj", "v_proj")),
        (["null"], None),
    ],
)
def test_a_list_that_may_be_null_is_written_like_any_other(words, targets):
    start = {"model": "m", "data": "d", "output_dir": "o", "adapter": {"targets": ["o_proj"]}}
    settings = override(TrainingConfig, start, ["--adapter.targets", *words])
    assert build(TrainingConfig, settings).adapter.targets == targets
