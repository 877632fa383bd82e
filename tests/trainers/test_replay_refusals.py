"""What a replay refuses, and in which words: plans, salts, snapshots and rows that are not those of the training."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.replays import QUIET, SIZES, adapter, language_model, replayed, trained
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, TrainerCallback

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator
from hf_unlearn.trainers import records, replay_plan
from hf_unlearn.trainers.replay_request import ids_of, look_up
from hf_unlearn.trainers.snapshots import snapshot_problem
from hf_unlearn.utils import manifest, sealed
from hf_unlearn.utils.files import write_json
from hf_unlearn.utils.versions import library_versions

BRIEF = {"max_steps": 8, "slices": "2"}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Folders of a training, of one with another seed, and of a request to the first one."""
    root = tmp_path_factory.mktemp("trainings")
    trained(root / "ready", **BRIEF)
    trained(root / "other", seed=7, **BRIEF)
    shutil.copytree(root / "ready", root / "asked")
    replayed(root / "out", root / "asked", [early_row(root / "ready")])
    return root


@pytest.fixture
def ready(trainings, tmp_path):
    return shutil.copytree(trainings / "ready", tmp_path / "ready")


def early_row(folder) -> int:
    """An id of the first slice."""
    plan = replay_plan.read(str(folder))
    numbers = plan.numbers_of_ids(range(24), plan.key)
    return int(np.flatnonzero(numbers == plan.order.stable)[0])


def refused(folder, **options) -> str:
    with pytest.raises(ArgumentError) as caught:
        replay_plan.read(str(folder), **options)
    (problem,) = caught.value.problems
    return problem


# ---- the plan --------------------------------------------------------------------------------------------------------


def edit(folder, change) -> None:
    """Changes the plan by hand, and writes the file's digest anew."""
    record = json.loads((folder / records.READINESS).read_text())
    change(record["replay"])
    write_json(folder / records.READINESS, record)


@pytest.mark.parametrize("path, value, said", [
    ("order.seed", 5, "`order.seed` is 5 and was 42"), ("warmup", 3, "`warmup` is 3 and was 0"),
    ("order.slices", [1, 5], "`order.slices` is [1, 5] and was [3, 3]"),
    ("arguments.weight_decay", 0.5, "`arguments.weight_decay` is 0.5 and was 0.0"),
    ("order", {}, "`order.stable` is None and was 18"), ("weights_before", None, "`weights_before` is None and was '"),
    ("machine.torch", "9.9", "`machine.torch` is '9.9' and was '"), ("machine", None, "`machine.torch` is None and"),
    ("weights", "0" * 64, "`weights` is '0000"),
])  # fmt: skip
def test_a_plan_that_was_edited_by_hand_is_told_by_what_differs(ready, path, value, said):
    def change(plan):
        *above, name = path.split(".")
        for one in above:
            plan = plan[one]
        plan[name] = value

    edit(ready, change)
    problem = refused(ready)
    assert problem.startswith("The plan in readiness.json of") and said in problem and "from a copy" in problem


@pytest.mark.parametrize("name", ["schedule", "snapshots", "limits"])
def test_a_plan_without_what_says_nothing_more_is_the_same(ready, name):
    edit(ready, lambda plan: plan.pop(name))
    request = look_up(str(ready), [early_row(ready)])
    assert request.snapshot_problem() is None and request.snapshots == str(ready / "_snapshots")


def test_both_files_edited_alike_are_told_by_the_salt(ready):
    path = ready / replay_plan.FILE
    header, body = sealed.read(path, replay_plan.MAGIC, records.SCHEMA)
    header["plan"]["order"]["seed"] = 5
    sealed.write(path, replay_plan.MAGIC, header, bytes(body))
    edit(ready, lambda plan: plan["order"].update(seed=5))
    assert "was made again without its salt" in refused(ready)


