"""A replay after steps on a loss, after fine-tuning and beside another request: nothing comes back, nothing is lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from helpers import tiny
from helpers.replays import KINDS, QUIET, replayed, trained
from helpers.tiny import same_bits, weights

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, plan
from hf_unlearn.trainers import checkpointing
from hf_unlearn.trainers.replay import ReplayTrainer

BOTH = {"readiness": "replay+meta", "request_rows": 3}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("ready") / "ready", **BOTH)


@pytest.fixture
def source(ready, tmp_path):
    """A copy of the ready model's folder, its snapshots with it."""
    return shutil.copytree(ready.args.output_dir, tmp_path / "ready")


def remaining(gone, kind="language model"):
    return KINDS[kind][1](24).filter(lambda row: row["id"] not in gone)


def by_steps(out, source, asked, gone=(), **options):
    """The trainer of a request by steps, of a few of them; its model is saved."""
    rows = tiny.lm_rows(24)
    options = {"passes": 2, "learning_rate": 0.01, "method": "objective", **options}
    request = UnlearnTrainer(
        str(source),
        UnlearnConfig(str(out), **{**QUIET, **options}),
        rows.filter(lambda row: row["id"] in asked),
        remaining({*asked, *gone}),
        tiny.lm_rows(4, start=100),
        processing_class=tiny.tokenizer(),
    )
    request.result = request.train()
    request.save_model()
    return request


def record_of(folder) -> dict:
    return json.loads((folder / "unlearning.json").read_text())


def test_a_few_steps_at_once_and_the_replay_afterwards(source, tmp_path):
    at_once = by_steps(tmp_path / "at once", source, [8])
    assert record_of(tmp_path / "at once")["replay"]["plan"] == str(source)
    assert at_once.result.metrics["guarantee"] in ("approximate", "not_forgotten")
    options = plan(str(tmp_path / "at once"), [8])
    assert options[0].way == "replay" and options[0].possible and options[0].guarantee == "exact"
    request = replayed(tmp_path / "out", tmp_path / "at once", [8])
    without = trained(tmp_path / "without", deleted=[8], **BOTH)
    assert request.result.metrics["guarantee"] == "exact" and same_bits(weights(request.model), weights(without.model))
    assert request.row_passes == pytest.approx(options[0].row_passes, abs=0.5)
    again = replayed(tmp_path / "next", tmp_path / "out", [20], gone=[8])  # the result is ready for the next one
    assert again.result.metrics["guarantee"] == "exact"


def test_rows_taken_out_by_steps_do_not_come_back_with_a_later_replay(source, tmp_path, caplog):
    by_steps(tmp_path / "one", source, [8])
    by_steps(tmp_path / "two", tmp_path / "one", [0], gone=[8])
    assert len(record_of(tmp_path / "two")["replay"]["removed"]) == 2
    assert "2 rows that were taken out by steps before are left out of the replay, too" in str(
        plan(str(tmp_path / "two"), [20])
    )
    request = replayed(tmp_path / "out", tmp_path / "two", [20], gone=[0, 8])
    assert request.result.metrics["removed_by_steps_before"] == 2
    without = trained(tmp_path / "without", deleted=[0, 8, 20], **BOTH)
    assert same_bits(weights(request.model), weights(without.model))


def test_a_row_taken_out_by_steps_under_another_id_does_not_come_back(source, tmp_path):
    rows = tiny.lm_rows(24).filter(lambda row: row["id"] == 8)
    renamed = rows.remove_columns("id").add_column("id", [800])
    request = UnlearnTrainer(
        str(source),
        UnlearnConfig(str(tmp_path / "one"), **QUIET, passes=1, method="objective"),
        renamed,
        remaining({8}),
        tiny.lm_rows(4, start=100),
        processing_class=tiny.tokenizer(),
    )
    assert len(request.removed_by_steps.rows) == 1


def test_rows_of_another_plan_are_told(source, tmp_path):
    by_steps(tmp_path / "one", source, [8])
    shutil.rmtree(source)
    trained(source, **BOTH)  # with another salt
    with pytest.raises(ArgumentError, match="none of the plan in .*ready: it is of another training now"):
        replayed(tmp_path / "out", tmp_path / "one", [20], gone=[8])


