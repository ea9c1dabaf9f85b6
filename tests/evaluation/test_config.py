"""How a model is sampled when nobody says: by its card, wherever the model lies."""

import json
import shutil

import pytest

from purified_opsd import miniature
from purified_opsd.evaluation.config import CARDS, UPSTREAM, SamplingOverrides
from purified_opsd.recipes import find_recipe
from purified_opsd.sampling.sampler import Sampling


def test_the_card_goes_where_the_folder_goes(tmp_path):
    shutil.copytree(miniature.BASE, tmp_path / "moved")
    run = find_recipe("miniature.pmi")
    assert SamplingOverrides().of(str(tmp_path / "moved")) == Sampling(1.0, 1.0, 0, 192)
    assert (
        run.evaluation.sampling.of(str(tmp_path / "moved"))
        == run.sampling
        == Sampling(1.0, 1.0, 0, 192, batch_size=100)
    )


def test_a_folder_that_tells_a_part_has_no_card(tmp_path):
    told = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_new_tokens": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    assert SamplingOverrides().of(str(tmp_path)) == UPSTREAM
    with pytest.raises(
        ValueError,
        match=r"The card of .* is not known here; those of Qwen/Qwen3-8B, .*generation_config.json gives",
    ):
        SamplingOverrides("card").of(str(tmp_path))
    assert SamplingOverrides().of("Qwen/Qwen3-8B") == CARDS["Qwen/Qwen3-8B"]
