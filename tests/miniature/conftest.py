"""What several tests read and is slow to make."""

import pytest

from purified_opsd.miniature.build.documents import document
from purified_opsd.miniature.build.tokenizer import build_tokenizer


@pytest.fixture(scope="session")
def documents():
    return [document(0, index) for index in range(1000)]


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()
