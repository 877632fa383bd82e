"""Adapters of all kinds are replayed bit for bit, from their folder and that of their base alone."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import tiny
from helpers.replays import replayed, trained
from helpers.tiny import same_bits, slow, weights
from transformers import BertForSequenceClassification, LlamaForCausalLM

from hf_unlearn import ArgumentError
from hf_unlearn.trainers.loading import load_model
from hf_unlearn.trainers.weights_digest import frozen_digest

GONE = [0, 8]
SIZES = {"max_steps": 8, "slices": "2"}
TASK = {"task_type": "CAUSAL_LM"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base as the hub has them: its files hold bfloat16."""
    where = tmp_path_factory.mktemp("base")
    tiny.lm(attention_dropout=0.1).to(torch.bfloat16).save_pretrained(where)
    return str(where)


@pytest.mark.parametrize(("adapter", "options"), [
    ({"use_rslora": True, "use_dora": True, "modules_to_save": ["lm_head"]}, {}),
    slow({"target_modules": r".*\.(q|v)_proj"}, {"gradient_checkpointing": True, "readiness": "replay+meta"}),
    slow({"use_dora": True, "target_modules": ["q_proj"]}, {"gradient_checkpointing": True}),
    slow({"modules_to_save": ["lm_head"]}, {"bf16": True}),
])  # fmt: skip
def test_a_replay_by_the_folder_alone_is_exact(tmp_path, base, adapter, options):
    def begin():
        return LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)

    cut = {**SIZES, "lora": {**TASK, **adapter}, **options}
    ready = trained(tmp_path / "ready", model=begin(), **cut)
    without = trained(tmp_path / "without", model=begin(), deleted=GONE, **cut)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE)
    assert request.result.metrics["guarantee"] == "exact" and request.border > 0
    assert same_bits(weights(request.model), weights(without.model))
    assert not same_bits(weights(request.model), weights(ready.model))
    back = load_model(str(tmp_path / "out"))
    assert frozen_digest(back) == frozen_digest(ready.model)
    ids = torch.tensor([[3, 4, 5, 6]])
    theirs = without.accelerator.unwrap_model(without.model, keep_fp32_wrapper=False)  # without autocast
    assert torch.equal(back.eval()(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits)


def test_a_classifier_s_adapter_is_replayed_by_its_folder_with_its_head(tmp_path):
    where = tmp_path / "base"
    tiny.bert(dropout=0.1).bert.save_pretrained(where)  # without a head: a new one is drawn each time it is loaded

    def begin():
        torch.manual_seed(0)
        return BertForSequenceClassification.from_pretrained(where)

    cut = {**SIZES, "kind": "text", "lora": {"task_type": "SEQ_CLS", "modules_to_save": ["classifier"]}}
    trained(tmp_path / "ready", model=begin(), **cut)
    without = trained(tmp_path / "without", model=begin(), deleted=GONE, **cut)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE, "text")
    assert request.result.metrics["guarantee"] == "exact"
    pair = [{k: v for k, v in weights(one.model).items() if ".original_module." not in k} for one in (request, without)]
    assert same_bits(*pair)


def test_the_base_of_an_adapter_comes_back_in_the_type_that_it_was_trained_with(tmp_path, base):
    trained(tmp_path / "a", model=LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), lora=TASK, **SIZES)
    record = json.loads((tmp_path / "a/readiness.json").read_text())
    assert record["base"]["dtype"] == "float32" and record["base"]["pad_token_id"] == 0
    assert load_model(str(tmp_path / "a")).get_base_model().dtype == torch.float32
    assert load_model(str(tmp_path / "a"), dtype="bfloat16").get_base_model().dtype == torch.bfloat16
    for name in ("readiness.json", "_complete.json"):
        (tmp_path / "a" / name).unlink()
    assert load_model(str(tmp_path / "a")).get_base_model().dtype == torch.bfloat16  # as its files, if nobody says it


def test_a_whole_model_s_record_says_nothing_of_a_base(tmp_path):
    trained(tmp_path, **SIZES)
    assert "base" not in json.loads((tmp_path / "readiness.json").read_text())


def test_another_type_of_base_is_no_replay_of_the_same_training(tmp_path, base):
    trained(tmp_path / "a", model=LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), lora=TASK, **SIZES)
    with pytest.raises(ArgumentError, match="are others than at the training, or in another dtype"):
        replayed(tmp_path / "out", tmp_path / "a", GONE, model_init_kwargs={"dtype": "bfloat16"})


def test_arguments_of_loading_are_for_models_by_name(tmp_path):
    with pytest.raises(ArgumentError, match="`model_init_kwargs` say how a model is loaded by its name"):
        trained(tmp_path, model_init_kwargs={"dtype": "float32"}, **SIZES)
    with pytest.raises(ArgumentError, match="`model_init_kwargs` has `trust_remote_code` 'yes'"):
        trained(tmp_path, model_init_kwargs={"trust_remote_code": "yes"}, **SIZES)
