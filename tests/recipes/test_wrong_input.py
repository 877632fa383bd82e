"""Wrong input of the verbs is refused in one message, before a model is made; a run that breaks keeps what is good."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.recipes import PEOPLE, ROOT, TINY, problems_of, refusal, strict_json

from hf_unlearn import ArgumentError, NonFiniteError
from hf_unlearn.cli import evaluate, ready, running, unlearn
from hf_unlearn.trainers.loading import load_model
from hf_unlearn.trainers.unlearn_steps import UnlearnSteps

META = ["--readiness", "meta"]
NEW = ["--config_overrides", "", "--vocab_size", "2000"]  # as where no new model is described
BY_ID = ["--forget_by", "id", "--forget_column", "null", "--forget_fraction", "null"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--bogus", "1"], "no flag --bogus"),
        (["--forget_values", "Nobody", "--forget_fraction", "null"], "Not in the column 'person': Nobody."),
        ([*BY_ID, "--forget_values", "p998-town", "p999-town"], "Not in the column 'id': p998-town, p999-town."),
        (["--forget_column", "family"], "no column 'family'"),
        (["--question_column", "prompt"], "no column 'prompt'"),
        (["--dataset_name", "tofu"], "Name them by `--data_files`, such as path/to/tofu/full.jsonl"),
        (["--dataset_name", "tofu", "--data_files", "nowhere.jsonl"], "No such file: 'nowhere.jsonl'"),
        (["--dataset_name", "./nowhere.csv"], "No such file: './nowhere.csv'"),
        (["--task", "poetry"], "`task` is 'poetry'; it must be one of 'causal_lm'"),
        (["--role", "redy"], "`role` is 'redy'; it must be one of 'ready'"),
        (["--revocable", "none"], "`revocable` is 'none'"),
        (["--model_type", "lama"], "Unknown `model_type` 'lama'"),
        (["--model_type", "null"], "Give either --model_name_or_path, or --model_type"),
        (["--config_overrides", "size=3"], "Unknown key 'size'"),
        (["--label_smoothing_factor", "0.1"], "`label_smoothing_factor` is 0.1"),
        (["--forget_fraction", "2"], "`--forget_fraction` is 2.0"),
        (["--forget_values", "null", "--forget_fraction", "null"], "either `--forget_values` or `--forget_fraction`"),
        (["--unseen", "0"], "`--unseen` is 0.0"),
        (["--limit", "-3"], "`limit` is -3"),
        (["--seed", "abc"], "`--seed` is 'abc': expected an integer."),
        (["--max_length", "4"], "no label left after truncation"),
        (["--limit", "0"], "`limit` is 0"),
        (["--model_name_or_path", "./nowhere", "--model_type", "null", *NEW], "no such folder"),
        (["--model_name_or_path", "my model", "--model_type", "null", *NEW], "no such folder"),
        (["--model_name_or_path", "org/model", "--model_type", "null", *NEW[:2]], "`vocab_size` is for a new model"),
        (["--model_name_or_path", "org/model", "--model_type", "null", *NEW[2:]], "`config_overrides` is for a new"),
        (["--text_column", "story"], "no column 'story'"),
        (["--stride", "9"], "`stride` is 9, which is of documents, and these rows hold question and answer"),
        (["--sampling_rate", "8000"], "`sampling_rate` is set, but task causal_lm does not read it"),
        (["--test_split", "train[:50]", "--test_fraction", "0.1"], "`test_fraction` is 0.1, but --test_split train"),
        (["--forget_by", "random"], "is 'person', but --forget_by random"),
        (["--forget_fraction", "0.999"], "All 100 rows are to be forgotten; none is left for 'retain' or 'unseen'."),
        (["--lora_r", "-4"], "`lora_r` is -4; it must be a whole number"),
        ([*META, "--request_group", "nothing"], "`request_group` is 'nothing', which is for --revocable any"),
        ([*META, "--revocable_share", "0.1"], "`revocable_share` is 0.1, but nothing reads it: the rows say which"),
        (["--unlearn.bogus", "1"], "`--unlearn.bogus` is for `hf-unlearn unlearn`, and nothing here reads it"),
        (["--hub_model_id", "a b/c d"], "`hub_model_id` is 'a b/c d': Repo id must use alphanumeric chars"),
        (["--torch_compile_backend", "nosuch"], "`torch_compile_backend` is 'nosuch'; it must be one of 'NO', 'EAGER'"),
        (["--use_liger_kernel", "true"], "`use_liger_kernel` is True, but the package liger-kernel is not installed"),
        (["--dataset_name", "Peple"], "Did you mean 'people'?"),
        (["--unseen", "0.2", "--unseen_ids", "p000-pet"], "`unseen` is 0.2, and --unseen_ids names the rows"),
        (["--deleted", ""], "`deleted` has an empty word. Name ids"),
        (["--test_split", ""], "`test_split` is an empty word"),
        (["--lora_alpha", "16"], "`lora_alpha` is set but `lora_r` is 0"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_with_one_problem(flags, expected, tmp_path, monkeypatch):
    text = refusal(ready.main, [*PEOPLE, "--output_dir", tmp_path, *flags], monkeypatch)
    assert expected in text
    assert len(problems_of(text)) == 1
    assert not list(tmp_path.glob("ready*"))


def test_a_class_that_does_not_exist(files, tmp_path, monkeypatch):
    argv = ["--config", ROOT / "recipes/text/banking77_bert.yaml", "--data_files", files["banking77"]]
    argv += ["--output_dir", tmp_path]
    text = refusal(ready.main, [*argv, "--forget_values", "card_arrival", "card_departure"], monkeypatch)
    assert len(problems_of(text)) == 1 and "Not in the column 'category': card_departure." in text
    text = refusal(ready.main, [*argv, "--label_column", "intent"], monkeypatch)
    assert "no column 'intent'" in text


def test_all_problems_of_flags_and_rows_come_in_one_error(tmp_path, monkeypatch):
    flags = ["--label_smoothing_factor", "0.1", "--meta_gradient", "guess", "--inner_lr", "-1", "--bogus", "1"]
    flags += ["--role", "redy", "--config_overrides", "size=3"]
    flags += ["--forget_column", "family", "--answer_column", "reply"]
    found = problems_of(refusal(ready.main, [*PEOPLE, "--output_dir", tmp_path, *flags], monkeypatch))
    wanted = ["--bogus", "meta_gradient", "inner_lr", "label_smoothing", "`role`", "'size'", "'family'", "'reply'"]
    assert len(found) == len(wanted)
    assert all(any(word in problem for problem in found) for word in wanted)

    flags = ["--label_smoothing_factor", "0.1", "--target", "moon", "--start", "redy", "--forget_fraction", "2"]
    found = problems_of(refusal(unlearn.main, [*PEOPLE, "--output_dir", tmp_path, *flags], monkeypatch))
    assert len(found) == 4


def test_no_model_to_start_from_or_to_measure(tmp_path, monkeypatch):
    argv = [*PEOPLE, "--output_dir", tmp_path, "--forget_column", "family"]
    text = refusal(unlearn.main, [*argv, "--start", "ready"], monkeypatch)
    assert f"There is no model in {tmp_path / 'ready'}. Train it first" in text and "'family'" in text
    text = refusal(evaluate.main, argv, monkeypatch)
    assert f"There is no model in {tmp_path}" in text and "'family'" in text
    text = refusal(evaluate.main, [*argv, "--bogus", "1"], monkeypatch)
    assert len(problems_of(text)) == 3


def test_words_that_stand_for_nothing_are_not_taken_for_a_model(tmp_path, monkeypatch):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready/config.json").write_text("{}")
    argv = [*PEOPLE, "--output_dir", tmp_path]
    for main, flag in ((unlearn.main, "model_name_or_path"), (evaluate.main, "processing_from")):
        told = problems_of(refusal(main, [*argv, f"--{flag}", ""], monkeypatch))
        assert f"`{flag}` is an empty word. Name one, or leave it out." in told, told
    told = problems_of(refusal(unlearn.main, [*argv, "--ready.seed", "1"], monkeypatch))
    assert told[0].startswith("`--ready.seed` is for `hf-unlearn ready`")
    found = problems_of(refusal(evaluate.main, [*argv, "--models", "a", "ready="], monkeypatch))
    assert len(found) == 2 and all("takes ROLE=WHERE" in one for one in found)


def test_a_model_s_folder_in_the_place_of_the_one_above_it(tmp_path, monkeypatch):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready/config.json").write_text("{}")
    for main in (unlearn.main, evaluate.main):
        (told,) = problems_of(refusal(main, [*PEOPLE, "--output_dir", tmp_path / "ready"], monkeypatch))
        assert told.endswith(f"That folder is a model itself: did you mean --output_dir {tmp_path}?")


def test_a_folder_without_tables(tmp_path, monkeypatch):
    argv = [*PEOPLE, "--output_dir", tmp_path, "--tables", f"unlearned={tmp_path}"]
    (told,) = problems_of(refusal(evaluate.main, argv, monkeypatch))
    assert told == f"`tables` is 'unlearned={tmp_path}', which holds no SPLIT.parquet: give OUTPUT_DIR/tables/ROLE."


def test_yaml_files_that_cannot_be_used(tmp_path, monkeypatch):
    missing = tmp_path / "missing.yaml"
    assert "there is no file" in refusal(ready.main, ["--config", missing], monkeypatch)
    assert "needs the path" in refusal(ready.main, ["--config"], monkeypatch)
    for content, expected in (
        ("ready:\n  seed: 1\n", "holds a mapping"),
        ("a: [1\n", "is no YAML"),
        ("- a\n", "`key: value` lines"),
    ):
        missing.write_text(content)
        assert expected in refusal(ready.main, ["--config", missing], monkeypatch)
    assert "'loose' is no flag" in refusal(ready.main, ["loose"], monkeypatch)


def test_a_label_that_the_training_rows_do_not_have(tmp_path, monkeypatch):
    (tmp_path / "train.csv").write_text("text,category\n" + "".join(f"text {i},c{i % 3}\n" for i in range(30)))
    (tmp_path / "test.csv").write_text("text,category\nhello,c7\n")
    argv = ["--config", ROOT / "recipes/text/banking77_bert.yaml", "--data_files", tmp_path, "--forget_values", "c1"]
    assert "'c7'" in refusal(ready.main, [*argv, "--output_dir", tmp_path / "out"], monkeypatch)


# ---- a run that breaks ----------------------------------------------------------------------------------------------


def test_a_poisoned_request_ends_with_the_last_good_weights_on_disk(tmp_path, monkeypatch):
    flags = [*PEOPLE, "--output_dir", str(tmp_path), *TINY]
    ready.main([*flags, "--role", "original"])
    start = load_model(str(tmp_path / "original")).state_dict()
    after = {}
    plain = UnlearnSteps.forward

    def poisoned(self, model, inputs, needs):
        logits = plain(self, model, inputs, needs)
        if model.training and self.trainer.state.global_step >= 1:
            after.update({k: v.clone() for k, v in self.trainer.model.state_dict().items()})
            logits = logits * float("nan")
        return logits

    monkeypatch.setattr(UnlearnSteps, "forward", poisoned)
    argv = ["unlearn.py", *flags, "--start", "original", "--max_steps", "5", "--stop", "false"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as end:
        running.run(unlearn.main)
    assert str(end.value.code).startswith(NonFiniteError.__name__) and str(tmp_path / "unlearned") in end.value.code
    saved = load_model(str(tmp_path / "unlearned")).state_dict()
    assert after and all(torch.equal(saved[k], after[k]) for k in saved)
    assert not all(torch.equal(saved[k], start[k]) for k in saved)  # the first step was good
    assert strict_json(tmp_path / "unlearned/unlearning.json")["stop_reason"] is None


def test_errors_keep_their_traceback_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_UNLEARN_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["ready.py", *PEOPLE, "--output_dir", str(tmp_path), "--role", "redy"])
    with pytest.raises(ArgumentError):
        running.run(ready.main)
