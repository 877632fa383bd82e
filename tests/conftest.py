"""Settings that must stand before torch is imported, and tiny models and rows that the tests share."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without garbage collections: imports make half a million objects and leave hardly anything to collect."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    """
    What the modules before have left, imports above all, is kept out of garbage collection: each run of a trainer
    collects everything a few times, which takes longer than the run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def people():
    from hf_unlearn.data.rows import people as embedded

    return embedded.people()


@pytest.fixture(scope="session")
def tokenizer(people):
    from hf_unlearn.data.encode import text

    return text.build_tokenizer([f"{q} {a}" for q, a in zip(people["question"], people["answer"], strict=True)])
