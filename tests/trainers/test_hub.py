"""Both trainers against a hub over real HTTP: what is pushed, what its record and card say, and what comes back.

One client runs in one process of its own (the imports are what takes time): it trains, pushes, loads from the hub,
unlearns and pushes again, with all weights and with adapters. The tests look at the hub and at the client's notes.
"""

from __future__ import annotations

import json
import os
import re

import pytest
from helpers.loopback_hub import LoopbackHub, run_client

from hf_unlearn.trainers import records

pytestmark = pytest.mark.slow
CLIENT = r"""
import json, os, re, sys
from pathlib import Path

sys.path.insert(0, os.environ["TESTS"])

import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import tiny
from hf_unlearn import ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, collect, default_collator, evaluate

notes = {}
FORGET, RETAIN, UNSEEN = tiny.lm_rows(4), tiny.lm_rows(12, 100), tiny.lm_rows(6, 200)
LORA = dict(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"])


def config(kind, name, **kwargs):
    kwargs = {"save_strategy": "no", "max_steps": 2, "use_cpu": True, "report_to": "none", **kwargs}
    return kind(name, push_to_hub=True, hub_model_id=f"user/{name}", **kwargs)


def ready(model, name, rows=None, **kwargs):
    peft_config = kwargs.pop("peft_config", None)
    extra = {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "readiness": "meta", **kwargs}
    extra = {"meta_start": 0.0, **extra} if extra["readiness"] == "meta" else extra
    rows = tiny.lm_rows(16) if rows is None else rows
    words = tiny.tokenizer() if "input_ids" in rows.column_names else None
    args = config(ReadyConfig, name, **extra)
    trainer = ReadyTrainer(model, args, rows, processing_class=words, peft_config=peft_config)
    trainer.train()
    return trainer


def unlearn(model, name, forget=FORGET, retain=RETAIN, unseen=UNSEEN, peft_config=None, **kwargs):
    words = tiny.tokenizer() if "input_ids" in forget.column_names else None
    args = config(UnlearnConfig, name, stop=False, **kwargs)
    trainer = UnlearnTrainer(model, args, forget, retain, unseen, processing_class=words, peft_config=peft_config)
    trainer.train()
    return trainer


def score(trainer, role):
    collator = default_collator(trainer.model, tiny.tokenizer())
    splits = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN}
    tables = {role: {name: collect(trainer.model, rows, collator) for name, rows in splits.items()}}
    return evaluate(tables, task="tiny", cost={role: trainer.cost})


def same(trainer, model):
    # Under a head that an adapter brings lies the base's own, unused: new numbers at each loading.
    pair = [{k: v for k, v in tiny.weights(m).items() if ".original_module." not in k} for m in (trainer.model, model)]
    return tiny.same_bits(*pair)


def by_card(name):
    # The model that the code of the pushed card loads, in a name space of its own.
    from huggingface_hub import hf_hub_download

    text = Path(hf_hub_download(f"user/{name}", "README.md")).read_text()
    space = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], space)
    return space["model"]


# 1. All weights: ready, from the hub, unlearned, from the hub.
trainer = ready(tiny.lm(), "ready", request='{"learning_rate": 0.002, "retain_budget": 0.5}')
trainer.push_to_hub()
notes["bare card"] = Path("ready/README.md").read_text()
trainer.scorecard = score(trainer, "ready")
trainer.push_to_hub()
notes["salt"] = json.loads(Path("ready/_revocable_salt.json").read_text())["salt"]
notes["ready"] = same(trainer, AutoModelForCausalLM.from_pretrained("user/ready"))
notes["ready by card"] = same(trainer, by_card("ready"))
notes["words"] = AutoTokenizer.from_pretrained("user/ready")(["t5", "nothing"]).input_ids

trainer = unlearn("user/ready", "unlearned")
notes["defaults"] = {k: getattr(trainer.args, k) for k in ("learning_rate", "retain_budget", "weight_decay")}
notes["moved"] = not same(trainer, AutoModelForCausalLM.from_pretrained("user/ready"))
trainer.scorecard = score(trainer, "ready_unlearned")
trainer.push_to_hub()
notes["unlearned"] = same(trainer, AutoModelForCausalLM.from_pretrained("user/unlearned"))
notes["unlearned by card"] = same(trainer, by_card("unlearned"))
given = UnlearnTrainer(
    "user/ready", UnlearnConfig("given", learning_rate=0.01, report_to="none", use_cpu=True), FORGET, RETAIN, UNSEEN
)
notes["given"] = [given.args.learning_rate, given.args.retain_budget]
args = UnlearnConfig("given", readiness_from="user/ready", report_to="none", use_cpu=True)
given = UnlearnTrainer(tiny.lm(), args, FORGET, RETAIN, UNSEEN)
notes["readiness by id"] = given.args.learning_rate
try:
    args = UnlearnConfig("given", readiness_from="user/none", use_cpu=True)
    UnlearnTrainer("user/ready", args, FORGET, RETAIN, UNSEEN)
except ValueError as error:
    notes["no readiness"] = str(error)

# 2. An adapter on a base from the hub: made ready, unlearned on, and a fresh one for a request to the whole model.
lora = LoraConfig(task_type="CAUSAL_LM", **LORA)
trainer = ready("user/ready", "ready-lora", peft_config=lora, request='{"learning_rate": 0.003}')
trainer.push_to_hub()
notes["ready-lora"] = same(trainer, AutoPeftModelForCausalLM.from_pretrained("user/ready-lora"))
notes["ready-lora by card"] = same(trainer, by_card("ready-lora"))

trainer = unlearn("user/ready-lora", "unlearned-lora")
notes["lora defaults"] = trainer.args.learning_rate
trainer.scorecard = score(trainer, "ready_unlearned")
trainer.push_to_hub()
notes["unlearned-lora"] = same(trainer, AutoPeftModelForCausalLM.from_pretrained("user/unlearned-lora"))
notes["unlearned-lora by card"] = same(trainer, by_card("unlearned-lora"))

trainer = unlearn("user/ready", "request-lora", peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA))
notes["request-lora defaults"] = trainer.args.learning_rate
trainer.push_to_hub()
base = AutoModelForCausalLM.from_pretrained("user/ready")
notes["request-lora"] = same(trainer, PeftModel.from_pretrained(base, "user/request-lora"))
notes["request-lora by card"] = same(trainer, by_card("request-lora"))

# 3. Classifiers: whole, and as adapters with a head of their own.
trainer = ready(tiny.vit(), "vit", tiny.image_rows(16))
trainer.push_to_hub()
notes["vit by card"] = same(trainer, by_card("vit"))
lora = LoraConfig(r=2, target_modules="all-linear", modules_to_save=["classifier"])
rows = (tiny.image_rows(4), tiny.image_rows(12, 100), tiny.image_rows(6, 200))
trainer = unlearn("user/vit", "vit-lora", *rows, peft_config=lora)
trainer.push_to_hub()
notes["vit-lora by card"] = same(trainer, by_card("vit-lora"))

body = tiny.bert()
body.config.num_labels = 2
type(body)(body.config).push_to_hub("user/bert", commit_message="two classes only")
from transformers import BertForSequenceClassification
fresh = BertForSequenceClassification.from_pretrained("user/bert", num_labels=3, ignore_mismatched_sizes=True)
lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
trainer = ready(fresh, "bert-lora", tiny.text_class_rows(16), peft_config=lora)
trainer.push_to_hub()
notes["bert-lora by card"] = same(trainer, by_card("bert-lora"))
rows = [tiny.text_class_rows(*n) for n in ((4,), (12, 100), (6, 200))]
trainer = unlearn("user/bert-lora", "bert-lora-unlearned", *rows)
trainer.push_to_hub()
notes["bert-lora-unlearned by card"] = same(trainer, by_card("bert-lora-unlearned"))

# 4. Pushes during the run.
steps = {"save_strategy": "steps", "save_steps": 1, "hub_always_push": True}
for name, strategy in (("every-save", "every_save"), ("checkpoint", "checkpoint")):
    trainer = ready(tiny.lm(), name, hub_strategy=strategy, **steps)
    trainer.push_to_hub()
trainer = unlearn("user/ready", "request-saves", hub_strategy="every_save", **steps)
trainer.push_to_hub()
Path(os.environ["NOTES"]).write_text(json.dumps(notes))
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The hub after the client has finished, and the client's notes."""
    folder = tmp_path_factory.mktemp("client")
    with LoopbackHub() as hub:
        tests = os.path.dirname(os.path.dirname(__file__))
        run_client(CLIENT, hub, folder, env={"NOTES": str(folder / "notes.json"), "TESTS": tests})
        yield hub, json.loads((folder / "notes.json").read_text())