def test_rows_of_an_earlier_replay_stay_out_of_one_that_starts_from_before_it(source, tmp_path, caplog):
    first, *_, last = sorted(range(0, 24, 4), key=lambda i: make(tmp_path / "x", source, [i]).border)
    replayed(tmp_path / "one", source, [last])
    assert "1 row(s) that earlier requests took out of this training stay out, too" in str(plan(str(source), [first]))
    with caplog.at_level(logging.WARNING, "hf_unlearn"):
        request = replayed(tmp_path / "two", source, [first], rows=remaining({first}))  # with the last one among them
    mark = source / "_snapshots" / "superseded.json"
    assert f"taken 1 row(s) out of {source}, and they stay out" in caplog.text and f"delete {mark}." in caplog.text
    assert request.result.metrics["removed_by_replays_before"] == 1
    without = trained(tmp_path / "without", deleted=[first, last], **BOTH)
    assert same_bits(weights(request.model), weights(without.model))
    shutil.rmtree(tmp_path / "one")
    assert make(tmp_path / "three", source, [first]).plan.holes.size == 2  # for ever
    caplog.clear()
    mark.unlink()
    assert make(tmp_path / "three", source, [first]).plan.holes.size == 1
    assert "arlier request" not in caplog.text


def test_rows_of_a_chain_of_requests_stay_out_of_one_that_starts_from_the_first_model(source, tmp_path):
    first, second, third = sorted(range(0, 24, 4), key=lambda i: make(tmp_path / "x", source, [i]).border)[:3]
    replayed(tmp_path / "one", source, [third])
    replayed(tmp_path / "two", tmp_path / "one", [second], gone=[third], keep_superseded=False)
    assert not (tmp_path / "one").exists()
    request = replayed(tmp_path / "three", source, [first], rows=remaining({first}))
    without = trained(tmp_path / "without", deleted=[first, second, third], **BOTH)
    assert same_bits(weights(request.model), weights(without.model))
    assert request.outcome()["removed_by_replays_before"] == 2


def test_stable_rows_taken_out_by_steps_refuse_a_replay_and_name_the_ways(source, tmp_path):
    by_steps(tmp_path / "one", source, [1, 2])
    with pytest.raises(ArgumentError, match=r"2 stable rows .*bring them back.*by steps, too.*replay from .*ready"):
        replayed(tmp_path / "out", tmp_path / "one", [20], gone=[1, 2])
    options = plan(str(tmp_path / "one"), [20])
    assert [o.way for o in options if o.possible] == ["objective", "retrain"] and "2 stable rows" in options[0].why_not


def test_a_model_that_was_trained_on_is_not_replayed(source, tmp_path, caplog):
    tuned = KINDS["language model"][0]().from_pretrained(source)
    next(tuned.parameters()).data.add_(1e-3)
    with pytest.raises(ArgumentError, match="not those that the training of .* ended with.*Pass the model as"):
        replayed(tmp_path / "out", source, [20], model=tuned)
    with caplog.at_level(logging.WARNING, "hf_unlearn"):
        request = replayed_if_it_can_be(tmp_path / "auto", tuned, [20], keep_superseded=False)
    assert not isinstance(request, ReplayTrainer) and "not replayed" in caplog.text
    assert "They delete no earlier model: `keep_superseded=False` is not followed." in caplog.text
    assert isinstance(replayed_if_it_can_be(tmp_path / "auto", str(source), [20]), ReplayTrainer)
    tuned.save_pretrained(source)  # into the folder itself
    assert "content is not what was written" in plan(str(source), [20])[0].why_not


def test_a_training_after_the_plan_s_end_says_so_to_later_requests(source, tmp_path, caplog):
    args = ReadyConfig(str(tmp_path / "tuned"), **QUIET, readiness="none", max_steps=1)
    tuned = ReadyTrainer(str(source), args, tiny.lm_rows(24), processing_class=tiny.tokenizer())
    tuned.train()
    tuned.save_model()
    said = "was trained on after the training of .*ready had ended, and a replay would lose"
    with pytest.raises(ArgumentError, match=said):
        replayed(tmp_path / "out", tmp_path / "tuned", [20])
    with pytest.raises(ArgumentError, match=said):
        plan(str(tmp_path / "tuned"), [20])
    with caplog.at_level(logging.WARNING, "hf_unlearn"):
        assert not isinstance(replayed_if_it_can_be(tmp_path / "out", str(tmp_path / "tuned"), [20]), ReplayTrainer)
    assert "had ended" in caplog.text


