"""readiness.json and the card's tag tell of the weights that are saved: how many readiness steps these have seen."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.ready_runs import config
from helpers.tiny import lm, lm_rows, tokenizer
from helpers.unlearning import trainer
from transformers import EarlyStoppingCallback

from hf_unlearn import ArgumentError, ReadyTrainer

EVERY_STEP = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}


class Faked(ReadyTrainer):
    """Finds these losses after its steps, so that the best checkpoint is known."""

    losses: tuple = ()

    def evaluate(self, *args, **kwargs):
        found = {"eval_loss": self.losses[self.state.global_step - 1]}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


def run(out, *losses, callbacks=None, **options):
    rows = lm_rows(16)
    best = {**EVERY_STEP, "load_best_model_at_end": True} if losses else {}
    made = Faked(
        lm(), config(out, **{"max_steps": 4, **best, **options}), rows, eval_dataset=rows,
        processing_class=tokenizer(), callbacks=callbacks,
    )  # fmt: skip
    made.losses = losses
    made.train()
    made.save_model()
    made.create_model_card()
    return made


def found(out) -> tuple[bool, dict, bool]:
    record = json.loads((out / "readiness.json").read_text())
    return record["ready"], record["steps"], "- unlearning-ready" in (out / "README.md").read_text()


def steps(every, simulated):
    return {"all": every, "with_revocable_rows": simulated, "with_readiness_terms": simulated}


def test_the_best_checkpoint_s_own_readiness_steps_are_recorded(tmp_path):
    made = run(tmp_path, 3.0, 1.0, 2.0, 4.0, meta_start=0.25)
    assert found(tmp_path) == (True, steps(2, 1), True)
    assert made.record()["probe"] == json.loads((tmp_path / "checkpoint-2/readiness.json").read_text())["probe"]
    assert made.record()["cost"]["steps"] == 4 and made.is_ready


def test_the_best_checkpoint_from_before_readiness_is_not_ready(tmp_path, caplog):
    made = run(tmp_path, 1.0, 2.0, 3.0, 4.0, meta_start=0.5)
    assert found(tmp_path) == (False, steps(1, 0), False) and not made.is_ready
    assert "saw no readiness step" in caplog.text and made.record()["probe"] == {}
    made.losses = (9.0, 8.0, 7.0, 6.0)
    made.train()  # a second training goes on from there, and its own last weights are the best
    assert made.record()["steps"]["all"] == 4 and made.is_ready


def test_a_run_that_stops_before_readiness_begins_is_not_ready(tmp_path):
    early = [EarlyStoppingCallback(early_stopping_patience=1)]
    run(tmp_path, 1.0, 2.0, callbacks=early, max_steps=8, meta_start=0.5)
    assert found(tmp_path) == (False, steps(1, 0), False)


@pytest.mark.parametrize("options, ready", [
    ({"meta_start": 1.0}, False), ({"meta_start": 0.75}, True),
    ({"lambda_efficiency": 0.0, "lambda_retention": 0.0}, False), ({"learning_rate": 0.0}, False),
])  # fmt: skip
def test_only_weights_that_saw_a_readiness_step_are_ready(tmp_path, options, ready, caplog):
    run(tmp_path, **options)
    assert found(tmp_path)[::2] == (ready, ready)
    assert ("saw no readiness step" in caplog.text) == (not ready and "lambda_efficiency" not in options)


def test_before_a_training_nothing_is_ready(tmp_path):
    made = ReadyTrainer(lm(), config(tmp_path), lm_rows(16), processing_class=tokenizer())
    made.save_model()
    made.create_model_card()
    assert found(tmp_path) == (False, steps(0, 0), False)


def test_a_readiness_step_that_was_skipped_makes_nothing_ready(tmp_path, monkeypatch):
    """A step whose gradient is not finite changes no weight."""
    made = ReadyTrainer(lm(), config(tmp_path, max_steps=4, meta_start=0.5), lm_rows(16), processing_class=tokenizer())

    def broken(model, step):
        for p in made.trainable:
            p.grad = torch.full_like(p, torch.nan)
        return torch.zeros(())

    monkeypatch.setattr(made._passes, "add_gradient", broken)
    made.train()
    assert made.record()["steps"] == steps(4, 2) | {"skipped_with_readiness_terms": 2}
    assert not made.is_ready and made.record()["ready"] is False


def test_the_hub_s_token_is_in_no_file_of_a_run(tmp_path):
    run(tmp_path, max_steps=1, hub_token="hf_secret", save_strategy="steps", save_steps=1)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"training_args.bin", "readiness.json", "README.md", "trainer_state.json"} <= {path.name for path in files}
    assert not [path for path in files if b"hf_secret" in path.read_bytes()]


def test_a_record_goes_with_the_weights_that_it_is_of(tmp_path, caplog):
    ReadyTrainer(lm(), config(tmp_path), lm_rows(16), processing_class=tokenizer()).save_model()
    rows = {"forget": lm_rows(4), "retain": lm_rows(12, 4), "unseen": lm_rows(4, 90)}
    request = trainer(tmp_path, str(tmp_path), rows)
    request.save_model(tmp_path / "elsewhere")
    assert (tmp_path / "readiness.json").exists()  # beside the weights that are ready
    request.save_model()
    assert not (tmp_path / "readiness.json").exists() and (tmp_path / "unlearning.json").exists()
    assert "readiness.json is gone: it was of the weights that were there before" in caplog.text


@pytest.mark.parametrize("revocable, options, name", [
    ("revocable", {"revocable_share": 0.1}, "revocable_share"),
    (None, {"request_rows": 4}, "request_rows"),
])  # fmt: skip
def test_an_option_that_nothing_reads_with_these_rows_is_refused(tmp_path, revocable, options, name):
    with pytest.raises(ArgumentError, match=f"`{name}` is .*, but nothing reads it: ") as caught:
        ReadyTrainer("nowhere/model", config(tmp_path, **options), lm_rows(16), revocable)
    assert len(caught.value.problems) == 1
