"""One gradient however a step is cut into micro-batches, also where a loss ignores `num_items_in_batch`."""

from __future__ import annotations

import pytest
import torch
from helpers.ready_runs import config
from helpers.tiny import VOCAB, Gradients, batch_of, bert, image_rows, lm, lm_rows, relative, text_class_rows, tokenizer
from helpers.unlearning import trainer as request

from hf_unlearn import ReadyTrainer

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"vocab_size": VOCAB, "max_position_embeddings": 32, "num_labels": 3, "pad_token_id": 0}


def llama_classifier():
    from transformers import LlamaConfig, LlamaForSequenceClassification

    return LlamaForSequenceClassification(LlamaConfig(**SMALL))


def neox_classifier():
    from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification

    return GPTNeoXForSequenceClassification(
        GPTNeoXConfig(**SMALL, classifier_dropout=0.0, hidden_dropout=0.0, attention_dropout=0.0)
    )


def swinv2():
    from transformers import Swinv2Config, Swinv2ForImageClassification

    sizes = {"image_size": 8, "patch_size": 2, "num_channels": 1, "embed_dim": 8, "depths": [1], "num_heads": [2]}
    return Swinv2ForImageClassification(Swinv2Config(**sizes, window_size=4, num_labels=3, drop_path_rate=0.0))


def experts():
    """A model whose loss has a term of its own beside the labels' mean."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {key: value for key, value in SMALL.items() if key != "num_labels"}
    more = {"num_local_experts": 4, "num_experts_per_tok": 1, "num_key_value_heads": 2, "router_aux_loss_coef": 1.0}
    return MixtralForCausalLM(MixtralConfig(**sizes, **more, output_router_logits=True))


class Mean(type(lm())):
    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        out = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            out.loss = _mean(out, labels)
        return out


class WithoutKeywords(Mean):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return super().forward(input_ids, attention_mask, labels)


class MeanTrainer(ReadyTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return _mean(model(**{k: v for k, v in inputs.items() if k != "labels"}), inputs["labels"])


def _mean(out, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def _share(out, labels, num_items_in_batch):
    logits, labels = out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch


def language_model(kind=None):
    model = lm()
    model.__class__ = kind or type(model)
    return model


HEADS = {
    "causal lm": (lm, lm_rows, {}),
    "bert": (bert, text_class_rows, {}),
    "llama classifier": (llama_classifier, text_class_rows, {}),
    "neox classifier": (neox_classifier, text_class_rows, {}),
    "swinv2": (swinv2, image_rows, {}),
    "experts": (experts, lm_rows, {}),
    "subclass": (lambda: language_model(Mean), lm_rows, {}),
    "no keywords": (lambda: language_model(WithoutKeywords), lm_rows, {}),
    "trainer": (lm, lm_rows, {"kind": MeanTrainer}),
    "function": (lm, lm_rows, {"compute_loss_func": _mean}),
    "function of items": (lm, lm_rows, {"compute_loss_func": _share}),
}


def gradients(out, name, each, accumulation, **options):
    """Of a step before readiness begins and of one after, at the same weights."""
    make, rows, more = HEADS[name]
    torch.manual_seed(0)
    model, keep, more = make(), Gradients(), dict(more)
    args = config(out, per_device_train_batch_size=each, gradient_accumulation_steps=accumulation, max_steps=2,
                  meta_start=0.5, max_grad_norm=0.0, learning_rate=1e-12, **options)  # fmt: skip
    kind = more.pop("kind", ReadyTrainer)
    run = kind(model, args, rows(16), callbacks=[keep], processing_class=tokenizer(), **more)
    run.train()
    assert run.simulated.steps_with_readiness_terms == 1
    losses = [log["loss"] for log in run.state.log_history[:2]]
    return [[g for g in step if g is not None] for step in keep.steps], losses


@pytest.mark.parametrize("name", HEADS)
def test_a_steps_gradient_is_the_same_however_it_is_cut_before_readiness_begins_and_after(tmp_path, name):
    (whole, loss), (cut, same) = (gradients(tmp_path / str(n), name, 16 // n, n) for n in (1, 4))
    apart = [relative(a, b) for a, b in zip(cut, whole, strict=True)]
    if name == "experts":  # its own term is not linear in the rows, and small: not 4 times as large is what counts
        assert max(apart) < 0.2
    else:
        assert max(apart) < 1e-4 and same == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("name", ["bert", "subclass"])
def test_a_requests_gradient_is_the_same_however_it_is_cut(tmp_path, name):
    make, rows, _ = HEADS[name]
    sets = {"forget": rows(16), "retain": rows(32, 16), "unseen": rows(8, 100)}
    found = []
    for n in (1, 4):
        torch.manual_seed(0)
        keep = Gradients()
        request(tmp_path, make(), sets, max_steps=1, max_grad_norm=0.0, stop=False, target="chance", alpha=0.3,
                gap="squared", per_device_train_batch_size=16 // n, gradient_accumulation_steps=n,
                callbacks=[keep]).train()  # fmt: skip
        found.append([g for g in keep.steps[0] if g is not None])
    assert relative(found[1], found[0]) < 1e-4


def test_a_model_that_takes_no_keywords_is_evaluated_between_the_steps_of_a_request(tmp_path):
    sets = {"forget": lm_rows(4), "retain": lm_rows(8, 4), "unseen": lm_rows(4, 100)}
    model = language_model(WithoutKeywords)
    run = request(tmp_path, model, sets, max_steps=1)
    batch = batch_of(model, sets["unseen"])
    with torch.no_grad():
        wanted = float(model.eval()(**batch).loss)
    assert run.evaluate(sets["unseen"])["eval_loss"] == pytest.approx(wanted, rel=1e-5)
