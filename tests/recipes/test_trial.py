"""The study's cells: what is asked of a model, which rows a wrong request takes, and that a killed study goes on."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny import bert, image_rows, lm, lm_rows, text_class_rows, tokenizer, vit

from hf_unlearn import ArgumentError
from hf_unlearn.cli import evaluate, prepare, ready
from hf_unlearn.data.collate import default_collator
from hf_unlearn.evaluation import collect
from hf_unlearn.readiness import break_even
from hf_unlearn.utils.files import read_json, write_json
from recipes.study import cells, trial
from recipes.study.tasks import ARMS, JUDGES, TASKS, YARDSTICKS, arms_of, flags_of, needed_by, requests_of


def rows_of(model, make, goal="unseen", n=12) -> trial.RequestRows:
    splits = {"forget": make(n), "retain": make(3 * n, n), "unseen": make(n, 100)}
    return trial.RequestRows(splits, default_collator(model, tokenizer()), goal, 3)


@pytest.mark.parametrize("model, make", [
    (lm, lm_rows), (bert, text_class_rows), (vit, image_rows),
], ids=["llama", "bert", "vit"])  # fmt: skip
def test_a_look_is_what_the_row_table_says(model, make):
    model = model().train()
    rows = rows_of(model, make)
    seen = trial.look(model, rows.batches("forget"))
    table = collect(model, rows.splits["forget"], rows.collator).to_pandas()
    assert seen["loss"] == pytest.approx(table.nll_sum.sum() / table.n_labels.sum(), rel=1e-6)
    assert seen["rows"] == pytest.approx((table.nll_sum / table.n_labels).tolist(), rel=1e-5)
    assert seen["accuracy"] == pytest.approx((table.n_correct == table.n_labels).mean())
    assert seen["token_accuracy"] == pytest.approx(table.n_correct.sum() / table.n_labels.sum())
    assert model.training


def test_a_request_is_watched_until_the_rows_are_forgotten_and_the_others_kept():
    torch.manual_seed(0)
    model = lm()
    rows = rows_of(model, lm_rows)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = trial.look(model, rows.batches("retain"))["accuracy"]
    after, found = trial.ask(model, rows, trial.Request(1e-3), kept, seed=0)
    assert found["method"] == "nabla_tau" and found["forgotten"] == found["done"] == 0  # it never knew them
    (step, passes, *_), *others = found["looks"]
    assert step == 1 and passes < 32 and not others  # a shut gate saves the forget rows' backward
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()) and after is not model
    _, found = trial.ask(model, rows, trial.Request(1e-3, "npo", {"passes": "20"}), kept=1.1, seed=0)
    assert found["done"] is None and [look[0] for look in found["looks"]] == [*range(1, 11), 11, 13, 15]
    assert trial.passes_to(found) is None and trial.passes_to(found, "forgotten") == 32.0


def test_accuracy_may_be_measured_on_other_rows(monkeypatch):
    task = TASKS["digits"]
    for name, flags in (("none", None), ("more", "--limit 100 --test_fraction 0.5")):
        few = {"flags": f"{task.flags} --limit 200", "tested_on": flags}
        monkeypatch.setitem(TASKS, name, dataclasses.replace(task, **few))
    (_, rows), (_, more) = (cells.rows_for(name, 0, None, False, vit()) for name in ("none", "more"))
    assert more.counts == {**rows.counts, "test": 50} and rows.counts["test"] == 40
    assert all(more.splits[name]["id"] == rows.splits[name]["id"] for name in ("forget", "retain", "unseen"))
    asked = cells.measured_as("more", "plain")
    assert asked == {**cells.measured_as("none", "plain"), "tested_on": TASKS["more"].tested_on}

    def with_other_classes(data, *given, plain=prepare.prepare):
        found = plain(data, *given)
        return dataclasses.replace(found, labels=found.labels[1:]) if data.limit == 100 else found

    monkeypatch.setattr(prepare, "prepare", with_other_classes)
    with pytest.raises(ValueError, match="more: the rows to test on have the classes"):
        cells.rows_for("more", 0, None, False, vit())


@pytest.mark.parametrize("by", [None, "group"])
def test_a_wrong_request_exchanges_rows_and_loses_none(by):
    rows = rows_of(lm(), lm_rows)
    for name, part in rows.splits.items():
        rows.splits[name] = part.add_column("group", [f"{name}{i // 3}" for i in range(len(part))])
    mine, others = set(rows.splits["forget"]["id"]), set(rows.splits["retain"]["id"])
    for share in (0.5, 1.0):
        wrong = trial.other_rows(rows, share, 0, by).splits
        asked = set(wrong["forget"]["id"])
        assert len(asked) == 12 and len(asked & others) == 12 * share
        assert asked | set(wrong["retain"]["id"]) == mine | others and not asked & set(wrong["retain"]["id"])
        if by:
            groups = set(wrong["forget"]["group"])
            assert groups.isdisjoint(wrong["retain"]["group"])


@pytest.mark.parametrize("by", [None, "group"])
def test_three_requests_take_all_rows_and_keep_what_is_still_to_come(by):
    rows = rows_of(lm(), lm_rows)
    rows.splits["forget"] = rows.splits["forget"].add_column("group", [f"g{i // 2}" for i in range(12)])
    rows.splits["retain"] = rows.splits["retain"].add_column("group", ["r"] * 36)
    parts = [part.splits for part in trial.thirds(rows, by)]
    assert [len(part["forget"]) for part in parts] == [4, 4, 4]
    assert [len(part["retain"]) for part in parts] == [44, 40, 36]
    assert sorted(i for part in parts for i in part["forget"]["id"]) == sorted(rows.splits["forget"]["id"])
    if by:
        assert all(len(set(part["forget"]["group"])) == 2 for part in parts)


def test_an_adapter_is_asked_too_and_the_model_stays():
    from peft import PeftModel

    model = lm()
    rows = rows_of(model, lm_rows)
    request = trial.Request(1e-3, options={"passes": "1"}, adapter=True)
    after, found = trial.ask(model, rows, request, kept=0.0, seed=0)
    assert isinstance(after, PeftModel) and found["method"] == "nabla_tau, LoRA"
    methods = [r.method for r in requests_of(TASKS["tofu"], "plain")]
    assert methods.count("nabla_tau, LoRA") == methods.count("npo") == 2
    assert methods.count("nabla_tau") == 2 + len(TASKS["tofu"].beyond) == 4
    assert len(requests_of(TASKS["tofu"], "any group")) == 2  # rates beyond are for the arms that are compared
    assert "nabla_tau, LoRA" not in [r.method for r in requests_of(TASKS["people"], "plain")]
    tried = {arm: {r.method for r in requests_of(TASKS["tofu"], arm)} for arm in ("equal", "any group")}
    assert tried == {"equal": {"nabla_tau", "nabla_tau, LoRA"}, "any group": {"nabla_tau"}}  # other methods: plain only
    assert {r.method for r in requests_of(TASKS["people"], "equal")} >= {"npo", "grad_diff"}


def test_a_task_may_train_adapters_on_a_model_that_learned_other_people(tmp_path, monkeypatch, capsys):
    from peft import PeftModel

    from hf_unlearn.data.rows import people
    from hf_unlearn.options import INNER_LR, INNER_LR_ADAPTER
    from hf_unlearn.trainers.loading import load_model
    from recipes.study.base import SEED, digest, ensure_base

    task, known = TASKS["people LoRA"], people.people()["person"]
    assert task.base == 480 and not set(known) & set(people.people(task.base, SEED)["person"])
    monkeypatch.setitem(TASKS, "people LoRA", dataclasses.replace(task, base=30))
    monkeypatch.chdir(tmp_path)
    built = []
    monkeypatch.setattr(cells, "build", lambda *cell: built.append(cell) or 1.0)
    flags = ["--task", "people LoRA", "--seeds", "0", "--arms", "plain", "--output_dir", "a b", "--smoke"]
    cells.main(flags)
    base = cells.base_of(Path("a b"), "people LoRA")
    made = (base / "model.safetensors").stat().st_mtime_ns
    cells.main(flags)
    assert os.listdir(base.parent) == ["base"] and (base / "model.safetensors").stat().st_mtime_ns == made  # once
    assert [cell[:3] for cell in built] == 2 * [("people LoRA", arm, 0) for arm in ("retrained", "plain")]
    assert capsys.readouterr().out.count("on 30 other people, first") == 1

    folder = cells.train("people LoRA", "ready", 0, Path("a b"), None, True)
    monkeypatch.chdir("/")  # a folder is found from everywhere
    folder = tmp_path / folder
    model = load_model(str(folder))
    assert isinstance(model, PeftModel) and not (folder / "model.safetensors").exists()
    assert model.peft_config["default"].base_model_name_or_path == str(base)
    assert (base / "model.safetensors").stat().st_mtime_ns == made
    _, rows = cells.rows_for("people LoRA", 0, None, True, model, str(base))
    assert max(max(row) for row in rows.splits["retain"]["input_ids"]) < model.config.vocab_size

    kept = json.loads((folder / "training.json").read_text())["settings"]
    assert kept["base"] == digest(base) and kept["defaults"]["inner_lr"] == INNER_LR_ADAPTER
    assert json.loads((folder / "readiness.json").read_text())["inner_lr"] == INNER_LR_ADAPTER
    assert cells.settings_of(TASKS["people"], ARMS["ready"], 0, True)["defaults"]["inner_lr"] == INNER_LR
    assert cells.same_settings(tmp_path / "a b", "people LoRA", "ready", 0, True)
    with pytest.raises(ValueError, match="holds another model"):
        ensure_base(task, base)
    (base / "model.safetensors").write_bytes(b"another")
    with pytest.raises(ValueError, match="made with another base"):
        cells.same_settings(tmp_path / "a b", "people LoRA", "ready", 0, True)


def test_a_base_that_another_process_made_meanwhile_stays(tmp_path, monkeypatch):
    from recipes.study.base import ensure_base

    base, calls = tmp_path / "base", []

    def train(script, data, model, args):  # another process is done first
        calls.append(args.max_steps)
        if len(calls) == 1:
            ensure_base(TASKS["people LoRA"], base, True)
        Path(args.output_dir, "original").mkdir(parents=True)
        Path(args.output_dir, "original", "model.safetensors").write_text(str(len(calls)) if len(calls) == 1 else "2nd")

    monkeypatch.setattr(ready, "train", train)
    ensure_base(TASKS["people LoRA"], base, True)
    assert calls == [4, 4] and (base / "model.safetensors").read_text() == "2nd" and os.listdir(tmp_path) == ["base"]


def test_a_cell_measured_in_another_way_is_not_taken(tmp_path):
    path = cells.cell_path(tmp_path, "digits", "plain", 0)
    assert not cells.same_measures(tmp_path, "digits", "plain", 0)
    path.parent.mkdir(parents=True)
    now = cells.measured_as("digits", "plain")
    path.write_text(json.dumps({"measured": now}))
    assert cells.same_measures(tmp_path, "digits", "plain", 0)
    path.write_text(json.dumps({"measured": {**now, "attack": 1.0}}))
    with pytest.raises(ValueError, match="measured with another attack"):
        cells.same_measures(tmp_path, "digits", "plain", 0)
    assert {"requests", "scenarios", "options"} <= set(now)
    assert now == json.loads(json.dumps(now))  # as JSON gives them back
    assert cells.measured_as("digits 10 %", "verdict")["verdicts"][2] == list(YARDSTICKS)
    assert set(cells.measured_as("digits", "retrained")) == {"attack", "relearning"}


def test_membership_auc_matches_a_hand_count():
    assert trial.membership({"forget": [0.1, 0.2], "unseen": [1.0, 2.0]}) == 1.0
    assert trial.membership({"forget": [1.0, 3.0], "unseen": [2.0, 4.0]}) == 0.75


def test_another_seed_asks_for_other_rows():
    found = {}
    for seed in (0, 1):
        flags = flags_of(TASKS["digits"], seed, None, False)
        found[seed] = flags[flags.index("--forget_values") + 1], flags[flags.index("--split_seed") + 1]
    assert found == {0: ("3", "0"), 1: ("4", "1")}
    for name, task in TASKS.items():
        flags = flags_of(task, 3, "DIR", False)
        assert not any("{" in word for word in flags), name
        assert flags_of(task, 3, "DIR", False) == flags


def test_a_control_has_the_passes_of_the_arm_it_is_like():
    assert needed_by("verdict") == {"plain", *JUDGES[:-1], "retrained"}
    assert needed_by("equal") == {"plain", "ready", "retrained"} and needed_by("retrained") == set()
    assert not set(JUDGES) & set(arms_of("people")) and "any group" in arms_of("people")
    assert set(JUDGES) < set(arms_of("digits 10 %")) and arms_of("digits 10 %", ["plain"]) == ["plain"]
    assert "any group" not in arms_of("digits 10 %", ["any group", "plain"])  # no column to group by
    assert "half step" in arms_of("people LoRA") and "half step" not in arms_of("people") + arms_of("digits")
    assert ARMS["equal"].like == "ready" and ARMS["ready"].flags == ""
    assert all(arm.like is None or arm.like in ARMS for arm in ARMS.values())
    assert all(set(task.arms or ()) <= set(ARMS) for task in TASKS.values())


def test_help_lists_the_tasks(capsys):
    with pytest.raises(SystemExit) as end:
        cells.main(["--help"])
    assert end.value.code == 0 and "digits 10 %" in " ".join(capsys.readouterr().out.split())


def test_a_models_settings_are_kept_and_another_is_not_taken_for_it(tmp_path):
    folder = cells.cell_path(tmp_path, "digits", "ready", 0).with_suffix("")
    assert not cells.same_settings(tmp_path, "digits", "ready", 0, False)
    folder.mkdir(parents=True)
    settings = cells.settings_of(TASKS["digits"], ARMS["ready"], 0, True)
    (folder / "training.json").write_text(json.dumps({"settings": settings}))
    assert cells.same_settings(tmp_path, "digits", "ready", 0, True)
    with pytest.raises(ValueError, match="made with another flags, smoke"):
        cells.same_settings(tmp_path, "digits", "ready", 0, False)
    settings["defaults"]["lambda_efficiency"] = 0.7
    (folder / "training.json").write_text(json.dumps({"settings": settings}))
    with pytest.raises(ValueError, match="made with another defaults"):
        cells.same_settings(tmp_path, "digits", "ready", 0, True)


def test_a_control_of_another_cost_is_not_taken(tmp_path):
    costs = {"plain": (100, 1000.0), "ready": (100, 1800.0), "equal": (180, 1800.0)}
    for arm, (steps, passes) in costs.items():
        folder = cells.cell_path(tmp_path, "digits", arm, 0).with_suffix("")
        folder.mkdir(parents=True)
        found = {"steps": steps, "row_passes": passes, "settings": settings_of("digits", arm)}
        (folder / "training.json").write_text(json.dumps(found))
    assert cells.same_settings(tmp_path, "digits", "equal", 0, True)
    found = {"steps": 100, "row_passes": 1500.0, "settings": settings_of("digits", "ready")}
    (folder.with_name("ready-0") / "training.json").write_text(json.dumps(found))
    for there in (cells.same_settings, cells.same_measures):
        flags = [True] if there is cells.same_settings else []
        path = cells.cell_path(tmp_path, "digits", "equal", 0)
        path.write_text(json.dumps({"measured": cells.measured_as("digits", "equal"), "training": {"steps": 180}}))
        with pytest.raises(ValueError, match="another number of steps than ready asks for"):
            there(tmp_path, "digits", "equal", 0, *flags)


def settings_of(task: str, arm: str) -> dict:
    return cells.settings_of(TASKS[task], ARMS[arm], 0, True)


def test_seeds_and_wrong_flags(tmp_path):
    assert cells.seeds_of("0-2") == [0, 1, 2] and cells.seeds_of("0,3,5-6") == [0, 3, 5, 6]
    wrong = "(?s)`--task` is nothing.*`--arms` is lazy.*`--seeds` is 'x'.*`--jobs` is 0"
    with pytest.raises(ArgumentError, match=wrong):
        cells.main(["--task", "nothing", "--arms", "lazy", "--seeds", "x", "--jobs", "0"])
    for wrong in ("4-2", "0-", ""):
        with pytest.raises(ArgumentError, match="`--seeds` is"):
            cells.main(["--task", "digits", "--seeds", wrong])
    assert cells.seeds_of("0,0,2-2") == [0, 2]
    with pytest.raises(ArgumentError, match="`--data` is None; tofu read"):
        cells.main(["--task", "tofu"])
    (tmp_path / "banking77").mkdir()
    with pytest.raises(ArgumentError, match="has no folder cifar10, tofu"):
        cells.main(["--task", "all", "--data", str(tmp_path)])
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="which is no folder(?s:.*)`--publish` says where"):
        cells.main(["--task", "digits", "--publish", "--output_dir", str(tmp_path / "file")])
    with pytest.raises(ArgumentError, match="Nothing to do"):
        cells.main([])


def test_the_second_retrained_model_is_judged_as_all_others(monkeypatch):
    from types import SimpleNamespace

    import hf_unlearn
    from hf_unlearn.evaluation import judge
    from hf_unlearn.evaluation.gates import Status

    seen = []
    run = SimpleNamespace(measures={}, to_dict=dict)
    ended = SimpleNamespace(model="after", row_passes=1.0, stop_reason="done")
    monkeypatch.setattr(hf_unlearn, "evaluate", lambda models, *args, **kwargs: dict.fromkeys(models, run))
    monkeypatch.setattr(trial, "unlearner", lambda *args: ended)
    judged = SimpleNamespace(verdict=judge.Verdict.TOLD_APART, status=lambda gate: Status.FAILED)
    monkeypatch.setattr(judge, "judge_run", lambda run, **kwargs: seen.append(kwargs) or judged)
    rows = trial.RequestRows({"retain": lm_rows(4)}, None, "unseen", 0)
    prepared = SimpleNamespace(processing_class=None)
    yardsticks = {"epochs": ["first", "second"], "steps": ["third", "fourth"]}
    found = trial.verdicts("model", rows, prepared, yardsticks, (1e-4, 1e-3), 0)
    assert len(found) == 2 * (1 + 2 * len(trial.JUDGED_GAPS))
    assert found[0]["verdict"] == "told apart" and set(found[0]["gates"].values()) == {False}
    assert len(seen) == len(found) and not any("again" in kwargs for kwargs in seen)  # one limit for all
    assert [line["yardstick"] for line in found] == ["epochs", "steps"] * (len(found) // 2)


def test_retraining_as_long_makes_the_steps_of_plain(tmp_path, monkeypatch):
    task = TASKS["digits 10 %"]
    monkeypatch.setitem(TASKS, "digits 10 %", dataclasses.replace(task, flags=f"{task.flags} --limit 100"))
    plain = cells.cell_path(tmp_path, "digits 10 %", "plain", 0).with_suffix("")
    plain.mkdir(parents=True)
    (plain / "training.json").write_text(json.dumps({"steps": 630, "row_passes": 38_790.0}))
    steps = []

    def stop(script, data, model, args, prepared):
        steps.append((script.role, args.max_steps))
        raise InterruptedError

    monkeypatch.setattr(ready, "train", stop)
    for arm in ("retrained as long", "retrained as long again", "retrained"):
        with pytest.raises(InterruptedError):
            cells.train("digits 10 %", arm, 0, tmp_path, None, False)
    assert steps == [("retrained", 630), ("retrained_again", 630), ("retrained", -1)]


def test_arms_that_a_task_does_not_have(tmp_path):
    with pytest.raises(ArgumentError, match="digits has no arm verdict"):
        cells.main(["--task", "digits", "--arms", "verdict", "--output_dir", str(tmp_path)])
    with pytest.raises(ArgumentError, match="digits 10 % has no arm any group"):
        cells.main(["--task", "people", "digits 10 %", "--arms", "any group", "--output_dir", str(tmp_path)])


@pytest.mark.slow
def test_the_study_runs_in_a_smoke_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trial, "JUDGED_GAPS", trial.JUDGED_GAPS[:2])
    monkeypatch.setattr(trial, "RELEARNING", {**trial.RELEARNING, "steps": 5})
    rows = TASKS["people rows 10 %"]
    monkeypatch.setitem(TASKS, "people rows 10 %", dataclasses.replace(rows, judged_at=rows.judged_at[:1]))
    monkeypatch.setitem(TASKS, "digits", dataclasses.replace(TASKS["digits"], rates=TASKS["digits"].rates[:2]))
    flags = ["--smoke", "--seeds", "0", "--output_dir", str(tmp_path)]
    cells.main([*flags, "--task", "digits", "--arms", "equal", "any group"])
    out = capsys.readouterr().out
    assert "[5/5] digits" in out
    found_cells = {path.name: json.loads(path.read_text()) for path in (tmp_path / "digits").glob("*.json")}
    assert set(found_cells) == {f"{arm}-0.json" for arm in ("retrained", "plain", "ready", "equal", "any_group")}
    ready, equal = found_cells["ready-0.json"]["training"], found_cells["equal-0.json"]["training"]
    assert equal["row_passes"] == pytest.approx(ready["row_passes"], rel=0.15)
    assert {"resisted", "after", "scenarios"} <= set(found_cells["equal-0.json"])
    (tmp_path / "digits" / "any_group-0.json").unlink()
    cells.main([*flags, "--task", "digits", "--arms", "any group"])
    assert "[1/1] digits, any group" in capsys.readouterr().out  # the rest was there
    cells.main([*flags, "--task", "people rows 10 %"])
    found = json.loads((tmp_path / "people_rows_10pc" / "verdict-0.json").read_text())["verdicts"]
    gaps = [line["gap"] for line in found]
    each = len(YARDSTICKS)
    assert gaps == ["retrained again"] * each + [gap for gap in trial.JUDGED_GAPS for _ in range(each)]
    assert all(set(line["gates"]) == set(found[0]["gates"]) for line in found)
    weights = tmp_path / "people_rows_10pc" / "plain-0" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="measured with another plain model. Remove it"):
        cells.main([*flags, "--task", "people rows 10 %"])


# ---- break-even -----------------------------------------------------------------------------------------------------


def test_break_even_by_hand():
    assert break_even.break_even(1800.0, 1000.0, 50.0, 250.0) == {
        "training_extra": 800.0, "request_saves": 200.0, "requests": 4.0,
    }  # fmt: skip
    assert break_even.break_even(1800.0, 1000.0, 250.0, 250.0)["requests"] is None
    assert break_even.break_even(900.0, 1000.0, 50.0, 250.0)["requests"] == 0.0


class Costs(dict):
    reasons: dict = {}

    def __getitem__(self, role):
        reason = self.reasons.get(role, "forget_loss_reached_target")
        return SimpleNamespace(cost={"row_passes": super().__getitem__(role)}, stop_reason=reason)


def test_the_evaluation_tells_when_readiness_has_paid_and_writes_it_beside_the_model(tmp_path):
    costs = Costs(ready=1800.0, original=1000.0, ready_unlearned=50.0, unlearned=250.0)
    folders = {role: str(tmp_path) for role in costs}
    write_json(tmp_path / "readiness.json", {"schema": 1, "ready": True})
    line = evaluate.break_even(costs, folders)
    assert line == "Readiness cost 800 row passes, a request took 200 fewer: 4 requests of that size pay for it."
    written = read_json(tmp_path / "readiness.json")
    assert written == {"schema": 1, "ready": True, "break_even": break_even.break_even(1800.0, 1000.0, 50.0, 250.0)}
    assert "does not pay" in evaluate.break_even(Costs(costs, unlearned=40.0), folders)
    (tmp_path / "readiness.json").unlink()
    write_json(tmp_path / "readiness.json", {"schema": 1, "ready": True})
    costs.reasons = {"ready_unlearned": "all_passes_done"}  # cheap, since it was not done
    assert "the request that led to ready_unlearned was not done" in evaluate.break_even(costs, folders)
    assert "break_even" not in read_json(tmp_path / "readiness.json")
    costs.reasons = {}
    assert evaluate.break_even(costs, {k: v for k, v in folders.items() if k != "original"}) is None