def test_a_training_into_the_folder_of_the_plan_itself_says_that_the_weights_before_are_gone(source):
    args = ReadyConfig(str(source), **QUIET, readiness="none", max_steps=1)
    tuned = ReadyTrainer(str(source), args, tiny.lm_rows(24), processing_class=tiny.tokenizer())
    tuned.train()
    tuned.save_model()
    with pytest.raises(ArgumentError, match="Its weights before have been written over: restore the folder"):
        plan(str(source), [20])


def test_the_full_set_may_be_given_to_a_second_request(source, tmp_path):
    rows = tiny.lm_rows(24)
    args = UnlearnConfig(str(tmp_path / "one"), **QUIET, method="replay")
    first = UnlearnTrainer(str(source), args, rows.select([8]), rows, processing_class=tiny.tokenizer())
    first.train()
    first.save_model()
    args = UnlearnConfig(str(tmp_path / "two"), **QUIET, method="replay")
    second = UnlearnTrainer(str(tmp_path / "one"), args, rows.select([20]), rows, processing_class=tiny.tokenizer())
    assert len(second.train_dataset) == 22


def replayed_if_it_can_be(out, model, asked, **options):
    rows = tiny.lm_rows(24)
    return UnlearnTrainer(
        model,
        UnlearnConfig(str(out), **QUIET, **options),
        rows.filter(lambda row: row["id"] in asked),
        remaining(set(asked)),
        tiny.lm_rows(4, start=100),
        processing_class=tiny.tokenizer(),
    )


def test_a_request_is_refused_while_another_is_at_the_same_snapshots(source, tmp_path):
    request = make(tmp_path / "out", source, [20])
    with held(source / "_snapshots"), pytest.raises(ArgumentError, match="snapshots .* are in use by another run"):
        request.train()
    assert request.train().metrics["guarantee"] == "exact"


def make(out, source, asked, **options):
    args = UnlearnConfig(str(out), **{**QUIET, "method": "replay", **options})
    return UnlearnTrainer(str(source), args, asked, remaining(set(asked)), processing_class=tiny.tokenizer())