def test_a_plan_without_whose_rows_or_with_those_of_another_training_is_refused(ready, trainings):
    (ready / replay_plan.FILE).write_bytes((ready / replay_plan.FILE).read_bytes()[:-40])
    assert "replay.digests is damaged: its content is not what was written" in refused(ready)
    shutil.copy(trainings / "other" / replay_plan.FILE, ready)
    assert "are of two trainings" in refused(ready)
    (ready / replay_plan.FILE).unlink()
    assert "no replay.digests, which says whose rows it is of" in refused(ready)
    (ready / records.READINESS).write_text("{")
    assert "is damaged or no JSON" in refused(ready)


def test_a_plan_whose_seal_was_taken_off_is_refused(ready):
    path = ready / replay_plan.FILE
    header, body = sealed.read(path, replay_plan.MAGIC, records.SCHEMA)
    del header["plan"], header["seal"]
    sealed.write(path, replay_plan.MAGIC, header, bytes(body))
    assert "was made again without its salt" in refused(ready)


def test_a_salt_that_is_missing_wrong_or_none_is_told_by_its_name(ready, trainings, tmp_path):
    own = ready / records.SALT
    kept = shutil.move(own, tmp_path / "kept.json")
    assert "is not at hand" in refused(ready) and "Name it by `salt_file`" in refused(ready)
    assert "but there is no such file" in refused(ready, salt_file=str(tmp_path / "none.json"))
    wrong = refused(ready, salt_file=str(trainings / "other" / records.SALT))
    assert wrong.startswith("`salt_file` is") and "holds the salt of another training" in wrong
    assert "is damaged: it should hold the salt" in refused(ready, salt_file=str(trainings / "other" / "config.json"))
    assert replay_plan.read(str(ready), salt_file=kept).key


# ---- the snapshots ---------------------------------------------------------------------------------------------------


def told(folder, border, plan) -> str:
    return snapshot_problem(str(folder / "_snapshots"), border, plan, contents=True) or ""


def test_a_snapshot_that_is_gone_or_damaged_is_told(ready):
    plan = replay_plan.read(str(ready))
    first, last = (int(border) for border in plan.order.borders)
    assert told(ready, first, plan) == told(ready, last, plan) == ""
    path = ready / "_snapshots" / f"checkpoint-{first}" / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert "damaged: the content is not what was written in optimizer.pt" in told(ready, first, plan)
    path.unlink()
    assert "it lacks optimizer.pt" in told(ready, first, plan)
    shutil.rmtree(ready / "_snapshots")
    problem = told(ready, first, plan)
    assert "there is no such folder. Where they are elsewhere now, name their folder by `snapshots`." in problem


def test_a_snapshot_with_other_weights_than_its_record_says_is_no_beginning(ready, tmp_path):
    plan = replay_plan.read(str(ready))
    first = int(plan.order.borders.min())
    snapshot = ready / "_snapshots" / f"checkpoint-{first}"
    state = load_file(snapshot / "model.safetensors")
    next(iter(state.values())).add_(1e-3)
    save_file(state, snapshot / "model.safetensors", metadata={"format": "pt"})
    manifest.write(snapshot)  # as if it had been written so
    with pytest.raises(ArgumentError, match="checkpoint-.* holds other weights than its record says: it was changed"):
        replayed(tmp_path / "out", ready, [early_row(ready)])


def test_a_snapshot_of_another_run_or_step_is_told(ready, trainings):
    plan = replay_plan.read(str(ready))
    first, last = (int(border) for border in plan.order.borders)
    told_of_other = told(trainings / "other", first, plan)
    assert "it is of another training than the plan: there `order.seed` is 7 and was 42" in told_of_other
    other_rate = dataclasses.replace(plan, falls_from=plan.falls_from - 1)  # the same order, other learning rates
    assert "`falls_from` is" in told(ready, first, other_rate) and not told(ready, first, plan)
    shutil.rmtree(ready / "_snapshots" / f"checkpoint-{last}")
    shutil.copytree(ready / "_snapshots" / f"checkpoint-{first}", ready / "_snapshots" / f"checkpoint-{last}")
    assert f"it is of step {first}" in told(ready, last, plan)


