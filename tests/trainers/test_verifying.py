"""`verify` repeats a training and finds what differs; `plan` says what a request costs before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import tiny
from helpers.replays import KINDS, QUIET, SIZES, adapter, language_model, replayed, trained
from transformers import TrainerCallback, TrainingArguments

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, plan, verify
from hf_unlearn.trainers import replay, verdict, verifying
from hf_unlearn.trainers.replaying import machine
from hf_unlearn.trainers.saved_weights import apart, present, saved
from hf_unlearn.trainers.weights_digest import digested
from hf_unlearn.utils import manifest
from hf_unlearn.utils.files import read_json, write_json

GONE = [0, 20]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("ready"))


@pytest.fixture(scope="module")
def out(ready, tmp_path_factory):
    return replayed(tmp_path_factory.mktemp("out"), ready.args.output_dir, GONE)


def verified(out, tmp_path, rows=None, **options):
    rows = tiny.lm_rows(24).filter(lambda row: row["id"] not in GONE) if rows is None else rows
    args = TrainingArguments(str(tmp_path), **QUIET)
    return verify(str(out.args.output_dir), rows, args=args, processing_class=tiny.tokenizer(), **options)


def test_a_result_is_verified_from_the_start_and_from_a_snapshot(out, tmp_path):
    whole = verified(out, tmp_path, model=language_model())
    assert whole.passed and str(whole).startswith("PASS from the start:")
    trusted = verified(out, tmp_path)
    assert trusted.passed and str(trusted).startswith("PASS from snapshot (trusted):")


def test_another_beginning_is_what_differs_first(out, tmp_path):
    verdict = verified(out, tmp_path, model=tiny.lm(seed=1, attention_dropout=0.1))
    assert not verdict.passed and "before the first step are others" in verdict.differs


def test_what_differs_first_is_named_with_its_tensor_and_by_how_much(out, tmp_path):
    """A snapshot of other weights under a manifest of its own: whoever made it says that nothing is damaged."""
    from hf_unlearn.trainers import checkpointing

    last = out.program.snapshot(max(out.program.borders))
    kept = {path: path.read_bytes() for path in Path(last).iterdir()}
    weights, record = Path(last, "model.safetensors"), Path(last, "readiness.json")
    try:
        tensors = safetensors.torch.load_file(weights)
        tensors["model.norm.weight"] += 0.25
        safetensors.torch.save_file(tensors, weights, {"format": "pt"})
        content = read_json(record)
        content["replay"]["weights"] = "another"
        write_json(record, content)
        checkpointing.write_manifest(last)
        said = str(verified(out, tmp_path, model=language_model()))
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert said.startswith(f"FAIL from the start: The weights before step {max(out.program.borders)} are others")
    assert "model.norm.weight first, 1 of " in said and "by 0.25 at most" in said


@pytest.mark.parametrize("kind", [tiny.slow("image"), "batch norm"])
def test_weights_of_other_names_in_the_files_and_moving_buffers_are_compared_too(tmp_path, kind):
    trained(tmp_path / "ready", kind)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE, kind)
    assert apart(present(request.model), saved(request.model, str(tmp_path / "out"))) is None
    rows = KINDS[kind][1](24).filter(lambda row: row["id"] not in GONE)
    assert verified(request, tmp_path / "x", rows).passed
    with torch.no_grad():
        (name, tensor), *_ = digested(request.model)[::-1]  # the last one: of a batch norm, what it has counted
        tensor.add_(1)
    gap = apart(present(request.model), saved(request.model, str(tmp_path / "out")))
    assert (gap.first, gap.count) == (name, 1) and gap.most == pytest.approx(1.0)


class OtherSums(TrainerCallback):
    """What sums in another order do to the weights of a step."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            model.model.norm.weight.mul_(1 + 1e-6)