def record_of(hub, name, file):
    return json.loads(hub.files(f"user/{name}")[file])


def card_of(hub, name) -> tuple[dict, str]:
    """Metadata and body of a pushed model card."""
    from huggingface_hub import ModelCard

    card = ModelCard(hub.files(f"user/{name}")["README.md"].decode())
    return card.data.to_dict(), card.text


def test_a_ready_model_is_pushed_whole_and_comes_back(session):
    hub, notes = session
    files = hub.files("user/ready")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= set(files)
    assert notes["ready"] is True and notes["ready by card"] is True
    assert notes["words"] == [[5], [3]]


def test_readiness_json_on_the_hub(session):
    hub, notes = session
    record = record_of(hub, "ready", "readiness.json")
    assert record["schema"] == 1 and record["ready"] is True
    assert record["request"] == {"learning_rate": 0.002, "retain_budget": 0.5}
    assert record["steps"] == {"all": 2, "with_revocable_rows": 2, "with_readiness_terms": 2}
    assert (record["revocable"], record["revocable_rows"], record["revocable_fraction"]) == ("named", 4, 0.25)
    assert record["revocable_commitment"] == records.commitment([0, 4, 8, 12], notes["salt"])
    assert record["cost"]["steps"] == 2 and record["versions"]["hf_unlearn"]


