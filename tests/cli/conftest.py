from __future__ import annotations

import pytest

from hf_unlearn.cli.encode import text
from hf_unlearn.cli.rows import people as embedded


@pytest.fixture(scope="session")
def people():
    return embedded.people()


@pytest.fixture(scope="session")
def tokenizer(people):
    return text.build_tokenizer([f"{q} {a}" for q, a in zip(people["question"], people["answer"], strict=True)])