def held(folder):
    """The folder is another process's in the block."""
    import contextlib
    import subprocess
    import sys

    code = "import sys\nfrom hf_unlearn.trainers.output_lock import one_run_in\n"
    code += "with one_run_in(sys.argv[1]):\n    print('here', flush=True)\n    sys.stdin.read()"

    @contextlib.contextmanager
    def block():
        words = [sys.executable, "-c", code, str(folder)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "here\n"
            yield
        finally:
            process.communicate()

    return block()


def test_a_request_made_before_another_deleted_its_snapshot_is_told_where_to_go_on(source, tmp_path):
    first, second = make(tmp_path / "first", source, [0, 4, 8, 12, 16]), make(tmp_path / "second", source, [20])
    assert first.border < second.border
    first.train()
    first.save_model()
    with pytest.raises(ArgumentError, match="Start from the model that took this one's place: .*first"):
        second.train()
    third = make(tmp_path / "third", source, [20])  # it knows of the first one, and goes back as far
    assert third.border == first.border and third.plan.holes.size == 6


def test_checkpoints_of_another_run_in_the_folder_stay(source, tmp_path):
    other = tmp_path / "out" / "checkpoint-500"
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(b"of another run")
    request = make(tmp_path / "out", source, [20], save_strategy="steps", save_steps=1)
    request.train()
    assert len(checkpointing.folders(tmp_path / "out")) > 1
    request.save_model()
    assert list(checkpointing.folders(tmp_path / "out")) == [500]


def test_superseded_snapshots_go_last_and_what_is_left_is_listed(source, tmp_path):
    request = make(tmp_path / "out", source, [0, 4, 8, 12, 16, 20])
    request.train()
    earlier, *later = [source / "_snapshots" / f"checkpoint-{border}" for border in request.program.borders]
    with held(source / "_snapshots"):
        request.save_model()
    left = {one["what"]: one["why"] for one in record_of(tmp_path / "out")["not_deleted"]}
    assert later and all(path.is_dir() and left[str(path)].startswith("in use") for path in later)
    assert left[str(source)] == "kept" and any(what.startswith("revisions") for what in left)
    request.save_model()
    assert earlier.exists() and not any(path.exists() for path in later)
    assert [one["what"] for one in record_of(tmp_path / "out")["not_deleted"]][0] == str(source)


def test_snapshots_of_another_training_or_without_the_rows_are_not_superseded(source, tmp_path):
    request = make(tmp_path / "out", source, [0, 4, 8, 12, 16, 20])
    other = trained(tmp_path / "other", **BOTH, seed=7).program
    for border in request.program.borders[1:]:
        place = source / "_snapshots" / f"checkpoint-{border}"
        shutil.rmtree(place)
        shutil.copytree(other.snapshot(other.borders[0]), place)
    request = make(tmp_path / "out", source, [0, 4, 8, 12, 16, 20])
    request.train()
    request.save_model()
    assert all((source / "_snapshots" / f"checkpoint-{border}").exists() for border in request.program.borders)
    again = make(tmp_path / "again", tmp_path / "out", [0, 4, 8, 12, 16, 20])  # of rows that are deleted already
    assert not any(again.superseded.snapshots.values())


def test_snapshots_of_the_models_before_that_met_the_rows_go_too(source, tmp_path):
    first, *_, last = sorted(range(0, 24, 4), key=lambda i: make(tmp_path / "x", source, [i]).border)
    replayed(tmp_path / "one", source, [last])
    two = replayed(tmp_path / "two", tmp_path / "one", [first], gone=[last])
    for before in (source, tmp_path / "one"):
        assert list(checkpointing.folders(before / "_snapshots")) == [two.border]
    left = {one["what"]: one["why"] for one in record_of(tmp_path / "two")["not_deleted"]}
    assert left[str(source)] == left[str(tmp_path / "one")] == "kept"
    shutil.rmtree(tmp_path / "one")
    again = replayed(source, tmp_path / "two", [20 if 20 not in (first, last) else 16], gone=[first, last])
    assert list(checkpointing.folders(source / "_snapshots")) == again.program.borders  # its own, not those before
    assert str(source) not in [one["what"] for one in record_of(source)["not_deleted"]]


def test_the_model_before_goes_only_when_the_new_one_is_whole(source, tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match=r"`keep_superseded` is False, and `output_dir` is in .*ready"):
        make(source / "out", source, [20], keep_superseded=False)
    shutil.copytree(make(tmp_path / "x", source, [20]).asked.snapshot, source / "checkpoint-3")  # one of its own
    other = shutil.copytree(source / "checkpoint-3", source / "mine" / "other")
    with pytest.raises(ArgumentError, match=rf"the folder to be deleted holds other models: {other}\. Move"):
        make(tmp_path / "out", source, [20], keep_superseded=False)
    shutil.rmtree(source / "mine")
    request = make(tmp_path / "out", source, [20], keep_superseded=False)
    request.train()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hf_unlearn.trainers.superseded.Superseded.delete", stopped)
        with pytest.raises(KeyboardInterrupt):
            request.save_model()
    assert (source / "model.safetensors").exists()
    assert {"what": str(source), "why": "not yet"} in record_of(tmp_path / "out")["not_deleted"]
    before = weights(request.model)
    request.save_model()
    assert not source.exists() and not [one for one in record_of(tmp_path / "out")["not_deleted"] if "/" in one["what"]]
    again = replayed(tmp_path / "next", tmp_path / "out", [8], gone=[20])
    assert again.result.metrics["guarantee"] == "exact" and not same_bits(weights(again.model), before)


def test_snapshots_in_a_folder_of_their_own_go_with_their_model_and_with_no_copy_of_it(tmp_path):
    ready = trained(tmp_path / "ready", snapshots=str(tmp_path / "kept"))
    ready.save_model(str(tmp_path / "copy"))
    salt = str(tmp_path / "ready" / "_revocable_salt.json")
    late = max(range(0, 24, 4), key=lambda i: make(tmp_path / "x", tmp_path / "ready", [i]).border)
    replayed(tmp_path / "one", tmp_path / "copy", [late], keep_superseded=False, salt_file=salt)
    assert not (tmp_path / "copy").exists() and checkpointing.folders(tmp_path / "kept")
    result = replayed(tmp_path / "two", tmp_path / "ready", [late], keep_superseded=False)
    assert not checkpointing.folders(tmp_path / "kept") and not (tmp_path / "ready").exists()
    assert result.is_ready and replayed(tmp_path / "next", tmp_path / "two", [0, 8], gone=[late]).guarantee == "exact"


def test_snapshots_of_another_training_are_not_deleted(ready, tmp_path):
    place = tmp_path / "snapshots"
    trained(tmp_path / "one", snapshots=str(place))
    there = sorted(os.listdir(place))
    with pytest.raises(ArgumentError, match=r"`snapshots` is .*which holds snapshots of the training in .*one"):
        trained(tmp_path / "two", snapshots=str(place), seed=7)
    assert sorted(os.listdir(place)) == there
    trained(tmp_path / "one", snapshots=str(place), seed=7)  # its own may be written anew
    place.joinpath("owner.json").unlink()
    with pytest.raises(ArgumentError, match=r"`snapshots` is .*which holds checkpoints of another run"):
        trained(tmp_path / "one", snapshots=str(place))


def test_a_model_that_has_met_the_rows_before_its_plan_is_no_beginning(source, tmp_path):
    with pytest.raises(ArgumentError, match=r"6 of 6 revocable rows .* was trained on before"):
        ReadyTrainer(
            str(source),
            ReadyConfig(str(tmp_path / "out"), **{**QUIET, "readiness": "replay", "max_steps": 8}),
            tiny.lm_rows(24),
            processing_class=tiny.tokenizer(),
        )


def test_every_request_says_what_it_guarantees(source, tmp_path):
    request = by_steps(tmp_path / "one", source, [8], max_steps=1, stop=False)
    assert request.result.metrics["guarantee"] == "not_forgotten"
    assert record_of(tmp_path / "one")["guarantee"] == "not_forgotten"
    assert request.card_info()["settings"]["guarantee"] == "not_forgotten"
    exact = replayed(tmp_path / "two", source, [8])
    record = record_of(tmp_path / "two")
    for name in ("guarantee", "weights", "snapshot", "replayed_from", "replayed_steps"):
        assert record[name] == exact.result.metrics[name]
    assert record["guarantee"] == "exact" and len(record["weights"]) == len(record["snapshot"]) == 64
    assert exact.card_info()["settings"]["guarantee"] == "exact"


def test_a_request_whose_snapshot_is_lost_goes_back_to_an_earlier_one(source, tmp_path, caplog):
    last = max(range(0, 24, 4), key=lambda i: make(tmp_path / "x", source, [i]).border)
    first, *_, border = make(tmp_path / "x", source, [last]).program.borders
    passes = plan(str(source), [last]).best().row_passes
    for lost in (source / "_snapshots").glob("checkpoint-*"):
        if not lost.name.endswith(f"-{first}"):
            (lost / "optimizer.pt").write_bytes(bytes((lost / "optimizer.pt").stat().st_size))
    assert make(tmp_path / "x", source, [last]).border == first  # they are damaged, which is seen when they are read
    for lost in (source / "_snapshots").glob("checkpoint-*"):
        if not lost.name.endswith(f"-{first}"):
            shutil.rmtree(lost)
    said = f"It goes back to the one before step {first} instead"
    options = plan(str(source), [last])
    assert said in str(options) and options.best().row_passes > passes
    with caplog.at_level(logging.WARNING, "hf_unlearn"):
        request = replayed(tmp_path / "out", source, [last])
    assert request.border == first < border and said in caplog.text and f"checkpoint-{border}" in caplog.text
    assert request.row_passes == pytest.approx(options.best().row_passes, abs=0.5)
    without = trained(tmp_path / "without", deleted=[last], **BOTH)
    assert same_bits(weights(request.model), weights(without.model))
    assert all((tmp_path / "out" / "_snapshots" / f"checkpoint-{b}").is_dir() for b in request.program.borders)


def test_a_record_names_the_snapshots_beside_the_model_as_seen_from_its_folder(ready, tmp_path):
    def place(folder):
        return json.loads((folder / "readiness.json").read_text())["replay"]["snapshots"]

    ready.save_model(str(tmp_path / "copy"))
    out, copy = Path(ready.args.output_dir), tmp_path / "copy"
    assert place(out) == "_snapshots" and os.path.samefile(copy / place(copy), out / "_snapshots")
    request = make(tmp_path / "out", copy, [20], salt_file=str(out / "_revocable_salt.json"))
    assert request.train().metrics["guarantee"] == "exact"
