"""A training that could move no weight, or only break it, is refused."""

from __future__ import annotations

import pytest
import torch
from helpers.ready_runs import train as ready
from helpers.tiny import lm, lm_rows, same_bits, tokenizer, weights
from helpers.unlearning import QUIET, ROWS
from peft import LoraConfig
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer

LORA = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


def request(out, model, **more):
    args = UnlearnConfig(str(out), max_steps=1, **QUIET)
    run = UnlearnTrainer(model, args, *ROWS.values(), processing_class=tokenizer(), **more)
    run.train()
    return run


def training(out, model, **more):
    return ready(out, model, max_steps=1, trainer=more)


BOTH = pytest.mark.parametrize("run", [request, training])


@BOTH
def test_trainable_float16_weights_are_refused(tmp_path, run):
    with pytest.raises(ArgumentError, match=r"torch.float16 \(model.embed_tokens.weight, .* dtype=torch.float32"):
        run(tmp_path, lm().half())
    one = lm()
    one.lm_head.half()
    with pytest.raises(ArgumentError, match=r"torch.float16 \(lm_head.weight\)"):
        run(tmp_path, one)
    frozen = lm()
    frozen.model.embed_tokens.half().requires_grad_(False)
    run(tmp_path, frozen)


@BOTH
def test_an_optimizer_that_holds_no_trainable_weight_is_refused(tmp_path, run):
    model = lm()
    made_before = AdamW(model.parameters())
    with pytest.raises(ArgumentError, match="holds none of the 2 trainable weights .base_model.*Make it after"):
        run(tmp_path, model, optimizers=(made_before, None), peft_config=LoraConfig(**LORA))
    with pytest.raises(ArgumentError, match="holds none of the 12 trainable weights"):
        run(tmp_path, lm(), optimizers=(AdamW(lm().parameters()), None))


@BOTH
def test_an_optimizer_of_some_weights_moves_these_and_a_warning_names_the_others(tmp_path, run, caplog):
    model = lm()
    run(tmp_path, model, optimizers=(SGD(model.lm_head.parameters(), lr=0.1), None))
    assert "holds 1 of 12 trainable weights; the others stay as they are (model.embed_tokens.weight, " in caplog.text
    before, after = weights(lm()), weights(model)
    assert not torch.equal(before.pop("lm_head.weight"), after.pop("lm_head.weight")) and same_bits(before, after)


@BOTH
def test_a_schedule_of_another_optimizer_is_refused(tmp_path, run):
    model = lm()
    other, own = SGD(model.parameters(), lr=0.1), SGD(model.parameters(), lr=0.1)
    for first in (None, own):
        with pytest.raises(ArgumentError, match="The schedule in `optimizers` belongs to another optimizer"):
            run(tmp_path, model, optimizers=(first, LambdaLR(other, lambda step: 1.0)))
    run(tmp_path, model, optimizers=(own, LambdaLR(own, lambda step: 1.0)))


class Cut(type(lm())):
    """Logits without a way back to the weights, as those of layers that have no backward."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        out = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        out.logits = out.logits.detach().requires_grad_()
        if labels is not None:
            out.loss = self.loss_function(out.logits, labels, self.config.vocab_size, **kwargs)
        return out


@BOTH
def test_a_model_whose_weights_get_no_gradient_is_refused_in_the_first_step(tmp_path, run):
    model = lm()
    model.__class__ = Cut
    with pytest.raises(ArgumentError, match="No gradient reaches any of the trainable weights"):
        run(tmp_path, model)


class Modes(SGD):
    """As the optimizers of schedule-free training, whose weights in training are others than those in evaluation."""

    mode = "none"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"

    def step(self, closure=None):
        assert self.mode == "train"
        return super().step(closure)


def test_an_optimizer_with_a_training_mode_is_in_it_in_every_step_with_readiness_terms(tmp_path):
    model = lm()
    optimizer = Modes(model.parameters(), lr=0.1)
    evaluated = {"eval_strategy": "steps", "eval_steps": 1}
    more = {"optimizers": (optimizer, None), "eval_dataset": lm_rows(4, 100)}
    run = ready(tmp_path, model, max_steps=2, trainer=more, **evaluated)
    assert run.simulated.steps_with_readiness_terms == 2 and optimizer.mode == "eval"
