"""What a request leaves behind: checkpoints to resume from, a record, a card; what it takes from a ready checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny import (
    bert,
    lm,
    same_bits,
    text_class_rows,
    weights,
)
from helpers.unlearning import (
    QUIET,
    AsAtTheKill,
    memorised,
    trainer,
)
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from hf_unlearn import ArgumentError, UnlearnConfig
from hf_unlearn.unlearning import stop_rule


@pytest.mark.parametrize("options", [
    {},  # ends at the budget, with the weights of before the checkpoint or after it
    pytest.param({"gap": "matched"}, marks=pytest.mark.slow),
    pytest.param({"gap": "ranked"}, marks=pytest.mark.slow),
    pytest.param({"objective": "npo", "learning_rate": 5e-4}, marks=pytest.mark.slow),
    {"gradient_accumulation_steps": 2, "target": "current", "unseen_every": 1, "retain_budget": 2.0,
     "learning_rate": 2e-3},
    pytest.param({"stop": False}, marks=pytest.mark.slow),
], ids=str)  # fmt: skip
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, options):
    options = {"passes": "8", "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3,
               "learning_rate": 1e-3, "lr_scheduler_type": "linear", **options}  # fmt: skip
    whole = trainer(tmp_path, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    assert whole.state.global_step > 6
    assert not list(tmp_path.glob("checkpoint-*/_request_weights.pt"))  # a finished run leaves none that still know
    again = trainer(tmp_path, lm(seed=5, layers=2, hidden=32), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-3"))
    assert same_bits(weights(again.model), weights(whole.model))
    assert again.request_state == whole.request_state and again.stop_reason == whole.stop_reason
    assert (again.targets, again.references) == (whole.targets, whole.references)
    assert again.cost["row_passes"] == pytest.approx(whole.cost["row_passes"], abs=2e-3)


def test_what_is_saved_loads_with_stock_transformers_and_says_what_happened(tmp_path):
    run = trainer(tmp_path, passes="2", stop=False)
    run.train()
    run.save_model()
    run.create_model_card()
    assert same_bits(weights(AutoModelForCausalLM.from_pretrained(tmp_path)), weights(run.model))
    record = json.loads((tmp_path / "unlearning.json").read_text())
    assert record["schema"] == 1 and record["objective"] == "nabla_tau" and record["gap"] == "squared"
    assert record["rows"] == {"forget": 6, "retain": 18, "unseen": 8} and record["was_ready"] is False
    assert record["stop_reason"] == "all_passes_done" and record["cost"]["steps"] == run.state.global_step
    assert record["rule"]["passes"] == 2 and record["state"]["tau_initial"] > 3
    card = (tmp_path / "README.md").read_text()
    head = card.split("---")[1]
    assert "- unlearned" in head and "- hf_unlearn" in head
    assert "no proof of deletion" in card and "2403.14339" in card and "LlamaForCausalLM.from_pretrained" in card
    assert stop_rule.STOP_REASONS["all_passes_done"] in card


def ready_folder(folder, request, schema=1):
    memorised().save_pretrained(folder)
    record = {"schema": schema, "ready": True, "request": request}
    Path(folder, "readiness.json").write_text(json.dumps(record))
    return str(folder)


def test_a_ready_checkpoint_gives_defaults_where_the_user_left_them(tmp_path):
    request = {"learning_rate": 1e-4, "alpha": 0.2, "gap": "matched", "unseen_every": 2}
    folder = ready_folder(tmp_path / "ready", request)
    run = trainer(tmp_path, folder, gap="squared", per_device_train_batch_size=4)
    assert (run.args.learning_rate, run.args.alpha, run.rule.alpha0, run.args.unseen_every) == (1e-4, 0.2, 0.2, 2)
    assert run.objective.gap == "squared" and run.args.per_device_train_batch_size == 4
    assert run.record()["was_ready"] is True
    loaded = trainer(tmp_path, AutoModelForCausalLM.from_pretrained(folder))
    assert loaded.args.learning_rate == 1e-4 and loaded.objective.gap == "matched" and loaded.objective.by_rows
    ignored = trainer(tmp_path, folder, readiness_from="none")
    assert ignored.args.learning_rate == 1e-4 and ignored.readiness is None
    pointed = trainer(tmp_path, memorised(), readiness_from=str(tmp_path / "ready" / "readiness.json"))
    assert pointed.args.learning_rate == 1e-4


@pytest.mark.parametrize(("request_of", "rate"), [({}, 3e-4), ({"learning_rate": 1e-4}, 1e-4)], ids=["none", "own"])
def test_an_adapter_takes_the_recommended_rate_even_where_it_is_the_default_of_whole_models(
    tmp_path, request_of, rate
):
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    run = trainer(tmp_path / "out", ready_folder(tmp_path / "ready", request_of), peft_config=lora)
    assert run.args.learning_rate == rate


def test_a_config_serves_a_whole_model_after_an_adapter(tmp_path):
    args = UnlearnConfig(str(tmp_path), gap="hinge", **QUIET)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    rates = [trainer(None, config=args, peft_config=peft).args.learning_rate for peft in (lora, None)]
    assert rates == [3e-4, 1e-4] and args.learning_rate == 1e-4
    rows = {name: text_class_rows(4, 10 * i) for i, name in enumerate(("forget", "retain", "unseen"))}
    lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear")
    run = trainer(None, bert(), rows, config=UnlearnConfig(str(tmp_path), **QUIET), peft_config=lora)
    assert run.args.learning_rate == 1e-3


def test_an_option_that_nothing_reads_is_told_when_the_checkpoint_s_recommendations_are_known(tmp_path):
    def told(request, **options):
        (tmp_path / "readiness.json").write_text(json.dumps({"schema": 1, "ready": True, "request": request}))
        with pytest.raises(ArgumentError) as caught:
            trainer(tmp_path, lm(), dict.fromkeys(("forget", "retain", "unseen")), readiness=str(tmp_path), **options)
        return [problem for problem in caught.value.problems if "_dataset` is NoneType" not in problem]

    assert told({"resistance": "relearn"}, recovery_steps=1) == []
    (problem,) = told({}, recovery_steps=1)
    assert problem.startswith('`recovery_steps` is 1, but nothing reads it: `resistance` is "none".')
    (problem,) = told({"objective": "npo"}, alpha=0.3)
    assert problem.startswith("`alpha` is 0.3, but nothing reads it: the objective `npo` has no α; its own options are")
    (problem,) = told({"gap": "ranked"}, gate_every=4)
    assert problem.startswith("`gate_every` is 4, but nothing reads it: the gate is that of a hinge on the mean")