def test_no_push_carries_the_salt_or_a_request_s_snapshots_to_the_root(session):
    hub, notes = session
    for repo in hub.repos():
        for commit in hub.commits(repo):
            assert not [name for name in commit.files if name.rsplit("/", 1)[-1].startswith("_revocable")]
            assert not [name for name in commit.files if name.startswith("_")]
            assert not [name for name, content in commit.files.items() if notes["salt"].encode() in content]


def test_the_card_of_a_ready_model(session):
    hub, notes = session
    data, text = card_of(hub, "ready")
    assert "unlearning-ready" in data["tags"] and "hf_unlearn" in data["tags"] and "unlearned" not in data["tags"]
    for heading in ("What this model is", "Method", "Limits", "How to load", "Scores: tiny"):
        assert re.search(rf"^## {heading}", text, re.M), heading
    assert "was trained ready for deletion" in text and "reconstruction" in text
    assert record_of(hub, "ready", "readiness.json")["revocable_commitment"] in text
    assert "Scores:" not in notes["bare card"] and "## How to load" in notes["bare card"]
    assert text.count("## What this model is") == 1  # a second push writes the card anew
    assert data["pipeline_tag"] == "text-generation" and data["model-index"][0]["results"]


def test_a_request_takes_its_defaults_from_the_hub(session):
    _, notes = session
    assert notes["defaults"] == {"learning_rate": 0.002, "retain_budget": 0.5, "weight_decay": 0.0}
    assert notes["given"] == [0.01, 0.5]  # what the user gives wins
    assert notes["readiness by id"] == 0.002
    assert notes["lora defaults"] == 0.003  # the adapter's own record, not its base model's
    assert notes["request-lora defaults"] == 0.002
    assert "there is no user/none" in notes["no readiness"]


