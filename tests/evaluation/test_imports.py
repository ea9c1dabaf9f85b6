"""The modules through which a report reads an evaluation load no model library."""

import subprocess
import sys

import pytest

READERS = ("results", "comparison", "sample_store", "statistics", "summary")
HEAVY = ("torch", "transformers", "purified_opsd.policy")


@pytest.mark.parametrize("module", READERS)
def test_a_reader_loads_no_model_library(module):
    code = f"import sys, purified_opsd.evaluation.{module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()).isdisjoint(HEAVY)
