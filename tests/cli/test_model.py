"""Models from a config or by name, and the settings that a flag may name."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from helpers.tiny import bert

from hf_unlearn.cli import arguments, model, named
from hf_unlearn.cli.arguments import ModelArguments
from hf_unlearn.cli.prepare import Prepared

# ---- models ---------------------------------------------------------------------------------------------------------


def test_models_of_all_tasks(tokenizer, tmp_path):
    small = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64"
    before = torch.random.get_rng_state()
    lm = model.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert lm.config.vocab_size == len(tokenizer) and lm.config.num_key_value_heads == 2
    assert lm.config.pad_token_id == tokenizer.pad_token_id and lm.config.eos_token_id == tokenizer.eos_token_id
    again = model.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=1)
    other = model.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=2)
    assert torch.equal(lm.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(lm.lm_head.weight, other.lm_head.weight)
    ids = torch.tensor([tokenizer("Where?")["input_ids"]])
    lm.to(torch.bfloat16).save_pretrained(tmp_path / "lm")
    loaded = named.load_named("causal_lm", tmp_path / "lm", SimpleNamespace(labels=None), 0)[0]
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded(input_ids=ids).logits.shape == (1, ids.shape[1], len(tokenizer))

    text = model.build_model("sequence_classification", "bert", small, tokenizer=tokenizer, labels=["no", "yes"])
    assert text(input_ids=ids).logits.shape == (1, 2) and text.config.id2label == {0: "no", 1: "yes"}

    image = model.build_model(
        "image_classification", "vit", small + ",patch_size=2", labels=10, image_size=8, num_channels=1
    )
    assert image(pixel_values=torch.zeros(3, 1, 8, 8)).logits.shape == (3, 10)
    image.save_pretrained(tmp_path / "vit")
    for labels, classes in ((list(range(10)), 10), (["a", "b"], 2)):
        rows = SimpleNamespace(labels=labels)
        found, new = named.load_named("image_classification", tmp_path / "vit", rows, 0)
        assert found.classifier.out_features == classes and new == ["classifier"] * (classes == 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("hiden_size=3", "Unknown key 'hiden_size'.*hidden_size.*num_hidden_layers"),
        ("hidden_size", "key=value"),
        ("hidden_size=big", "must be of type int"),
        ("hidden_size=1.5", "must be of type int"),
        ("use_cache=3", "must be of type bool"),
        ("num_hidden_layers=-1", "below 0"),
        ("hidden_size=8,hidden_size=16", "hidden_size twice"),
    ],
)
def test_overrides_are_checked(overrides, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        model.build_model("causal_lm", "llama", overrides, tokenizer=tokenizer)


def test_overrides_are_parsed():
    known = {"size": 1, "rate": 0.5, "cache": True, "act": "gelu", "depths": [1, 2], "pad": None}
    text = "size=4, rate=1, cache=false, act=relu, depths=[3,4], pad=0,"
    assert model.parse_overrides(text, known) == {
        "size": 4, "rate": 1, "cache": False, "act": "relu", "depths": [3, 4], "pad": 0,
    }  # fmt: skip
    assert model.parse_overrides("", known) == model.parse_overrides(None, known) == {}


def test_model_errors(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="Unknown `task`.*causal_lm"):
        model.build_model("translation", "llama", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="Unknown `model_type`"):
        model.build_model("causal_lm", "no-such-type", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="needs a tokenizer"):
        model.build_model("causal_lm", "llama")
    with pytest.raises(ValueError, match="needs `labels`"):
        model.build_model("image_classification", "vit")
    with pytest.raises(ValueError, match="smaller than the tokenizer"):
        model.build_model("causal_lm", "llama", "vocab_size=10", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="cannot be built"):
        model.build_model("image_classification", "llama", labels=2)
    with pytest.raises(FileNotFoundError, match="No model folder"):
        named.load_named("causal_lm", tmp_path / "nothing", SimpleNamespace(labels=None), 0)


def test_a_head_is_drawn_by_the_seed(tmp_path):
    bert().save_pretrained(tmp_path)
    data, chosen = arguments.DataArguments(task="sequence_classification"), arguments.ModelArguments(str(tmp_path))
    heads, names = [], ClassLabel(names=list("abcdef"))
    classes = Dataset.from_dict({"labels": [0]}, features=Features({"labels": names}))
    for seed, before in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(before)  # what a script has drawn until then
        rows = Prepared({"retain": classes}, None, list("abcdef"))
        heads.append(model.beginning(data, chosen, rows, seed)[0].classifier.weight)
        assert torch.initial_seed() == before
    assert heads[0].shape[0] == 6 and torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("task", "kind", "overrides", "said"),
    [
        ("causal_lm", "llama", "hidden_size=15", "hidden size .15. is not a multiple"),
        ("causal_lm", "llama", "hidden_size=0", "cannot be built: .*"),
        ("causal_lm", "t5", "", "`model_type` is 't5', which has no model for task causal_lm"),
        ("sequence_classification", "vit", "", "which has no model for task sequence_classification"),
    ],
)
def test_sizes_that_make_no_model_are_told_without_rows(task, kind, overrides, said):
    (problem,) = model.build_problems(task, ModelArguments(model_type=kind, config_overrides=overrides))
    assert re.search(said, problem) and len(problem) < 400


def test_sizes_that_make_a_model_are_taken():
    assert not model.build_problems("causal_lm", ModelArguments(model_type="llama", config_overrides="hidden_size=8"))
    assert not model.build_problems("image_classification", ModelArguments(model_type="vit"))


def test_a_language_model_that_sees_what_it_is_to_predict_is_told(tokenizer):
    sizes = "hidden_size=16,intermediate_size=16,num_hidden_layers=1,num_attention_heads=2"
    both = model.build_model("causal_lm", "bert", sizes, tokenizer)
    assert "BertLMHeadModel of this config sees the tokens" in model.order_problem(both)
    for kind, more in (("bert", ",is_decoder=true"), ("llama", "")):
        assert model.order_problem(model.build_model("causal_lm", kind, sizes + more, tokenizer)) is None