def test_on_another_version_bits_may_differ_and_a_tolerance_is_named(out, tmp_path, monkeypatch):
    plain = verified(out, tmp_path, model=language_model(), callbacks=[OtherSums()])
    assert plain.status == "failed" and " of 14 tensors" in str(plain)  # here nothing excuses it
    monkeypatch.setattr(replay, "machine", lambda trainer: {**machine(trainer), "torch": "9.9"})
    assert verified(out, tmp_path, model=language_model()).passed  # the same bits need no excuse
    near = verified(out, tmp_path, model=language_model(), callbacks=[OtherSums()])
    assert not near.passed and near.status == "within tolerance" and 0 < near.distance < 0.01
    assert str(near).startswith("PASS within tolerance, from the start") and "torch 9.9 (then " in str(near)
    monkeypatch.setattr(verifying, "TOLERANCE", near.distance / 1e3)
    far = verified(out, tmp_path, model=language_model(), callbacks=[OtherSums()])
    assert far.status == "undecided" and str(far).startswith("UNDECIDED from the start: The weights before step")
    other = verified(out, tmp_path, model=tiny.lm(seed=1, attention_dropout=0.1))
    assert other.status == "failed"  # no order of sums makes another beginning


def test_a_replay_elsewhere_is_exact_only_once_verify_has_passed(tmp_path, monkeypatch):
    trained(tmp_path / "ready")
    here = machine
    with monkeypatch.context() as patch:
        patch.setattr(replay, "machine", lambda trainer: {**here(trainer), "torch": "9.9"})
        request = replayed(tmp_path / "copy", tmp_path / "ready", [8])
    folder = tmp_path / "copy"
    rows = tiny.lm_rows(24).filter(lambda row: row["id"] != 8)
    assert read_json(folder / "unlearning.json")["guarantee"] == "approximate"
    assert verified(request, tmp_path / "x", rows).passed
    assert read_json(folder / "unlearning.json")["guarantee"] == "approximate"  # nothing was to be written
    assert verified(request, tmp_path / "x", rows, record=True).passed
    record = read_json(folder / "unlearning.json")
    assert record["guarantee"] == "exact" and record["verified"]["how"] == "from snapshot"
    assert "## Verified" in (folder / "README.md").read_text() and manifest.damage(folder) == []
    verified(request, tmp_path / "x", rows, model=language_model(), record=True)
    verified(request, tmp_path / "x", rows, record=True)
    assert read_json(folder / "unlearning.json")["verified"]["how"] == "from the start"  # which says more
    request.state.global_step -= 1  # other weights are saved there
    request.save_model()
    assert "## Verified" not in (folder / "README.md").read_text()


def test_a_replay_with_other_code_of_ones_own_is_exact_only_once_verified_from_the_start(tmp_path):
    other = {"code of data_collator": ["a", "b"]}
    content = {"stop_reason": "replayed", "guarantee": "approximate", "other_than_training": other}
    write_json(tmp_path / "unlearning.json", content)
    for how, guarantee in (("from snapshot", "approximate"), ("from the start", "exact")):
        verdict.record(verdict.Verdict(True, how, None, other, weights="w"), str(tmp_path), {})
        assert read_json(tmp_path / "unlearning.json")["guarantee"] == guarantee


def test_a_model_that_did_not_pass_gets_no_record(out, tmp_path):
    before = read_json(f"{out.args.output_dir}/unlearning.json")
    verified(out, tmp_path, model=tiny.lm(seed=1, attention_dropout=0.1), record=True)
    assert read_json(f"{out.args.output_dir}/unlearning.json") == before


