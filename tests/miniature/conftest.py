"""What several tests read and is slow to make."""

import pytest

from purified_opsd.miniature.documents import CAREFUL, SEARCHING, document
from purified_opsd.miniature.tokenizer import build_tokenizer


@pytest.fixture(scope="session")
def searching_documents():
    return [document(0, index, SEARCHING) for index in range(500)]


@pytest.fixture(scope="session")
def documents(searching_documents):
    return searching_documents + [document(0, index, CAREFUL) for index in range(500, 1000)]


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()
