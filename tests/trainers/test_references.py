"""What rows bring from before the request: on disk, by the head or as logits, in half precision where it will do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import batch_of, bert, distance, lm, lm64, lm_rows, text_class_rows, weights
from helpers.unlearning import EIGHT, AsAtTheKill, open_gate, trainer

from hf_unlearn import ArgumentError
from hf_unlearn.objectives.row_nll import labels_by_position
from hf_unlearn.trainers.reference_tables import Table, write_table

OPTIONS = {"objective": "kl_min", "max_steps": 2, "stop": False, "per_device_train_batch_size": 4, "optim": "sgd"}
CLASSES = {"forget": text_class_rows(4), "retain": text_class_rows(8, 4), "unseen": text_class_rows(4, 100)}


def begun(out, model, rows=EIGHT, **options):
    """A request behind its first step, and the model as it came."""
    before = weights(model)
    run = trainer(out, model, rows, **{**OPTIONS, "max_steps": 1, "learning_rate": 0.5, **options})
    run.train()
    assert distance(weights(run.model), before) > 1e-4
    return run, before


def told_and_wanted(run, before, side="retain"):
    """Logits by the table, and those of the model with its first weights."""
    places = [run.before.tables[side].places[k] for k in (2, 0, 3)]
    rows = [run.train_dataset.retain[i] if side == "retain" else run.train_dataset.forget[i] for i in places]
    model = run.model
    batch = batch_of(model, rows)
    model.load_state_dict(before)
    model.eval()
    with torch.no_grad():
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    labels = labels_by_position(logits, batch["labels"])
    found = run.before.logits(side, torch.tensor(places), labels, logits)
    there = labels.ne(-100)
    assert not found[~there].any()
    return found[there], logits[there]


def test_the_logits_before_the_request_come_back_while_the_weights_have_moved(tmp_path):
    run, before = begun(tmp_path, open_gate())
    table = run.before.tables["retain"]
    assert (table.about["kind"], table.about["dtype"]) == ("last_hidden_states", "float64")
    assert sorted(run.before.tables) == ["retain"] and Path(tmp_path, "_references/head.pt").exists()  # tied: trained
    torch.testing.assert_close(*told_and_wanted(run, before), rtol=1e-12, atol=1e-12)


def test_single_precision_is_stored_in_half_where_that_is_exact_enough(tmp_path):
    run, before = begun(tmp_path, lm(seed=1))
    assert run.before.tables["retain"].about["dtype"] == "float16"
    found, wanted = told_and_wanted(run, before)
    error = (found.log_softmax(-1) - wanted.log_softmax(-1)).abs().max()
    assert 0 < float(error) < 2e-3


def test_values_beyond_half_precision_are_stored_in_single(tmp_path):
    model = lm(seed=1)
    with torch.no_grad():
        model.model.norm.weight.mul_(1e6)
        model.lm_head.weight.div_(1e6)
    run, before = begun(tmp_path, model)
    assert run.before.tables["retain"].about["dtype"] == "float32"
    torch.testing.assert_close(*told_and_wanted(run, before), rtol=1e-4, atol=1e-5)


def test_few_logits_are_stored_themselves(tmp_path):
    run, before = begun(tmp_path, bert(), CLASSES, learning_rate=0.05, target="chance")
    assert run.before.tables["retain"].about["kind"] == "logits"
    torch.testing.assert_close(*told_and_wanted(run, before), rtol=1e-2, atol=2e-3)


def test_logits_that_the_head_alone_does_not_tell_are_stored_themselves(tmp_path):
    class Capped(type(lm64())):
        def forward(self, input_ids=None, attention_mask=None, labels=None):
            out = super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
            out.logits = 3 * torch.tanh(out.logits / 3)
            return out

    model = open_gate()
    model.__class__ = Capped
    run, before = begun(tmp_path, model)
    assert run.before.tables["retain"].about["kind"] == "logits"
    torch.testing.assert_close(*told_and_wanted(run, before), rtol=1e-12, atol=1e-12)


def test_a_head_that_is_not_trained_is_not_copied(tmp_path):
    model = lm64(tied=False)
    model.lm_head.requires_grad_(False)
    run, before = begun(tmp_path, model)
    assert run.before.head[0] is model.lm_head.weight and not Path(tmp_path, "_references/head.pt").exists()
    torch.testing.assert_close(*told_and_wanted(run, before), rtol=1e-12, atol=1e-12)


def test_only_rows_whose_turn_comes_are_passed(tmp_path):
    run, _ = begun(tmp_path, open_gate())
    assert repr(run.before.tables["retain"]) == "Table(4 rows, last_hidden_states, float64)"  # one step of four
    both, _ = begun(tmp_path, open_gate(), objective="scrub", max_steps=2)
    assert sorted(both.before.tables) == ["forget", "retain"]


@pytest.mark.parametrize("change", ["weights", "rows", "nothing"])
def test_a_table_of_other_weights_or_rows_is_refused(tmp_path, change):
    first = trainer(tmp_path / "first", open_gate(), EIGHT, **OPTIONS)
    first.train()
    model, rows = open_gate(), EIGHT
    if change == "weights":
        with torch.no_grad():
            model.lm_head.weight[0, 0] += 1e-9
    if change == "rows":
        rows = {**EIGHT, "retain": lm_rows(24, 9)}
    again = trainer(tmp_path / "again", model, rows, references=str(tmp_path / "first/_references"), **OPTIONS)
    if change == "nothing":
        passes = []
        begin = again.before.begin
        again.before.begin = lambda resumed: (
            passes.append(again.row_passes),
            begin(resumed),
            passes.append(again.row_passes),
        )
        again.train()
        assert passes[0] == passes[1]
        assert distance(weights(again.model), weights(first.model)) < 1e-12
        assert not Path(tmp_path, "again/_references").exists()
        return
    with pytest.raises(ArgumentError, match="the table of the retain rows in .* was made from other weights or rows"):
        again.train()
    with pytest.raises(ArgumentError, match="there is no table of the retain rows in"):
        trainer(tmp_path / "none", open_gate(), EIGHT, references=str(tmp_path), **OPTIONS).train()


@pytest.mark.parametrize("name", ["kl_min", "idk_dpo"])
def test_a_resumed_run_refers_to_the_weights_before_the_request(tmp_path, name):
    options = {**OPTIONS, "objective": name, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    options |= {"learning_rate": 0.1}
    whole = trainer(tmp_path, open_gate(), EIGHT, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    again = trainer(tmp_path, open_gate(), EIGHT, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed/checkpoint-2"))
    assert distance(weights(again.model), weights(whole.model)) < 1e-9
    if name == "kl_min":
        shutil.rmtree(tmp_path / "_references")
        lost = trainer(tmp_path, open_gate(), EIGHT, **options)
        with pytest.raises(ArgumentError, match="there is no table of the retain rows in .* Begin the run anew"):
            lost.train(resume_from_checkpoint=str(tmp_path / "killed/checkpoint-2"))


@pytest.mark.parametrize("name", ["kl_min", "rmu"])
def test_a_resumed_run_that_is_to_be_longer_than_its_table_is_refused(tmp_path, name):
    options = {**OPTIONS, "objective": name, "save_strategy": "steps", "save_steps": 2}
    keep = AsAtTheKill(tmp_path / "killed")
    trainer(tmp_path, lm64(layers=3), EIGHT, callbacks=[keep], **options).train()
    longer = trainer(tmp_path, lm64(layers=3), EIGHT, **{**options, "max_steps": 5})
    with pytest.raises(ArgumentError) as caught:
        longer.train(resume_from_checkpoint=str(tmp_path / "killed/checkpoint-2"))
    (told,) = caught.value.problems
    assert "lacks 12 row(s) of the steps" in told and "Set `max_steps` and `passes` to what they were" in told


@pytest.mark.parametrize("change", ["no table", "cut off", "no head", "a head of other weights"])
def test_a_table_that_cannot_be_read_is_made_again_or_refused_where_it_was_named(tmp_path, change):
    def request(out, **more):
        return trainer(tmp_path / out, open_gate(), EIGHT, **OPTIONS, **more)

    wanted = request("first")
    wanted.train()
    folder = tmp_path / "first/_references"
    table, head = folder / "retain.arrow", folder / "head.pt"
    if change == "no table":
        table.write_text("nonsense")
    if change == "cut off":
        table.write_bytes(table.read_bytes()[:-40])
    if change == "no head":
        head.unlink()
    if change == "a head of other weights":  # of a request with another objective in the same folder, say
        torch.save({**torch.load(head), "digest": "other"}, head)
    with pytest.raises(ArgumentError, match="the table of the retain rows in .*, or its head.pt, cannot be read."):
        request("named", references=str(folder)).train()
    again = request("first")
    again.train()
    assert distance(weights(again.model), weights(wanted.model)) == 0


def test_tables_for_an_objective_that_reads_none_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="`references` is set, but the objective `npo` reads no table"):
        trainer(tmp_path, "does/not/exist", EIGHT, objective="npo", references=str(tmp_path))


def test_a_table_gives_rows_back_in_any_order(tmp_path):
    rows = [np.full((n, 3), n, np.float32) for n in (2, 1, 4)]
    about = {"digest": "x", "kind": "logits", "dtype": "float32"}
    write_table(str(tmp_path / "t.arrow"), about, [4, 7, 9], rows[:2], iter([rows[2:]]))
    found = Table(str(tmp_path / "t.arrow")).values([9, 4])
    assert found.shape == (6, 3) and found[:, 0].tolist() == [4] * 4 + [2] * 2
