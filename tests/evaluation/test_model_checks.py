"""Models and numbers that `evaluate` refuses before a pass is run, all in one error."""

from __future__ import annotations

import pytest
import torch
import transformers
from helpers.tiny import bert, lm, lm_rows, tokenizer

from hf_unlearn import collect, default_collator, evaluate
from hf_unlearn.evaluation.model_checks import model_problems

SPLITS = {"forget": lm_rows(4), "unseen": lm_rows(4, 100)}


def test_models_that_cannot_be_measured_and_numbers_out_of_range_are_told_at_once():
    empty = lm().to("meta")
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


def test_arguments_of_another_kind_are_told_by_name_and_all_at_once():
    wrong = {"processing_class": "gpt2", "data_collator": transformers.DataCollatorWithPadding, "provenance": "x"}
    with pytest.raises(ValueError) as caught:
        evaluate(lm(), SPLITS, attack_options={"relearn": 5}, relearning=[1], **wrong)
    said = str(caught.value)
    assert "`processing_class` is 'gpt2'; pass the tokenizer itself" in said
    assert "`data_collator` is the class DataCollatorWithPadding; pass one made of it" in said
    assert "`provenance` is 'x': expected a dict." in said and "`relearning` is [1]: expected a dict." in said
    assert "`attack_options['relearn']` is 5: expected a dict." in said
    with pytest.raises(ValueError, match="`attack_options` is 'relearn': expected a dict."):
        evaluate(lm(), SPLITS, attacks=None, attack_options="relearn")


def headed(name: str, **config):
    """A class of Transformers by its name, as it is before any weight is made."""
    kind = getattr(transformers, name)
    model = kind.__new__(kind)
    torch.nn.Module.__init__(model)
    model.config = transformers.PretrainedConfig(**config)
    return model


@pytest.mark.parametrize(
    "name, config, task",
    [
        ("Wav2Vec2ForCTC", {}, "speech recognition"),  # as many logits as sounds, labels as letters
        ("Wav2Vec2ForAudioFrameClassification", {}, "audio frame classification"),
        ("Wav2Vec2ForXVector", {}, "audio xvector"),  # two-dimensional logits that are no classes
        ("BertForTokenClassification", {}, "token classification"),
        ("BertForMaskedLM", {}, "masked language modelling"),
        ("T5ForConditionalGeneration", {"is_encoder_decoder": True}, "sequence to sequence"),
        ("WhisperForConditionalGeneration", {"is_encoder_decoder": True}, "sequence to sequence"),
        ("SegformerForSemanticSegmentation", {}, "semantic segmentation"),
        ("DetrForObjectDetection", {}, "object detection"),
        ("ViltForQuestionAnswering", {}, "visual question answering"),
    ],
)
def test_models_whose_logits_and_labels_do_not_belong_together_as_ours_are_refused(name, config, task):
    (problem,) = model_problems(headed(name, **config))
    assert problem.startswith(f"is a {name}, a model for ") and task.replace("\\", "") in problem
    with pytest.raises(ValueError, match=task):
        collect(headed(name, **config), SPLITS["forget"], default_collator(lm(), tokenizer()))


OURS = ["LlamaForCausalLM", "GPT2DoubleHeadsModel", "BertLMHeadModel", "LlavaForConditionalGeneration"]
OURS += ["BertForSequenceClassification", "BertForNextSentencePrediction", "VideoMAEForVideoClassification"]
OURS += ["WhisperForAudioClassification"]


@pytest.mark.parametrize("name", OURS)
def test_heads_that_are_ours_or_like_ours_are_taken(name):
    assert model_problems(headed(name, is_encoder_decoder=name.startswith("Whisper"))) == []
