"""`hf-unlearn memory --config`: a recipe's sizes are what is estimated, and flags win over them."""

from __future__ import annotations

import json

import pytest
from helpers.recipes import PEOPLE, ROOT

from hf_unlearn import ArgumentError
from hf_unlearn.cli import main, memory
from hf_unlearn.memory import __main__ as estimate
from hf_unlearn.memory.model import adapter_config

DIGITS = ["--config", str(ROOT / "recipes/vision/digits_vit.yaml"), "--limit", "60"]


def test_a_recipe_says_the_model_s_sizes_and_the_step_s():
    found = memory.recipe_values("ready", [*PEOPLE, "--ready.readiness", "meta"])
    assert found["model_type"] == "llama" and "hidden_size=16" in found["config_overrides"]
    assert "vocab_size=300" in found["config_overrides"]  # that of the tokenizer that its rows give
    assert (found["batch_size"], found["length"], found["dtype"], found["request_rows"]) == (32, 64, "float32", 16)
    found = memory.recipe_values("unlearn", DIGITS)
    assert all(size in found["config_overrides"] for size in ("image_size=8", "num_channels=1", "num_labels=10"))
    assert (found["task"], found["batch_size"], found["resistance"]) == ("image_classification", 16, "none")
    lora = memory.recipe_values("train", [*PEOPLE, "--lora_r", "4", "--lora_target_modules", "q_proj,v_proj"])
    assert lora["peft"] == "lora:r=4,lora_alpha=32,target_modules=q_proj+v_proj"


def test_flags_win_over_the_recipe(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(memory, "report", lambda runs, *more: asked.append((runs, more)) or 0)
    argv = ["memory", *DIGITS, "--batch_size=5", "--device", "cpu", "--memory", "1GB", "--verb", "unlearn", "train"]
    assert main.main(argv) == 0
    ((runs, (limit, as_json)),) = asked
    assert [run.verb for run in runs] == ["train", "unlearn"] and limit == 10**9 and not as_json
    assert {run.batch_size for run in runs} == {5} and {run.device for run in runs} == {"cpu"}
    assert {run.model_type for run in runs} == {"vit"}


def test_a_training_that_simulates_no_request_is_one_of_any_kind(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "report", lambda runs, *more: asked.append([run.verb for run in runs]) or 0)
    for more in ([], ["--verb", "ready"], ["--ready.readiness", "meta"], ["--ready.readiness", "replay+meta"]):
        assert main.main(["memory", *DIGITS, *more]) == 0
    assert asked == [["train", "unlearn"], ["train"], *[["train", "ready", "unlearn"]] * 2]


@pytest.mark.parametrize("more, times", [([], 1), (["--unlearn.limit", "50"], 2)], ids=["the same rows", "others"])
def test_rows_are_read_once_for_verbs_that_have_the_same(monkeypatch, more, times):
    read, real = [], memory.prepare.prepare
    monkeypatch.setattr(memory.prepare, "prepare", lambda data, chosen: read.append(data.limit) or real(data, chosen))
    monkeypatch.setattr(memory, "report", lambda runs, *more: 0)
    assert main.main(["memory", *DIGITS, *more, "--verb", "train", "unlearn"]) == 0
    assert read == [60, 50][:times]


def test_a_model_by_name_wins_over_the_recipe_s_new_one(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "report", lambda runs, *more: asked.extend(runs) or 0)
    monkeypatch.setattr(memory.prepare, "prepare", None)  # no rows are read for it
    assert main.main(["memory", *DIGITS, "--model=org/m", "--verb", "train"]) == 0
    assert main.main(["memory", *DIGITS, "--model_type", "vit", "--verb", "train"]) == 0
    assert [(run.model, run.model_type, run.config_overrides) for run in asked] == [
        ("org/m", None, ""),
        (None, "vit", ""),
    ]
    assert {run.task for run in asked} == {"image_classification"} and {run.batch_size for run in asked} == {64}


def test_the_recipe_may_be_named_in_one_word_with_its_flag_or_for_one_verb(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "report", lambda runs, *more: asked.append(runs) or 0)
    for words in ([f"--config={DIGITS[1]}"], ["--ready.config", DIGITS[1]]):
        assert main.main(["memory", *words, *DIGITS[2:], "--verb", "train"]) == 0
    assert [run.model_type for (run,) in asked] == ["vit", "vit"]


def test_a_model_of_another_task_is_told_in_a_line_and_a_tiny_one_has_its_weights_counted(capsys):
    words = ["--config_overrides", "hidden_size=8,num_hidden_layers=1,num_attention_heads=1,intermediate_size=8"]
    assert estimate.main(["--model_type", "vit", "--task", "causal_lm", "--verb", "train"]) == 1
    said = capsys.readouterr().err
    assert "train: `model_type` is 'vit', which has no model for task causal_lm." in said and said.count("\n") == 1
    assert estimate.main(["--model_type", "vit", "--task", "image_classification", "--verb", "train", *words]) == 0
    assert "8.2 k weights, 8.2 k trainable" in capsys.readouterr().out


def test_flags_are_not_known_by_their_beginning(capsys):
    with pytest.raises(SystemExit) as left:
        main.main(["memory", "--conf", DIGITS[1]])
    assert left.value.code == 2 and "hf-unlearn memory: error: unrecognized arguments" in capsys.readouterr().err


def test_errors_of_a_recipe_s_flags_are_those_of_the_verb_that_was_typed():
    with pytest.raises(SystemExit, match="--zzz; `hf-unlearn memory --help` lists all that there are"):
        main.main(["memory", *DIGITS, "--zzz", "1"])
    with pytest.raises(
        SystemExit, match="`--tail` belongs to `hf-unlearn ready`; write it as `--ready.tail`"
    ):
        main.main(["memory", *DIGITS, "--tail", "0.3"])
    with pytest.raises(
        SystemExit, match="`--shadows` belongs to `hf-unlearn evaluate`; leave it out of `hf-unlearn mem"
    ):
        main.main(["memory", *DIGITS, "--shadows", "4"])


def test_without_a_recipe_the_verb_is_the_command_of_the_room(monkeypatch, capsys):
    argv = ["--model_type", "vit", "--config_overrides", "hidden_size=16,num_hidden_layers=1,num_attention_heads=2"]
    argv += ["--task", "image_classification", "--device", "cpu", "--verb", "train", "--json"]
    assert main.main(["memory", *argv]) == 0
    told = json.loads(capsys.readouterr().out)
    assert estimate.main(argv) == 0
    assert told == json.loads(capsys.readouterr().out)


def test_a_recipe_whose_rows_cannot_be_read_is_refused():
    tofu = ["memory", "--config", str(ROOT / "recipes/text/tofu_llama.yaml")]
    with pytest.raises(SystemExit, match="`--data_files`, such as path/to/tofu"):
        main.main(tofu)


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--verb", "fly"], "invalid choice: 'fly'"), (["--memory", "24"], "'24' is 24 bytes; write it like 24GB")],
)
def test_what_would_estimate_nothing_is_refused(capsys, flags, said):
    with pytest.raises(SystemExit):
        main.main(["memory", "--model_type", "llama", *flags])
    assert said in capsys.readouterr().err


def test_a_rank_that_is_no_number_is_named():
    with pytest.raises(ArgumentError, match="`peft` is 'lora:r=x': `r` is 'x'; it must be a whole number"):
        adapter_config("lora:r=x", "causal_lm")