@pytest.mark.slow
def test_an_adapter_is_verified_from_its_start_and_from_a_snapshot(tmp_path):
    base = tmp_path / "base"
    language_model().save_pretrained(base)
    args = ReadyConfig(str(tmp_path / "ready"), **{**QUIET, **SIZES})
    trainer = ReadyTrainer(str(base), args, tiny.lm_rows(24), processing_class=tiny.tokenizer(), peft_config=adapter())
    trainer.train()
    trainer.save_model()
    own = {"processing_class": tiny.tokenizer(), "args": TrainingArguments(str(tmp_path), **QUIET)}
    whole = verify(str(tmp_path / "ready"), tiny.lm_rows(24), model=str(base), peft_config=adapter(), **own)
    assert str(whole).startswith("PASS from the start")
    assert verify(str(tmp_path / "ready"), tiny.lm_rows(24), **own).passed
    tiny.lm(seed=5, attention_dropout=0.1).save_pretrained(base)  # another model in the place of the adapter's base
    said = str(verify(str(tmp_path / "ready"), tiny.lm_rows(24), model=str(base), peft_config=adapter(), **own))
    assert said.startswith("FAIL from the start: The weights that are not trained, such as those below an adapter, are")
    with pytest.raises(ArgumentError, match="not trained, such as those below an adapter, are others than at the trai"):
        replayed(tmp_path / "out", tmp_path / "ready", [0])


def test_weights_that_somebody_has_touched_do_not_pass(out, tmp_path):
    """The record's digest is of the training; the file is held against its own manifest when it is loaded."""
    path = f"{out.args.output_dir}/model.safetensors"
    kept = safetensors.torch.load_file(path)
    touched = {name: value + 1e-3 for name, value in kept.items()}
    try:
        safetensors.torch.save_file(touched, path, {"format": "pt"})
        verdict = verified(out, tmp_path, model=language_model())
        assert not verdict.passed and "model.safetensors" in verdict.differs
    finally:
        safetensors.torch.save_file(kept, path, {"format": "pt"})


def test_rows_that_are_missing_or_others_are_told(out, tmp_path):
    rows = tiny.lm_rows(24).filter(lambda row: row["id"] not in GONE)
    with pytest.raises(ArgumentError, match="1 of the 24 rows of the training are neither here nor asked for"):
        verified(out, tmp_path, rows.select(range(1, len(rows))))
    other = rows.map(lambda row: {"labels": [-100, *row["labels"][1:-1], 3]} if row["id"] in (1, 5) else {})
    with pytest.raises(ArgumentError, match=r"2 of 22 rows \(ids 1, 5\) are not what was trained on"):
        verified(out, tmp_path, other)


def test_a_plan_says_every_way_with_its_cost(ready):
    options = {option.way: option for option in plan(ready.args.output_dir, GONE)}
    order, numbers = ready.plan.order, ready.plan.numbers_of_ids(GONE, ready.plan.key)
    border = min(order.borders[[sum(n >= e for e in (20, 22)) for n in numbers]])
    assert options["replay"].row_passes == order.passes(int(border), numbers)
    assert options["retrain"].row_passes == order.passes(0, numbers) and options["retrain"].share_of_retraining == 1
    assert options["replay"].guarantee == options["retrain"].guarantee == "exact"
    assert options["objective"].guarantee == "approximate"
    seconds = ready.plan.training["seconds"] / ready.plan.training["row_passes"]
    assert options["replay"].minutes == pytest.approx(options["replay"].row_passes * seconds / 60)


def test_a_plan_for_a_stable_row_says_what_exact_would_cost(ready):
    options = plan(ready.args.output_dir, [1])
    assert not options[0].possible and "stable" in options[0].why_not and options[0].share_of_retraining == 1
    assert options.best().way == "objective" and "'replay' cannot be done now" in str(options)


def test_a_plan_says_how_many_of_the_rows_are_out_already(out):
    assert "2 of the asked rows are out of this model already" in str(plan(out.args.output_dir, [*GONE, 4]))


def test_a_plan_for_rows_that_were_never_there_is_refused(ready):
    with pytest.raises(ArgumentError, match=r"1 of 2 asked rows \(ids 99\) were not in the training"):
        plan(ready.args.output_dir, [0, 99])


def test_digests_tell_weights_apart_by_a_bit_and_not_by_their_order_in_memory():
    from hf_unlearn.trainers.weights_digest import weights_digest

    model = tiny.lm()
    before = weights_digest(model)
    assert weights_digest(tiny.lm()) == before
    with torch.no_grad():
        weight = model.model.norm.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(2.0))
    assert weights_digest(model) != before
