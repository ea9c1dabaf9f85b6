"""Settings files: what YAML makes of a value by its looks is not what a setting says it is."""

import pytest
import yaml

from purified_opsd.errors import SettingsError
from purified_opsd.recipes import read_recipe
from purified_opsd.settings.build import build, override, to_mapping, to_yaml
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.training.config import TrainingConfig

BARE = "model: some/model\ndata: file.jsonl\noutput_dir: runs/x\n"


@pytest.fixture
def config_of(tmp_path):
    """Builds the settings of a file that holds `BARE` and more."""

    def read(text, *words):
        (tmp_path / "run.yaml").write_text(BARE + text)
        settings = read_yaml(tmp_path / "run.yaml")
        return build(TrainingConfig, override(TrainingConfig, settings, words))

    return read


def test_words_that_yaml_takes_for_something_else_stay_words(config_of):
    config = config_of("prompts: {thinking: off}\nevaluation:\n  benchmarks: [on, 12:30]\n")
    assert config.prompts.thinking is False
    assert config.evaluation.benchmarks == ("on", "12:30")


def test_numbers_and_dates_of_a_data_set_are_text(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "model: {path: m, revision: 0123}\noutput_dir: 7\n"
        "data: {path: d, revision: 1e5, split: 2024-01-01, where: {level: 05, ok: no, a: 1_0}}\n"
    )
    config = build(TrainingConfig, read_yaml(tmp_path / "run.yaml"))
    assert config.model.revision == "0123"
    assert (config.data.revision, config.data.split) == ("1e5", "2024-01-01")
    assert config.data.where == {"level": "05", "ok": "no", "a": "1_0"}
    assert yaml.safe_load(to_yaml(config)) == to_mapping(config)
    assert {type(value) for value in config.data.where.values()} == {str}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("+1E-4", 1e-4), ("'1e-4'", 1e-4), ("3", 3.0)],
)
def test_every_way_to_write_a_rate(config_of, text, value):
    assert config_of(f"optimizer: {{learning_rate: {text}}}").optimizer.learning_rate == value


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("1_000", 1000), ("'7'", 7)])
def test_a_whole_number_is_decimal(config_of, text, value):
    assert config_of(f"steps: {text}").steps == value


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_null_is_null(config_of, text):
    assert config_of(f"chunk_rows: {text}").chunk_rows is None


def test_quoted_null_is_text(config_of):
    assert config_of("sampler: {kind: vllm, directory: 'null'}").sampler.directory.name == "null"


def test_anchors_and_merges_work(config_of):
    config = config_of(
        "sampling: &s {top_k: 7, temperature: 1}\nevaluation: {sampling: {<<: *s, top_k: 5}}"
    )
    assert (config.sampling.top_k, config.evaluation.sampling.top_k) == (7, 5)
    assert config.evaluation.sampling.temperature == 1.0


WRONG = {
    "yes for a number": ("steps: yes", "steps: must be a valid integer .*got 'yes' .*run.yaml:4"),
    "a word": ("steps: many", "steps: must be a valid integer .*got 'many' .*run.yaml:4"),
    "a power": ("steps: 1e3", "got '1e3' .*run.yaml:4.*Write 1000"),
    "a comma": ("steps: 1,000", "got '1,000' .*run.yaml:4.*Write 1000"),
    "a fraction": ("steps: 2.5", "steps: must be a valid integer .*got '2.5'"),
    "null": ("steps: null", "steps: must be a valid integer .*got null. Leave it out"),
    "a list": ("steps: [1, 2]", "steps: must be a valid integer"),
    "no truth": ("prompts: {thinking: maybe}", "prompts.thinking: must be true or false"),
    "no choice": ("prompts: {long_reference: drop}", "must be 'cut' or 'refuse', got 'drop'"),
    "infinity": ("optimizer: {learning_rate: inf}", "learning_rate must be a finite number"),
    "YAML's infinity": ("optimizer: {learning_rate: .inf}", "learning_rate: must be a valid num"),
    "no number": ("loss_temperature: nan", "loss_temperature must be above 0, got nan"),
    "a list for a section": ("optimizer: [1]", "optimizer must be a section with keys, got"),
    "a section for a list": ("trackers: {a: b}", "trackers: must be a list, got"),
    "null for a section": ("optimizer: null", "optimizer may not be null: it is always AdamW"),
    "null for a choice": ("target: null", "one of pmi, teacher, got null. Leave it out for pmi"),
    "an unknown key": ("lr: 1", "There is no setting lr. Did you mean opt.*run.yaml:4"),
    "an unknown key within": ("target:\n  betta: 1", "target.betta. .*target.beta .*run.yaml:5"),
    "an unknown kind": ("target: kl", "got 'kl' .*run.yaml:4"),
    "a key twice": ("steps: 1\nseed: 2\nsteps: 3", "key steps more than once, in lines 4 and 6"),
    "a key twice within": ("target: {clip: 1, clip: 2}", "holds the key clip more than once"),
    "the model twice": ("model: other", "holds the key model more than once, in lines 1 and 4"),
    "a tab": ("target:\n\tclip: 5", "is not YAML: .*line 5.*Indent with spaces"),
    "two documents": ("---\nsteps: 3", "is not YAML"),
    "an object": ("steps: !!python/object:os.system {}", "is not YAML"),
    "nesting": (f"steps: {'[' * 3000}", "is not YAML|nested too deeply"),
    "digits": (f"steps: {'9' * 5000}", r"fewer digits, got '9+\.\.\. \(5,00\d characters\)"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_in_a_file_is_named_with_its_place(config_of, name):
    text, said = WRONG[name]
    with pytest.raises(SettingsError, match=f"(?s){said}"):
        config_of(text)


@pytest.mark.parametrize("content", ["", "# nothing\n", "null", "---\n"])
def test_an_empty_file_says_so(tmp_path, content):
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(SettingsError, match=r"run.yaml holds nothing, not settings such as"):
        read_yaml(tmp_path / "run.yaml")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_true_is_no_number_for_a_library_user_either():
    settings = {"model": "m", "data": "d", "output_dir": "x", "steps": True}
    with pytest.raises(SettingsError, match="steps is neither true nor false, got True"):
        build(TrainingConfig, settings)


def test_a_recipe_is_named_in_a_file_and_its_settings_are_put_over_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("recipe: qwen3-8b.dasd.pmi\nseed: 08\n")
    config = build(TrainingConfig, read_recipe(str(tmp_path / "mine.yaml")))
    assert (config.seed, config.model.path) == (8, "Qwen/Qwen3-8B")
    (tmp_path / "mine.yaml").write_text("recipe: qwen3-8b.dasd.pmi\nlr: 1\n")
    with pytest.raises(SettingsError, match=r"no setting lr\. .*mine.yaml:2"):
        build(TrainingConfig, read_recipe(str(tmp_path / "mine.yaml")))
