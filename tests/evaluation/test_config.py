"""How a model is sampled when nobody says: by its card, wherever the model lies."""

import json
import shutil
from dataclasses import replace

import pytest

from purified_opsd import miniature
from purified_opsd.evaluation.config import CARDS, UPSTREAM, EvaluationConfig, SamplingOverrides
from purified_opsd.evaluation.requests import EvaluationRequest
from purified_opsd.recipes import find_recipe
from purified_opsd.sampling.sampler import Sampling


def test_the_card_goes_where_the_folder_goes(tmp_path):
    shutil.copytree(miniature.BASE, tmp_path / "moved")
    run = find_recipe("miniature.pmi")
    assert SamplingOverrides().resolve(str(tmp_path / "moved")) == Sampling(1.0, 1.0, 0, 192)
    assert (
        run.evaluation.sampling.resolve(str(tmp_path / "moved"))
        == run.sampling
        == Sampling(1.0, 1.0, 0, 192, batch_size=100)
    )


def test_a_folder_that_tells_a_part_has_no_card(tmp_path):
    told = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_new_tokens": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    assert SamplingOverrides().resolve(str(tmp_path)) == UPSTREAM
    with pytest.raises(
        ValueError,
        match=r"The card of .* is not known here; those of Qwen/Qwen3-8B, .*generation_config.json "
        "gives",
    ):
        SamplingOverrides("card").resolve(str(tmp_path))
    assert SamplingOverrides().resolve("Qwen/Qwen3-8B") == CARDS["Qwen/Qwen3-8B"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"every": -1}, "evaluation.every must be at least 0, got -1"),
        ({"every": 2}, "evaluation.every is 2, and evaluation.benchmarks names none"),
    ],
)
def test_a_bad_setting_is_named_before_any_model_is_known(settings, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**settings)


def test_a_config_becomes_a_request_for_a_model():
    overrides = SamplingOverrides(max_new_tokens=9, batch_size=3)
    config = EvaluationConfig(runs=2, limit=5, seed=7, sampling=overrides)
    sampling = Sampling(0.6, 0.95, 20, 9, batch_size=3)
    assert config.request_for("Qwen/Qwen3-8B", ("by",)) == EvaluationRequest(
        sampling, runs=2, limit=5, seed=7, markers=("by",)
    )
    greedy = replace(config, sampling=SamplingOverrides(temperature=0.0))
    with pytest.raises(ValueError, match="2 runs at temperature 0 would be one run 2 times over"):
        greedy.request_for("Qwen/Qwen3-8B")