def test_a_snapshot_that_has_met_other_rows_than_the_plan_is_told(ready, trainings):
    """The later snapshot of the training has met a row that was deleted since; that of the request has not."""
    before, after = (replay_plan.read(str(folder)) for folder in (ready, trainings / "out"))
    first, last = (int(border) for border in before.order.borders)
    assert "it has met 1 rows that were deleted since" in told(ready, last, after)
    assert "it has not met 1 rows that the training had" in told(trainings / "out", last, before)
    assert (
        told(ready, first, after)
        == told(trainings / "out", first, before)
        == told(trainings / "out", last, after)
        == ""
    )


def test_a_checkpoint_of_a_plain_training_is_no_snapshot(ready, tmp_path):
    trained(tmp_path / "plain", readiness="none", slices="auto", save_strategy="steps", save_steps=4, max_steps=4)
    plan = replay_plan.read(str(ready))
    os.rename(tmp_path / "plain" / "checkpoint-4", tmp_path / "plain" / f"checkpoint-{plan.order.borders[0]}")
    why = snapshot_problem(str(tmp_path / "plain"), int(plan.order.borders[0]), plan)
    assert "a training that cannot be replayed" in why


# ---- the request -----------------------------------------------------------------------------------------------------


ROWS = [row for row in tiny.lm_list(24) if row["id"] != 0]


