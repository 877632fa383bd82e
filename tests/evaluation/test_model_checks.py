"""Models and numbers that `evaluate` refuses before a pass is run, all in one error."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import bert, lm, lm_rows, tokenizer

from hf_unlearn import evaluate

SPLITS = {"forget": lm_rows(4), "unseen": lm_rows(4, 100)}


def test_models_that_cannot_be_measured_and_numbers_out_of_range_are_told_at_once():
    with torch.device("meta"):
        empty = lm()
    models = {"original": lm().model, "unlearned": empty, "ready": type(lm()), "retrained": None}
    with pytest.raises(ValueError) as caught:
        evaluate(models, SPLITS, processing_class=tokenizer(), batch_size=0, seed=-1, resamples="many")
    text = str(caught.value)
    assert '"original" is a LlamaModel, which has no head' in text
    assert "weights without values (meta device)" in text and '"ready" is the class LlamaForCausalLM' in text
    assert '"retrained" is a NoneType' in text
    assert all(f"`{name}` is " in text for name in ("batch_size", "seed", "resamples"))


def test_what_a_loader_returns_is_checked_as_well():
    for load, words in ((lambda: bert().bert, 'loaded for "unlearned" is a BertModel'), (lambda: None, "of type None")):
        with pytest.raises(ValueError, match=words):
            evaluate({"unlearned": load}, SPLITS, processing_class=tokenizer())
