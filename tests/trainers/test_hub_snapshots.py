"""Snapshots in a private repository, against a hub over real HTTP: what is uploaded, what a request downloads."""

from __future__ import annotations

import json
import os

import pytest
from helpers.loopback_hub import LoopbackHub, run_client

from hf_unlearn.trainers.hub_snapshots import asked, place_problems, repository_of

CLIENT = r"""
import json, os, shutil, sys
from pathlib import Path

sys.path.insert(0, os.environ["TESTS"])

from huggingface_hub import HfApi
from helpers import tiny
from helpers.replays import QUIET, replayed, trained
from helpers.tiny import same_bits, weights
from hf_unlearn import plan, verify
from transformers import TrainingArguments

notes, own = {}, {"max_steps": 10, "slices": "3"}


def told(run, *args, **kwargs):
    try:
        run(*args, **kwargs)
    except ValueError as error:
        return str(error)


ready = trained("ready", snapshots="hf://user/kept", **own)
notes["borders"], notes["ready"] = ready.program.borders, ready.is_ready
HfApi().create_repo("user/open")
notes["public"] = told(trained, "other", snapshots="hf://user/open", **own)
notes["of another"] = told(trained, "other", snapshots="hf://user/kept", **own)

# On another machine: the model without its snapshots.
shutil.copytree("ready", "there")
shutil.rmtree("ready/_snapshots")
shutil.rmtree("there/_snapshots")
rows = [int(i) for i in range(0, 24, 4)]
numbers = ready.plan.numbers_of_ids(rows, ready.plan.key)
order = ready.plan.order
last = [row for row, n in zip(rows, numbers) if n >= order.rows - order.slices[-1]][:1]
first = [row for row, n in zip(rows, numbers) if n < order.stable + order.slices[0]][:1]
notes["plan"] = str(plan("there", last))
without = trained("without", deleted=last, **own)
request = replayed("out", "there", last)
notes["exact"] = same_bits(weights(request.model), weights(without.model))
notes["here"] = sorted(os.listdir("out/_snapshots"))
notes["left"] = os.path.exists("out/_from_hub")
notes["whole"] = request.is_ready
notes["asked"], notes["border"] = [*last], request.border

seen = tiny.lm_rows(24).filter(lambda row: row["id"] not in last)
verdict = verify("out", seen, snapshots="hf://user/kept", args=TrainingArguments("verified", **QUIET),
                 processing_class=tiny.tokenizer())
notes["verified"] = str(verdict)

# The next request goes back further: that snapshot is still on the hub.
both = trained("both", deleted=[*first, *last], **own)
request = replayed("next", "out", first, gone=last)
notes["next exact"] = same_bits(weights(request.model), weights(both.model))
# From the first model, elsewhere: the repository says which rows are out since.
old = replayed("old", "there", last, rows=tiny.lm_rows(24).filter(lambda row: row["id"] not in last))
notes["old exact"] = same_bits(weights(old.model), weights(both.model))
notes["storage"] = [option.storage for option in plan("there", first)][0]

# A snapshot that the repository lacks: the one before it. The repository of a new training says nothing of old rows.
shutil.rmtree("old/_snapshots")
middle = ready.program.borders[1]
HfApi().delete_folder(f"checkpoint-{middle}", "user/kept")
mid = [row for row, n in zip(rows, numbers) if order.stable + order.slices[0] <= n < order.rows - order.slices[-1]][:1]
notes["further back"] = str(plan("old", mid))
three = trained("three", deleted=[*first, *mid, *last], **own)
request = replayed("back", "old", mid, gone=[*first, *last])
notes["back exact"], notes["back to"] = same_bits(weights(request.model), weights(three.model)), request.border
notes["told"] = "superseded.json" in HfApi().list_repo_files("user/kept")
trained("ready", snapshots="hf://user/kept", **own)
notes["told of a new one"] = "superseded.json" in HfApi().list_repo_files("user/kept")
Path("notes.json").write_text(json.dumps(notes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the client notes, the hub's files before and after it, and which snapshots were downloaded."""
    folder = tmp_path_factory.mktemp("client")
    with LoopbackHub() as hub:
        tests = os.path.dirname(os.path.dirname(__file__))
        root = os.path.dirname(tests)
        run_client(CLIENT, hub, folder, env={"TESTS": tests, "PYTHONPATH": root}, timeout=300)
        (path,) = folder.rglob("notes.json")
        got = [path for path in hub.paths("GET") if "/resolve/" in path and "checkpoint-" in path]
        return json.loads(path.read_text()), hub.files("user/kept"), got, hub.commits("user/kept")


@pytest.mark.slow
def test_each_snapshot_is_uploaded_whole_and_a_public_or_a_foreign_repository_is_refused(run):
    notes, files, _, commits = run
    assert notes["ready"]
    for border in notes["borders"]:
        assert {f"checkpoint-{border}/{name}" for name in ("complete.json", "optimizer.pt")} <= files.keys()
    assert all(commit.files[name] for commit in commits for name in commit.files if name.endswith("complete.json"))
    assert "which is public: snapshots hold weights that nobody else should have" in notes["public"]
    assert "it holds the snapshots of another training, which would be replaced" in notes["of another"]


@pytest.mark.slow
def test_a_request_downloads_the_one_snapshot_that_it_goes_back_to_and_the_next_one_another(run):
    notes, _, got, _ = run
    first, *_, last = notes["borders"]
    assert notes["exact"] and notes["next exact"] and notes["whole"] and not notes["left"]
    assert notes["border"] == last and notes["here"] == [f"checkpoint-{last}"]
    assert {path.split("/checkpoint-")[1].split("/")[0] for path in got} == {str(first), str(last)}
    assert "cannot be done now" not in notes["plan"] and notes["verified"].startswith("PASS from snapshot (trusted)")


@pytest.mark.slow
def test_a_request_that_starts_from_the_first_model_leaves_out_what_the_repository_says_is_out(run):
    notes = run[0]
    assert notes["old exact"] and notes["told"] and not notes["told of a new one"]


@pytest.mark.slow
def test_a_request_whose_snapshot_the_repository_lacks_goes_back_to_an_earlier_one(run):
    notes = run[0]
    first, middle, _ = notes["borders"]
    assert notes["back exact"] and notes["back to"] == first and notes["storage"] > 0
    assert f"Of hf://user/kept: it has no snapshot before step {middle}" in notes["further back"]
    assert f"goes back to the one before step {first} instead" in notes["further back"]


def test_a_repository_is_told_from_a_folder_and_its_name_is_looked_at():
    assert repository_of("hf://user/kept") == "user/kept"
    assert repository_of("user/kept") is repository_of(None) is repository_of("/mnt/kept") is None
    (problem,) = place_problems("kept")
    assert problem == "`snapshots` is 'hf://kept'; a repository on the hub is `hf://NAMESPACE/NAME`."
    (offline,) = place_problems("user/kept")
    assert offline == "`snapshots` is 'hf://user/kept', and the hub cannot be asked (HF_HUB_OFFLINE is set)."


def test_a_hub_that_does_not_answer_is_told_whichever_library_says_so(monkeypatch):
    class NoConnection(Exception):
        pass

    def ask():
        raise NoConnection("[Errno 111] Connection refused")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert asked("user/kept", lambda: 3) == (3, None)
    why = "the hub does not answer (NoConnection: [Errno 111] Connection refused)."
    assert asked("user/kept", ask) == (None, why)