def test_an_unlearned_model_is_pushed_whole_and_comes_back(session):
    hub, notes = session
    assert notes["moved"] is True and notes["unlearned"] is True and notes["unlearned by card"] is True
    record = record_of(hub, "unlearned", "unlearning.json")
    assert (record["schema"], record["was_ready"], record["learning_rate"]) == (1, True, 0.002)
    assert record["rows"] == {"forget": 4, "retain": 12, "unseen": 6}
    assert record["stop_reason"] == "max_steps"
    assert "readiness.json" not in hub.files("user/unlearned")  # that record was of the model before
    data, text = card_of(hub, "unlearned")
    assert "unlearned" in data["tags"] and "unlearning-ready" not in data["tags"]
    for heading in ("What this model is", "Method", "Limits", "How to load", "Scores: tiny"):
        assert re.search(rf"^## {heading}", text, re.M), heading
    assert "went through a request to unlearn" in text and "The request stopped because" in text
    assert re.search(r"\| `learning_rate` \| 0.002 \|", text)


@pytest.mark.parametrize("name", ["ready-lora", "unlearned-lora", "request-lora"])
def test_an_adapter_and_its_base_come_from_the_hub(session, name):
    hub, notes = session
    assert notes[name] is True and notes[f"{name} by card"] is True
    files = hub.files(f"user/{name}")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "user/ready"
    assert ("readiness.json" if name == "ready-lora" else "unlearning.json") in files
    data, text = card_of(hub, name)
    assert data["base_model"] == "user/ready"
    assert ("unlearning-ready" if name == "ready-lora" else "unlearned") in data["tags"]
    assert f'name = "user/{name}"\nmodel = AutoPeftModelForCausalLM.from_pretrained(name)\n' in text
    assert ("## Scores: tiny" in text) == (name == "unlearned-lora")


def test_the_records_of_adapters(session):
    hub, _ = session
    assert record_of(hub, "ready-lora", "readiness.json")["request"] == {"learning_rate": 0.003}
    assert record_of(hub, "unlearned-lora", "unlearning.json")["learning_rate"] == 0.003
    assert record_of(hub, "request-lora", "unlearning.json")["was_ready"] is True


@pytest.mark.parametrize("name", ["vit", "vit-lora", "bert-lora", "bert-lora-unlearned"])
def test_classifiers_load_by_their_card(session, name):
    hub, notes = session
    assert notes[f"{name} by card"] is True
    assert "hf_unlearn.trainer" not in card_of(hub, name)[1]


@pytest.mark.parametrize("name", ["every-save", "checkpoint"])
def test_pushes_during_the_run_carry_a_record(session, name):
    hub, _ = session
    steps = {}
    for commit in hub.commits(f"user/{name}"):
        if found := re.fullmatch(r"Training in progress, step (\d)", commit.title):
            assert "model.safetensors" in commit.files
            steps[int(found[1])] = json.loads(commit.files["readiness.json"])["steps"]["all"]
    assert 1 in steps  # the upload goes on beside the training, so it may find the next step's files already
    assert all(step <= recorded <= 2 for step, recorded in steps.items())
    newest = hub.files(f"user/{name}")
    assert json.loads(newest["readiness.json"])["steps"]["all"] == 2
    assert ("last-checkpoint/readiness.json" in newest) == (name == "checkpoint")
    if name == "checkpoint":  # with its manifest, so that a run can go on from a download
        listed = json.loads(newest["last-checkpoint/complete.json"])["files"]
        assert {file: len(newest[f"last-checkpoint/{file}"]) for file in listed} == listed


def test_checkpoints_of_a_request_carry_what_a_resumed_run_needs(session):
    hub, _ = session
    files = hub.files("user/request-saves")
    assert json.loads(files["unlearning.json"])["cost"]["steps"] == 2
    assert not any("_request_weights" in name for name in files)  # weights that still know the rows stay at home


def test_the_hub_knows_every_request_of_the_client(session):
    hub, _ = session
    assert hub.unsupported == []
    assert hub.internal_errors == []
    assert {r.token for r in hub.requests if r.storage} == {None}
