"""What an objective may ask of `UnlearnTrainer`: losses of labels, logits, retain rows, and state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers.tiny import Gradients, batch_of, distance, relative, same_bits, weights
from helpers.unlearning import EIGHT, AsAtTheKill, memorised, open_gate, trainer

from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives.base import Objective
from hf_unlearn.objectives.registry import OBJECTIVES, contract_problems


@dataclass(frozen=True)
class Toy(Objective):
    """Holds the retain rows."""

    name: ClassVar[str] = "toy"
    citation: ClassVar[str] = "of the tests"

    def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
        return 0.5 * retain_loss


class Tokens(Toy):
    """Weights each label by its probability."""

    needs: ClassVar[str] = "token_nll"
    average: ClassVar[str] = "labels"

    def row_value(self, rows, *, alpha):
        assert rows.logits is None and torch.equal(rows.labels == -100, rows.token_nll == 0)
        return -((-rows.token_nll).exp().detach() * rows.token_nll).sum(1)


class Logits(Toy):
    """Flattens the logits of forget rows and squares those of retain rows."""

    needs: ClassVar[str] = "logits"

    def row_value(self, rows, *, alpha):
        return self.spread(rows, (rows.logits.amax(-1) - rows.logits.mean(-1)) ** 2)

    def retain_row_value(self, rows, *, alpha):
        return 0.1 * self.spread(rows, rows.logits.square().mean(-1))

    @staticmethod
    def spread(rows, values):
        some = rows.labels != -100
        return (values * some).sum(1) / some.sum(1)


@dataclass(frozen=True)
class Moving(Toy):
    """A multiplier that follows the retain loss."""

    moving: ClassVar[tuple[str, ...]] = ("multiplier",)
    multiplier: float = 0.25

    def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
        return -0.1 * forget_loss + self.multiplier * retain_loss

    def after_step(self, forget_loss, retain_loss):
        return type(self)(self.multiplier + retain_loss)


@pytest.fixture
def asked(monkeypatch):
    def ask(cls):
        assert not contract_problems(cls, OBJECTIVES)
        monkeypatch.setitem(OBJECTIVES, "toy", cls)
        return {"objective": "toy", "stop": False}

    return ask


def sides(model):
    """(logits by position, labels by position) of the forget and of the retain rows of the first step."""
    pairs = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i] for i in range(8)]
    for rows in ([f for f, _, _ in pairs], [r for _, r, _ in pairs]):
        batch = batch_of(model, rows)
        labels = batch.pop("labels")
        yield model(**batch).logits[:, :-1], labels[:, 1:]


def loss_by_hand(kind, model):
    (zf, yf), (zr, yr) = sides(model)
    nll = [-z.log_softmax(-1).gather(-1, y.clamp_min(0)[..., None])[..., 0] for z, y in ((zf, yf), (zr, yr))]
    some = [yf != -100, yr != -100]
    value = 0.5 * nll[1][some[1]].mean()
    if kind is Tokens:
        n = nll[0][some[0]]
        return value - ((-n).exp().detach() * n).mean()
    rows = [(z * s).sum(1) / s.sum(1) for z, s in (
        ((zf.amax(-1) - zf.mean(-1)) ** 2, some[0]), (zr.square().mean(-1), some[1])
    )]  # fmt: skip
    return value + rows[0].mean() + 0.1 * rows[1].mean()


@pytest.mark.parametrize("forward", ["together", "in_turn"])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("kind", [Tokens, Logits])
def test_a_steps_gradient_and_loss_are_those_of_the_whole_batch(tmp_path, asked, kind, accumulation, forward):
    keep = Gradients()
    run = trainer(tmp_path, open_gate(), EIGHT, max_steps=1, max_grad_norm=0.0, callbacks=[keep], **asked(kind),
                  per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
                  forget_forward=forward)  # fmt: skip
    run.train()
    model = open_gate()
    value = loss_by_hand(kind, model)
    assert relative(keep.steps[0], torch.autograd.grad(value, list(model.parameters()))) < 1e-6
    log = next(line for line in run.state.log_history if "loss" in line)
    assert log["loss"] == pytest.approx(float(value.detach()), abs=1e-4)


def test_state_moves_after_each_step_and_is_taken_up_from_a_checkpoint(tmp_path, asked):
    options = {**asked(Moving), "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
    options |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    whole = trainer(tmp_path, memorised(), EIGHT, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    losses = [line["retain_loss"] for line in whole.state.log_history if "retain_loss" in line and "loss" in line]
    assert len(losses) == 4
    saved = json.loads((tmp_path / "killed/checkpoint-2/unlearning.json").read_text())["objective_state"]
    assert saved["multiplier"] == pytest.approx(0.25 + sum(losses[:2]), abs=1e-5)
    assert float(whole.objective.multiplier) == pytest.approx(0.25 + sum(losses), abs=1e-5)
    again = trainer(tmp_path, memorised(), EIGHT, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-2"))
    assert distance(weights(again.model), weights(whole.model)) < 1e-7
    assert "multiplier" not in whole.card_info()["settings"]
    assert "objective_state" not in trainer(tmp_path, memorised(), EIGHT).record()
    assert not same_bits(weights(whole.model), weights(memorised()))


def handed_over(run, monkeypatch, change):
    """The Trainer hands over other micro-batches than those it was given."""
    taken = run.get_batch_samples

    def changed(*args):
        batches, items = taken(*args)
        return change(batches), items

    monkeypatch.setattr(run, "get_batch_samples", changed)


@pytest.mark.parametrize("change, words", [
    (lambda batch: {k: v[:2] for k, v in batch.items()}, r"`input_ids` \(2, .*`labels` \(2, "),
    (lambda batch: {**batch, "labels": batch["labels"][:, 1:]}, r"`labels` \(4, "),
    (lambda batch: {**batch, "input_ids": batch["input_ids"][:, 1:]}, r"`input_ids` \(4, "),
    (lambda batch: {k: v for k, v in batch.items() if k != "attention_mask"}, "no `attention_mask`"),
], ids=["fewer rows", "shorter labels", "shorter input", "no mask"])  # fmt: skip
def test_a_micro_batch_of_other_shapes_than_the_one_read_ends_the_run(tmp_path, monkeypatch, change, words):
    run = trainer(tmp_path, memorised(), EIGHT, max_steps=1, per_device_train_batch_size=2,
                  gradient_accumulation_steps=2)  # fmt: skip
    handed_over(run, monkeypatch, lambda batches: [batches[0], change(batches[1])])
    expected = rf"Micro-batch 2 of 2 of this step was read with `.*` \(4, 10\).* trains on one with {words}"
    with pytest.raises(RuntimeError, match=expected):
        run.train()


def test_copies_of_the_micro_batches_are_as_good(tmp_path, monkeypatch):
    ends = []
    for copied in (False, True):
        run = trainer(tmp_path, memorised(), EIGHT, max_steps=2, per_device_train_batch_size=4, stop=False,
                      gradient_accumulation_steps=2)  # fmt: skip
        if copied:
            handed_over(run, monkeypatch, lambda batches: [dict(batch) for batch in batches])
        run.train()
        ends.append(weights(run.model))
    assert same_bits(*ends) and not same_bits(ends[0], weights(memorised()))
