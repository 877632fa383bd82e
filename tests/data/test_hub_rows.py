"""Rows from the Hub: configurations, splits and revisions, and what is said where they are not there."""

from __future__ import annotations

import json

import pytest
from helpers.loopback_hub import LoopbackHub, run_client

CARD = b"""---
configs:
- config_name: en
  data_files:
  - {split: train, path: en/train.jsonl}
  - {split: test, path: en/test.jsonl}
- config_name: de
  data_files: de/train.jsonl
---
"""
SAYS = """
import json
from hf_unlearn import load_rows
found = []
for where in json.loads(INPUT):
    try:
        found.append(load_rows(*where.pop("where"), **where).to_dict())
    except (ValueError, OSError) as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as running:
        files = {"en/train.jsonl": lines("a", "b"), "en/test.jsonl": lines("t"), "de/train.jsonl": lines("x")}
        first = running.add_files("user/rows", {**files, "README.md": CARD}, repo_type="dataset")
        running.add_files("user/rows", {"en/train.jsonl": lines("new")}, repo_type="dataset")
        running.add_files("user/one", {"validation.jsonl": lines("v")}, repo_type="dataset")
        running.add_files("user/script", {"script.py": b"import datasets"}, repo_type="dataset")
        running.first = first
        yield running


def read(hub, tmp_path, *asked: dict) -> list:
    script = f"INPUT = {json.dumps(json.dumps(asked))}\n{SAYS}"
    return json.loads(run_client(script, hub, tmp_path).stdout.splitlines()[-1])


@pytest.mark.slow
def test_configurations_splits_and_revisions_are_read_and_those_that_are_not_there_are_told(hub, tmp_path):
    rows = {"where": ["user/rows"], "config": "en"}
    found = read(
        hub,
        tmp_path,
        rows,
        {**rows, "revision": hub.first, "split": "train[:1]"},
        {**rows, "split": "test"},
        {"where": ["user/rows"], "config": "de"},
        {"where": ["user/one"], "split": "validation"},
        {"where": ["user/rows", "de/train.jsonl"]},
    )
    texts = [["new"], ["a"], ["t"], ["x"], ["v"], ["x"]]
    assert [rows["text"] for rows in found] == texts and found[0]["id"] == ["0"]
    several, unknown, split, only, revision, nowhere, script, local, files = read(
        hub,
        tmp_path,
        {"where": ["user/rows"]},
        {"where": ["user/rows"], "config": "den"},
        {**rows, "split": "tset[:3]"},
        {"where": ["user/one"]},
        {**rows, "revision": "v9"},
        {"where": ["user/nowhere"]},
        {"where": ["user/script"]},
        {"where": ["people"], "config": "en", "revision": "v1"},
        {"where": ["user/rows", "fr/*.jsonl"], "config": "en"},
    )
    has = "it has 'en', 'de'. Did you mean 'en'? Name one of them by `config`."
    assert several == "ValueError: 'user/rows' has several configurations: 'en', 'de'. Name one of them by `config`."
    assert unknown == f"ValueError: 'user/rows' has no configuration 'den'; {has}"
    has = "it has 'train', 'test'. Did you mean 'test'? Name one of them by `split`."
    assert split == f"ValueError: 'user/rows' has no split 'tset' in its configuration 'en'; {has}"
    assert only == "ValueError: 'user/one' has no split 'train'; it has 'validation'. Name one of them by `split`."
    assert "has no revision 'v9' on the Hub. Name a branch, a tag or a commit by `revision`." in revision
    assert nowhere.startswith("FileNotFoundError: There is no file or folder 'user/nowhere' in ")
    assert "log in" in nowhere and "Could not load 'user/nowhere' from the Hub, either" in nowhere
    assert "is a loading script, which `datasets` runs no more." in script
    assert local.startswith("ValueError: `config` is 'en' and `revision` is 'v1', which is of data sets on the Hub")
    assert "with its files 'fr/*.jsonl'," in files


@pytest.mark.slow
def test_the_verbs_read_a_configuration_and_a_test_split_beside_it(hub, tmp_path):
    script = """
    from hf_unlearn.cli import parsing, prepare
    flags = ["--dataset_name", "user/rows", "--task", "sequence_classification"]
    def read(*words):
        data = parsing.parse("evaluate", [*flags, *words])[1]
        try:
            rows, test = prepare._read(data)
            print(rows["text"][:], test["text"][:])
        except ValueError as error:
            print(error)
    read("--dataset_config", "en", "--dataset_split", "train[:1]", "--test_split", "test")
    read("--dataset_config", "fr", "--dataset_split", "dev", "--test_split", "test")
    read("--dataset_config", "en", "--dataset_split", "dev", "--test_split", "tset")
    """
    said = run_client(script, hub, tmp_path).stdout
    assert "['new'] ['t']" in said
    assert said.count("has no configuration 'fr'") == 1 and "Name one of them by `--dataset_config`." in said
    assert "no split 'dev'" in said and "by `--dataset_split`." in said
    assert "no split 'tset'" in said and "by `--test_split`." in said
