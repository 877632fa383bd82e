"""`UnlearnTrainer`: forgets by data alone, keeps the rest, stops by itself; texts, images and adapters alike."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from helpers.tiny import (
    Weights,
    bert,
    fit,
    image_rows,
    lm,
    lm_rows,
    same_bits,
    text_class_rows,
    tokenizer,
    vit,
    weights,
)
from helpers.unlearning import (
    MORE,
    QUIET,
    ROWS,
    known_by_heart,
    mean_loss,
    memorised,
    memorised_more,
    more_by_heart,
    trainer,
    with_references,
)
from peft import LoraConfig

from hf_unlearn import UnlearnConfig, UnlearnTrainer
from hf_unlearn.objectives import gaps
from hf_unlearn.objectives.base import shortfall
from hf_unlearn.trainers import unlearn_looks, unlearn_record
from hf_unlearn.unlearning import look, stop_rule


def test_with_the_data_alone_it_forgets_up_to_the_target_and_keeps_the_rest(tmp_path):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 0.5}  # for a toy
    run = trainer(tmp_path, memorised_more(), MORE, **options)
    before = {name: mean_loss(run.model, rows) for name, rows in MORE.items()}
    assert before["forget"] < 0.1 and before["retain"] < 0.1 and before["unseen"] > 3
    result = run.train()
    after = {name: mean_loss(run.model, rows) for name, rows in MORE.items()}
    assert run.stop_reason == result.metrics["stop_reason"] == "forget_loss_reached_target"
    logged = [log["stop_reason"] for log in run.state.log_history if "stop_reason" in log]
    assert logged == ["forget_loss_reached_target"]
    assert result.metrics["row_passes"] > 0 and run.state.global_step < run.state.max_steps
    tau = run.request_state.tau
    assert tau <= max(before["unseen"], math.log(50)) + 1e-6
    assert after["forget"] >= (1 - gaps.TOLERANCE) * tau - 1e-6  # reached …
    assert after["forget"] <= (1 + 2 * gaps.TOLERANCE) * tau  # … and not beyond
    assert after["retain"] <= before["retain"] + 0.5
    first, *_, last = [log for log in run.state.log_history if "forget_loss" in log and "alpha" in log]
    assert first["forget_loss"] == pytest.approx(before["forget"], rel=1e-4)
    assert first["tau"] == pytest.approx(before["unseen"], rel=1e-4)
    assert first["alpha"] == pytest.approx(run.rule.alpha0, abs=1e-6) and last["alpha"] < first["alpha"]


def test_alpha_passes_and_looks_follow_from_the_numbers_of_rows(tmp_path):
    run = trainer(tmp_path, per_device_train_batch_size=2)
    assert run.rule.alpha0 == pytest.approx(5 / 3 * 6 / 24)
    assert run.rule.passes == 34 and len(run.train_dataset) == 204 and run.looks.every == 2  # a hundred steps
    assert trainer(tmp_path, rows={**ROWS, "forget": ROWS["forget"].select([0])}).rule.passes == 1600
    assert run.rule.target == "frozen" and run.objective.gap == "squared"
    assert run.rule.fewest == 34 and run.rule.holds
    assert not trainer(tmp_path, objective="npo").rule.holds  # it goes on beyond τ
    assert trainer(tmp_path, target="current").rule.holds
    assert run.rule.chance == math.log(50)
    own = trainer(tmp_path, per_device_train_batch_size=2, alpha=0.1, passes="4", target="frozen", stop=False)
    assert (own.rule.alpha0, own.rule.passes, own.rule.target, own.rule.stop) == (0.1, 4, "frozen", False)


@pytest.mark.parametrize("gap", ["squared", "matched", "ranked"])
def test_the_other_gaps_reach_their_target_too(tmp_path, gap):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 1.0, "passes": "60"}
    run = trainer(tmp_path, memorised_more(), MORE, gap=gap, **options)
    run.train()
    assert run.stop_reason == "forget_loss_reached_target"
    if gap != "squared":
        assert len(run.targets) == 4 and len(set(run.targets)) > 1
        sums, counts = run.row_losses(MORE["forget"])
        missing = gaps.GAPS[gap].shortfall(sums.sum() / counts.sum(), sums / counts, tau=math.nan, targets=run.targets)
        assert missing <= gaps.TOLERANCE + 1e-6


def test_ranked_targets_are_the_unseen_losses_in_the_order_of_the_rows(tmp_path):
    options = {"gap": "ranked", "max_steps": 1, "stop": False}
    rows = {**ROWS, "unseen": lm_rows(6, 100)}
    before = trainer(tmp_path, rows=rows)
    own, unseen = (np.divide(*before.row_losses(rows[name])) for name in ("forget", "unseen"))
    run = trainer(tmp_path, rows=rows, **options)
    run.train()
    assert sorted(run.targets) == pytest.approx(sorted(unseen), rel=1e-12)
    assert np.argsort(run.targets).tolist() == np.argsort(own).tolist()
    run = trainer(tmp_path, target="chance", **options)
    run.train()
    assert run.targets == [math.log(50)] * 6


def test_plain_ascent_spends_the_budget_and_the_weights_within_it_are_put_back(tmp_path):
    keep = Weights()
    options = {"objective": "gradient_ascent", "per_device_train_batch_size": 4, "passes": "50"}
    run = trainer(tmp_path, memorised_more(), MORE, learning_rate=5e-4, callbacks=[keep], **options)
    start = mean_loss(run.model, MORE["retain"])
    result = run.train()
    assert run.stop_reason == result.metrics["stop_reason"] == "retain_budget_spent"
    limit = stop_rule.retain_limit(run.rule, run.request_state)
    assert limit == pytest.approx(start + 0.1, rel=1e-4)
    assert mean_loss(run.model, MORE["retain"]) <= limit + 1e-6
    assert mean_loss(run.model, MORE["forget"]) > 1.0
    end = result.metrics["end"]  # of the weights that were put back, not of the last step's
    assert end["forget_loss"] == pytest.approx(mean_loss(run.model, MORE["forget"]), rel=1e-4) and end["kept"]
    assert end["retain_loss"] == pytest.approx(mean_loss(run.model, MORE["retain"]), rel=1e-4)
    logged = [log for log in run.state.log_history if "end_forget_loss" in log]
    assert [log["end_forget_loss"] for log in logged] == [end["forget_loss"]]
    spent = type(run.model)(run.model.config)
    spent.load_state_dict(keep.steps[-2])
    assert mean_loss(spent, MORE["retain"]) > limit
    assert not same_bits(weights(run.model), more_by_heart())  # the way up to the budget is kept
    assert 0 < run.weights_of_step == result.metrics["weights_of_step"] < run.state.global_step < run.state.max_steps
    assert run.unlearned and run.card_tags == ("unlearned",)


def test_a_budget_spent_in_the_first_step_leaves_the_model_as_it_came(tmp_path):
    """Nothing within the budget was seen after a step: the model before the first one is within it by definition."""
    options = {"objective": "gradient_ascent", "learning_rate": 0.3, "passes": "10", "save_strategy": "steps"}
    run = trainer(tmp_path, save_steps=1, **options)
    assert not run.unlearned and run.card_tags == ()  # not asked yet
    result = run.train()
    assert run.stop_reason == "retain_budget_spent"
    assert mean_loss(run.model, ROWS["retain"]) <= stop_rule.retain_limit(run.rule, run.request_state)
    run.save_model()
    assert same_bits(weights(run.model), known_by_heart()) and run.state.global_step > 0
    record = json.loads((tmp_path / "unlearning.json").read_text())
    assert result.metrics["weights_of_step"] == record["weights_of_step"] == 0
    assert record["end"] == result.metrics["end"] and not record["end"]["forgotten"]
    assert record["end"]["forget_loss"] == pytest.approx(mean_loss(run.model, ROWS["forget"]), rel=1e-4)
    assert not run.unlearned and run.card_tags == ()
    text = (tmp_path / "README.md").read_text()
    assert "was asked to unlearn rows of its training data and did not" in text and "- unlearned" not in text
    again = trainer(tmp_path, save_steps=1, **options)
    assert again.train(resume_from_checkpoint=True).metrics["weights_of_step"] == 0 and not again.unlearned


def test_a_run_whose_steps_were_all_skipped_has_the_first_weights(tmp_path):
    run = trainer(tmp_path, max_steps=2)
    run.trainable[0].register_hook(lambda gradient: gradient * math.nan)
    assert run.train().metrics["weights_of_step"] == 0 and not run.unlearned and run.skipped_steps == 2
    assert same_bits(weights(run.model), known_by_heart())


def test_the_budget_holds_where_the_passes_end_before_max_steps(tmp_path):
    run = trainer(tmp_path, passes="3", max_steps=50, learning_rate=3e-3, retain_budget=1e-4, gap="rows")
    run.train()
    assert run.stop_reason == stop_rule.BUDGET and run.ending.kept
    assert run.state.global_step == 2  # of 16 rows, where a pass has six


def test_a_run_does_not_go_back_for_rows_that_stand_where_they_began_beyond_the_target(tmp_path, monkeypatch):
    rows = {**MORE, "unseen": MORE["forget"], "forget": MORE["unseen"].select(range(4))}
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "passes": "4", "retain_budget": 0.5}
    run = trainer(tmp_path, memorised_more(), rows, **options)
    looks, look = [], run.measurements.look
    monkeypatch.setattr(run.measurements, "look", lambda: looks.append(1) or look())
    run.train()
    assert run.request_state.ahead > 1 and run.stop_reason == stop_rule.REACHED
    assert len(looks) == run.state.global_step == 2


@pytest.mark.parametrize("ends_by", ["passes", "max_steps", "budget"])
def test_a_run_that_loses_its_target_again_ends_with_the_weights_that_had_it(tmp_path, monkeypatch, caplog, ends_by):
    keep, saving = Weights(), {"save_strategy": "steps", "save_steps": 1}
    options = {"passes": "6", "max_steps": 5 if ends_by == "max_steps" else -1, "per_device_train_batch_size": 3}
    run = trainer(tmp_path, target="frozen", callbacks=[keep], **options, **saving)
    near = {"forget_loss": 2.0, "shortfall": 0.0, "retain_loss": mean_loss(run.model, ROWS["retain"]) + 0.05}
    late = {"retain_loss": 99.0} if ends_by == "budget" else {"shortfall": 0.5}
    scripted = iter([{**near, "shortfall": 0.5}, near, *[{**near, **late}] * 20])
    monkeypatch.setattr(run.measurements, "look", lambda: dict(next(scripted)))
    always = look.Look(kept=True, short=False, snapshot=False, measure=True)
    monkeypatch.setattr(unlearn_looks.look, "plan_look", lambda *args, **kwargs: always)
    metrics = run.train().metrics
    assert metrics["stop_reason"] == stop_rule.REACHED and metrics["guarantee"] == "approximate"
    assert metrics["weights_of_step"] == 2 < run.state.global_step
    assert all(torch.equal(p, keep.steps[1][name]) for name, p in run.model.named_parameters())
    assert "the weights of step 2, which were at the target" in caplog.text
    again = trainer(tmp_path, target="frozen", **options, **saving)  # of the checkpoint of its last step
    assert again.train(resume_from_checkpoint=True).metrics["weights_of_step"] == 2


def test_a_run_that_moves_no_weight_has_not_unlearned(tmp_path, caplog):
    options = {"learning_rate": 0, "passes": "2", "save_strategy": "steps", "save_steps": 2}
    options |= {"per_device_train_batch_size": 3}
    run = trainer(tmp_path, **options)
    assert run.train().metrics["weights_of_step"] == 0 and run.state.global_step == 4
    assert "No weight has moved (steps: 4, skipped: 0, `learning_rate` 0)" in caplog.text
    assert not run.unlearned and run.card_tags == ()
    assert run.card_info()["kind"] == "not unlearned"
    again = trainer(tmp_path, **options)  # of the checkpoint of its last step
    assert again.train(resume_from_checkpoint=True).metrics["weights_of_step"] == 0 and not again.unlearned


def test_weights_put_back_to_before_the_first_move_are_the_first_ones(tmp_path):
    """The learning rate of a warm-up begins at 0: its first step moves nothing."""
    options = {"per_device_train_batch_size": 3, "warmup_steps": 1}
    run = trainer(tmp_path, passes="2", max_steps=2, lr_scheduler_type="constant_with_warmup", **options)
    run.train()
    assert run.looks.moved_at == run.weights_of_step == 2 and run.unlearned
    run.looks.restored_step = 1
    assert run.weights_of_step == 0 and not run.unlearned


def test_a_weight_that_has_moved_on_another_process_has_moved(tmp_path, monkeypatch):
    """Each process sees its own shards."""
    run = trainer(tmp_path, passes="2", learning_rate=0, max_steps=1)
    monkeypatch.setattr(unlearn_looks, "total", lambda accelerator, value: value + 1)
    assert run.train().metrics["weights_of_step"] == 1 and run.unlearned


def test_a_record_without_the_first_move_is_read_as_it_was_meant(tmp_path):
    run = trainer(tmp_path, passes="2", max_steps=1)
    run.train()
    record = run.record()
    for said, wanted in ((1, 1), (0, None), (None, 1)):
        found = {k: v for k, v in record.items() if k != "moved_at"} | {"weights_of_step": said}
        if said is None:
            del found["weights_of_step"]
        (tmp_path / "unlearning.json").write_text(json.dumps(found))
        run.looks.reset()
        assert unlearn_record.take_up(run, str(tmp_path)) and run.looks.moved_at == wanted


def test_tau_is_capped_when_the_unseen_loss_runs_away(tmp_path):
    """α = ½ at a high rate destroys the model; without the cap τ would follow its unseen loss upward."""
    options = {"learning_rate": 0.05, "passes": "12", "target": "current", "unseen_every": 1, "stop": False}
    run = trainer(tmp_path, memorised_more(), MORE, alpha=0.9, per_device_train_batch_size=4, **options)
    run.train()
    unseen = [log["unseen_loss"] for log in run.state.log_history if "unseen_loss" in log]
    taus = [log["tau"] for log in run.state.log_history if "tau" in log]
    cap = max(run.request_state.tau_initial, math.log(50))
    assert max(unseen) > cap  # it did flee
    assert max(taus) <= cap + 1e-6 and run.request_state.tau <= cap


@pytest.mark.parametrize("target", ["frozen", "chance"])
def test_targets_frozen_and_chance_do_not_move_during_a_run(tmp_path, target):
    run = trainer(tmp_path, target=target, passes="3", stop=False, learning_rate=1e-2)
    unseen = mean_loss(run.model, ROWS["unseen"])
    run.train()
    wanted = unseen if target == "frozen" else math.log(50)
    taus = {log["tau"] for log in run.state.log_history if "tau" in log}
    assert all(tau == pytest.approx(wanted, rel=1e-4) for tau in taus)
    assert run.request_state.tau_initial == run.request_state.tau


def test_fixed_length_runs_all_passes(tmp_path):
    run = trainer(tmp_path, stop=False, passes="7", per_device_train_batch_size=4, learning_rate=5e-3)
    result = run.train()
    assert result.metrics["stop_reason"] == "all_passes_done"
    assert run.state.global_step == math.ceil(42 / 4) and run.request_state.forget_pass == 7
    alphas = [log["alpha"] for log in run.state.log_history if "alpha" in log]
    assert alphas == pytest.approx([run.rule.alpha0 * (1 - min(k * 4 // 6, 6) / 7) for k in range(11)], rel=1e-4)


def test_npo_measures_its_references_or_takes_those_of_the_rows(tmp_path):
    options = {"objective": "npo", "max_steps": 2, "learning_rate": 1e-3, "stop": False, "save_strategy": "no"}
    ends, costs = [], []
    sums = trainer(tmp_path, **options).row_losses(ROWS["forget"])[0].tolist()
    for rows in (ROWS, with_references(sums), with_references([5.0 + i for i in range(6)])):
        run = trainer(tmp_path, rows=rows, **options)
        run.train()
        assert run.references == ([5.0 + i for i in range(6)] if len(ends) == 2 else sums) and not run.targets
        ends.append(weights(run.model))
        costs.append(run.cost["row_passes"])
    assert same_bits(ends[1], ends[0]) and not same_bits(ends[2], ends[0])
    assert costs[0] - costs[1] == pytest.approx(6 / 3, abs=2e-3)  # a forward of the forget rows


def test_npo_ends_by_the_rule_of_the_mean(tmp_path):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 1.0, "passes": "60"}
    run = trainer(tmp_path, memorised_more(), MORE, objective="npo", npo_beta=0.05, **options)
    run.train()
    assert run.stop_reason == "forget_loss_reached_target"
    lacking, allowed = shortfall(mean_loss(run.model, MORE["forget"]), run.request_state.tau), run.ending.tolerance
    assert -allowed - 1e-6 <= lacking <= allowed + 1e-6
    of_the_mean = trainer(tmp_path, memorised_more(), MORE, gap="hinge", **options)
    assert allowed == of_the_mean.measurements.before_first_step()[0].tolerance > gaps.TOLERANCE  # they are few
    assert not run.ending.by_rows


def test_rows_that_the_model_does_not_know_are_told_and_end_the_request_at_once(tmp_path, caplog):
    rows = {**MORE, "forget": MORE["unseen"].select([0, 1]), "unseen": MORE["forget"]}
    run = trainer(tmp_path, memorised_more(), rows, per_device_train_batch_size=4, gap="hinge")
    result = run.train()
    assert run.stop_reason == "forget_loss_reached_target" and run.state.global_step < 10
    assert "by their mean there is nothing to forget" in caplog.text
    assert run.request_state.ahead > 1 and result.metrics["end"]["beyond"] is False


def test_max_steps_ends_the_run_with_its_own_stop_reason(tmp_path):
    run = trainer(tmp_path, max_steps=2)
    assert run.train().metrics["stop_reason"] == "max_steps" and run.state.global_step == 2


@pytest.mark.parametrize("options", [
    {"objective": "gradient_ascent"}, {"objective": "grad_diff", "gamma": 0.5, "beta": 2.0},
    {"objective": "npo", "npo_beta": 0.2, "beta": 2.0}, {"gap": "squared"}, {"gap": "matched"},
    {"gap": "ranked"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_objective_runs(tmp_path, options, accumulation):
    run = trainer(tmp_path, lm(), passes="1", stop=False, per_device_train_batch_size=2, **options,
                  gradient_accumulation_steps=accumulation)  # fmt: skip
    run.train()
    assert run.stop_reason == "all_passes_done" and run.state.global_step == 3 // accumulation
    assert all(math.isfinite(log["loss"]) for log in run.state.log_history if "loss" in log)
    assert dataclasses.asdict(run.objective).items() >= {k: v for k, v in options.items() if k != "objective"}.items()


@pytest.mark.parametrize("make, rows", [
    (bert, text_class_rows), pytest.param(vit, image_rows, marks=pytest.mark.slow)
], ids=["bert", "vit"])  # fmt: skip
@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_classifiers_forget_rows_too(tmp_path, make, rows, accumulation):
    sets = {"forget": rows(6), "retain": rows(18, 6), "unseen": rows(9, 100)}
    model = fit(make(), [*sets["forget"], *sets["retain"]], steps=60)
    before = mean_loss(model, sets["forget"])
    run = trainer(tmp_path, model, sets, learning_rate=3e-3, passes="160", target="chance", gap="rows",
                  retain_budget=0.5,
                  per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation)  # fmt: skip
    run.train()
    assert run.stop_reason == "forget_loss_reached_target" and run.request_state.tau == math.log(3)
    assert before < 0.2 and mean_loss(run.model, sets["forget"]) >= 0.9 * math.log(3)
    assert mean_loss(run.model, sets["retain"]) < 0.6


def test_target_chance_leaves_no_row_of_the_class_answered(tmp_path):
    """With the target "chance" each row is pulled to it; a request for something else has the hinge on the mean."""
    sets = {"forget": text_class_rows(6), "retain": text_class_rows(18, 6), "unseen": text_class_rows(9, 100)}
    model = fit(bert(), [*sets["forget"], *sets["retain"]], steps=60)
    run = trainer(tmp_path, model, sets, learning_rate=3e-3, passes="160", target="chance", retain_budget=0.5)
    assert run.objective.gap == run.args.gap == run.record()["gap"] == "level"
    run.train()
    sums, counts = run.row_losses(sets["forget"])
    assert run.stop_reason == "forget_loss_reached_target" and run.targets == [math.log(3)] * 6
    assert np.maximum(math.log(3) - sums / counts, 0).mean() <= run.request_state.tolerance * math.log(3)
    assert run.request_state.tolerance == gaps.GAPS["level"].tolerance == 0.1
    for options, gap in (
        ({}, "hinge"), ({"target": "current"}, "hinge"), ({"target": "chance", "gap": "squared"}, "squared"),
        ({"target": "chance", "gap": "hinge"}, "hinge"),
        ({"target": "chance", "resistance": "relearn"}, "squared"),
    ):  # fmt: skip
        assert trainer(tmp_path, model, sets, **options).objective.gap == gap
    assert UnlearnConfig(str(tmp_path), target="chance", use_cpu=True).gap == "auto"  # on a copy
    run = trainer(tmp_path, model, sets, gap="rows", max_steps=1, stop=False)
    run.train()
    assert set(run.targets) == {run.request_state.tau_initial}


def test_an_adapter_unlearns_and_the_base_is_bitwise_what_it_was(tmp_path):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = trainer(tmp_path, learning_rate=5e-3, passes="20", peft_config=lora, callbacks=[keep := Weights()])
    run.train()
    after = weights(run.model)
    names = {k: k.removeprefix("base_model.model.").replace(".base_layer", "") for k in after if "lora_" not in k}
    assert same_bits({name: after[k] for k, name in names.items()}, known_by_heart())
    assert all("lora_" in name for name, p in run.model.named_parameters() if p.requires_grad)
    assert any(not torch.equal(keep.steps[0][k], after[k]) for k in after if "lora_" in k)
    assert mean_loss(run.model, ROWS["forget"]) > 10 * mean_loss(memorised(), ROWS["forget"])
    run.save_model()
    assert (tmp_path / "adapter_model.safetensors").exists() and not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ValueError, match="has an adapter already"):
        trainer(tmp_path, run.model, peft_config=lora)


@pytest.mark.parametrize("momentum", [torch.optim.SGD, torch.optim.RMSprop])
def test_the_way_back_clears_the_momenta_of_any_optimizer(tmp_path, momentum):
    model = memorised()
    optimizer = momentum(model.parameters(), lr=1e-3, momentum=0.9)
    args = UnlearnConfig(str(tmp_path), max_steps=2, stop=False, **QUIET)
    run = UnlearnTrainer(model, args, *ROWS.values(), processing_class=tokenizer(), optimizers=(optimizer, None))
    run.train()
    moving = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert all(buffer.any() for buffer in moving)
    run.steps.gate.loss = torch.tensor(99.0)
    run.looks._go_back()
    assert not any(buffer.any() for buffer in moving)
    assert run.steps.gate.loss is None  # it was of weights beyond the target