@pytest.mark.parametrize("asked, options, said", [
    ([0, 99], {}, r"1 of 2 asked rows \(ids 99\) were not in the training of"),
    ([], {}, "The request names no row"),
    ([0], {"readiness_from": "none"}, '`readiness_from` is "none", and `method` is "replay", which needs the plan'),
    ([0], {"learning_rate": 0.5}, "`learning_rate` is 0.5, but the training had 0.01, and a replay is the same run"),
    ([0], {"rows": ROWS[2:]}, "2 of the 24 rows of the training are neither here nor asked for"),
    ([0], {"rows": [*ROWS, *tiny.lm_list(2, 100)]}, r"2 of 25 rows \(ids 100, 101\) were not in the training"),
    ([0], {"rows": [{k: v for k, v in row.items() if k != "id"} for row in ROWS]}, "rows have no column `id`"),
    ([0], {"rows": [*ROWS, ROWS[0]]}, "has values twice: 1"),
    ([0], {"rows": [{**row, "labels": [-100] * 3 + row["labels"][3:]} for row in ROWS]}, "not what was trained on"),
    ([0], {"snapshots": "nowhere"}, "cannot be used, nowhere.checkpoint-"),
])  # fmt: skip
def test_a_request_that_cannot_be_replayed_is_refused_in_one_problem_before_a_model_is_loaded(
    trainings, tmp_path, asked, options, said, monkeypatch
):
    monkeypatch.setattr("hf_unlearn.trainers.base.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(ArgumentError, match=said) as caught:
        replayed(tmp_path / "out", trainings / "ready", asked, **options)
    assert len(caught.value.problems) == 1


def test_what_is_set_for_steps_on_a_loss_does_not_keep_a_request_from_being_replayed(trainings, tmp_path, caplog):
    args = UnlearnConfig(str(tmp_path / "out"), **QUIET, learning_rate=0.5, objective="npo")
    request = UnlearnTrainer(str(trainings / "ready"), args, [0], ROWS, processing_class=tiny.tokenizer())
    assert request.replays and request.args.learning_rate == 0.01
    assert (
        "The request is replayed, with the arguments of its training; nothing reads `learning_rate` 0.5." in caplog.text
    )
    assert "not taken by steps on a loss; nothing reads `objective` 'npo'." in caplog.text
    args = UnlearnConfig(str(tmp_path / "out"), **QUIET, method="replay", alpha=0.3, stop=True)
    UnlearnTrainer(str(trainings / "ready"), args, [0], ROWS, processing_class=tiny.tokenizer())
    assert "not taken by steps on a loss; nothing reads `alpha` 0.3." in caplog.text
    told = "nothing reads `general_dataset`"
    for general, said in (("auto", False), ("none", False), (ROWS, True)):
        own = {"processing_class": tiny.tokenizer(), "general_dataset": general}
        UnlearnTrainer(str(trainings / "ready"), args, [0], ROWS, **own)
        assert (told in caplog.text) is said


def test_an_adapter_that_the_training_did_not_have_is_for_steps_on_a_loss(trainings, tmp_path, caplog):
    parts = (tiny.lm_rows(1), tiny.lm_rows(23, 1), tiny.lm_rows(6, 60))
    how = {"processing_class": tiny.tokenizer(), "peft_config": adapter()}
    request = UnlearnTrainer(str(trainings / "ready"), UnlearnConfig(str(tmp_path / "a"), **QUIET), *parts, **how)
    assert not request.replays and "`peft_config` is given, and the training had no adapter" in caplog.text
    args = UnlearnConfig(str(tmp_path / "b"), **QUIET, method="replay")
    with pytest.raises(ArgumentError, match="`peft_config` is given, and the training had no adapter"):
        UnlearnTrainer(str(trainings / "ready"), args, *parts, **how)


def own(rows):
    return default_collator(language_model(), tiny.tokenizer())(rows)


def test_what_the_training_was_given_beside_its_rows_must_be_given_again(trainings, tmp_path):
    rows = [row for row in tiny.lm_list(24) if row["id"] != 0]
    args = UnlearnConfig(str(tmp_path / "out"), **QUIET, method="replay")
    with pytest.raises(ArgumentError, match="`data_collator` is 'own', but the training had None, and a replay is the"):
        UnlearnTrainer(str(trainings / "ready"), args, [0], rows, data_collator=own)
    ready = ReadyTrainer(
        language_model(), ReadyConfig(str(tmp_path / "ready"), **{**QUIET, **SIZES, **BRIEF}), tiny.lm_rows(24),
        data_collator=own,
    )  # fmt: skip
    ready.train()
    ready.save_model()
    with pytest.raises(ArgumentError, match="`data_collator` is None, but the training had 'own'"):
        replayed(tmp_path / "out", tmp_path / "ready", [0])


@pytest.mark.parametrize("end", ["stopped", "interrupted"])
def test_a_training_that_was_stopped_before_its_end_is_not_ready_and_no_request_is_replayed(tmp_path, end):
    class End(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 6 and end == "interrupted":
                raise KeyboardInterrupt
            control.should_training_stop = state.global_step == 6

    args = ReadyConfig(str(tmp_path / "ready"), **{**QUIET, **SIZES, **BRIEF})
    trainer = ReadyTrainer(
        language_model(), args, tiny.lm_rows(24), processing_class=tiny.tokenizer(), callbacks=[End()]
    )
    with pytest.raises(KeyboardInterrupt) if end == "interrupted" else nullcontext():
        trainer.train()
    trainer.save_model()
    assert json.loads((tmp_path / "ready" / records.READINESS).read_text())["ready"] is False
    assert "its training was stopped before its end" in (tmp_path / "ready" / "README.md").read_text()
    with pytest.raises(ArgumentError, match="was stopped after step 6 of 8: there is no whole training to replay yet"):
        replayed(tmp_path / "out", tmp_path / "ready", [0])


def test_a_callback_that_would_stop_the_training_is_refused_as_a_class_and_where_it_is_added_later(tmp_path):
    args = ReadyConfig(str(tmp_path / "ready"), **{**QUIET, **SIZES, **BRIEF})
    with pytest.raises(ArgumentError, match="An `EarlyStoppingCallback` would end the training before"):
        ReadyTrainer(language_model(), args, tiny.lm_rows(24), callbacks=[EarlyStoppingCallback])
    trainer = ReadyTrainer(language_model(), args, tiny.lm_rows(24), processing_class=tiny.tokenizer())
    trainer.add_callback(EarlyStoppingCallback())
    with pytest.raises(ArgumentError, match="An `EarlyStoppingCallback` would end the training before"):
        trainer.train()


def test_what_computes_a_step_otherwise_is_refused(trainings, tmp_path):
    left = copy.deepcopy(tiny.tokenizer())
    left.padding_side = "left"
    model = AutoModelForCausalLM.from_pretrained(
        trainings / "ready", attention_dropout=0.5, attn_implementation="eager"
    )
    own = {"method": "replay", "readiness_from": str(trainings / "ready")}
    with pytest.raises(ArgumentError) as caught:
        UnlearnTrainer(model, UnlearnConfig(str(tmp_path), **QUIET, **own), [0], ROWS, processing_class=left)
    said = " ".join(caught.value.problems)
    assert "`processing_class.padding_side` is 'left', but the training had 'right', and a replay is the same" in said
    assert "`config.attention_dropout` is 0.5, but the training had 0.1" in said and len(caught.value.problems) == 2


def test_a_request_without_a_config_is_replayed_and_one_of_a_class_of_ones_own_is_not(
    trainings, tmp_path, monkeypatch
):
    class Own(UnlearnTrainer):
        pass

    parts = str(trainings / "ready"), [0, "0"], ROWS
    with pytest.raises(ArgumentError, match='`method` is "replay", and a Own takes steps on a loss. Use `UnlearnTr'):
        Own(parts[0], UnlearnConfig(str(tmp_path), **QUIET, method="replay"), *parts[1:])
    monkeypatch.chdir(tmp_path)
    request = UnlearnTrainer(parts[0], None, *parts[1:], processing_class=tiny.tokenizer())
    assert request.replays and request.asked.asked == ["0"]  # an id that is named twice is one row


def test_another_machine_than_that_of_the_training_is_told_with_both(trainings, tmp_path, caplog, monkeypatch):
    shutil.copytree(trainings / "ready", tmp_path / "ready")
    monkeypatch.setattr(
        "hf_unlearn.trainers.replaying.library_versions", lambda: {**library_versions(), "torch": "1.0"}
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    kernels = torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "others")
    with caplog.at_level("WARNING"):
        request = replayed(tmp_path / "out", tmp_path / "ready", [0])
    version = library_versions()["torch"]
    said = f"torch 1.0 (then {version}), threads 64 (then 1), kernels others (then {kernels})."
    assert f"runs on other than the training: {said}" in caplog.text
    assert request.result.metrics["guarantee"] == "approximate"
    other = {"torch": [version, "1.0"], "threads": [1, 64], "kernels": [kernels, "others"]}
    assert request.result.metrics["other_than_training"] == other
    card = (tmp_path / "out" / "README.md").read_text()
    assert "deleted exactly" not in card and "the deletion counts as approximate" in card
    late = next(i for i in (4, 8, 12, 16, 20) if request.plan.numbers_of_ids([i], request.plan.key)[0] > 20)
    again = replayed(tmp_path / "there", tmp_path / "out", [late], gone=[0])  # on what the first request ran on
    assert again.result.metrics["guarantee"] == "approximate" and again.result.metrics["other_than_training"] == other
    monkeypatch.undo()
    again = replayed(tmp_path / "here", tmp_path / "out", [late], gone=[0])
    assert again.result.metrics["guarantee"] == "approximate"


@pytest.mark.parametrize("asked", [
    [0, 8], ["0", "8"], {0, 8}, np.array([0, 8]), torch.tensor([0, 8]), {"id": [0, 8]}, tiny.lm_list(9)[::8],
    tiny.lm_rows(9).select([0, 8]), tiny.lm_rows(9).select([0, 8]).to_pandas(),
])  # fmt: skip
def test_a_request_names_its_rows_by_ids_of_any_kind_or_by_the_rows(asked):
    assert sorted(map(int, ids_of(asked))) == [0, 8]


def test_a_generator_of_ids_is_refused_since_it_is_read_but_once():
    with pytest.raises(ArgumentError, match="`forget_dataset` is a generator, which is read but once: pass a list"):
        ids_of(i for i in (0, 8))
    assert ids_of("12") == ["12"] and ids_of(12) == [12]
