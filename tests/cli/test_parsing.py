"""Flags and YAML become dataclasses that know which of their values were there."""

from __future__ import annotations

import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.cli import parsing
from hf_unlearn.unlearning.defaults import with_request_defaults

CPU = ["--use_cpu", "true"]


def test_the_command_line_wins_over_the_file_and_a_verb_s_key_over_a_plain_one(tmp_path):
    path = tmp_path / "a.yaml"
    lines = ["seed: 1", "ready.seed: 2", "max_length: 9", "unlearn.limit: 3", "forget_values: [a, b]"]
    path.write_text("\n".join([*lines, "test_split: null"]))

    def read(verb, *words):
        return parsing.read_flags(verb, ["--config", str(path), *words])

    assert read("ready") == ["--seed", "2", "--max_length", "9", "--forget_values", "a", "b"]
    assert read("evaluate")[:2] == ["--seed", "1"] and "--limit" not in read("evaluate")
    assert read("ready", "--seed", "3")[:2] == ["--seed", "3"]
    assert read("ready", "--ready.seed=4", "--seed", "3")[:2] == ["--seed", "4"]
    assert read("unlearn", "--ready.seed", "4", "--forget-values", "c")[:6] == [
        *("--seed", "1", "--max_length", "9"),
        *("--forget_values", "c"),
    ]


def test_a_config_is_made_with_the_flags_that_are_there_and_no_others(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("unlearn.gap: auto\nready.learning_rate: 1\nlimit: 9\nalpha: null\n")
    argv = ["--config", str(path), "--output_dir", str(tmp_path), "--learning-rate", "3e-4", "--no_stop", *CPU]
    own, data, model, args = parsing.parse("unlearn", argv)
    assert args.given == {"gap", "output_dir", "learning_rate", "stop", "use_cpu"}
    assert (data.limit, own.start, model.lora_r, args.stop) == (9, "ready", 0, False)


@pytest.mark.parametrize("where", ["command line", "YAML"])
def test_a_default_that_the_user_typed_wins_over_a_checkpoint_s_recommendation(where, tmp_path):
    argv = ["--output_dir", str(tmp_path), *CPU]
    if where == "YAML":
        (tmp_path / "a.yaml").write_text("unlearn.learning_rate: 3e-4\n")
        argv += ["--config", str(tmp_path / "a.yaml")]
    else:
        argv += ["--learning_rate", "3e-4"]
    request = {"request": {"learning_rate": 1e-4, "unseen_every": 2}}
    args = with_request_defaults(parsing.parse("unlearn", argv)[-1], request)
    assert (args.learning_rate, args.unseen_every) == (3e-4, 2)
    plain = with_request_defaults(parsing.parse("unlearn", argv[:4])[-1], request)
    assert (plain.learning_rate, plain.unseen_every) == (1e-4, 2)


def test_a_flag_that_is_not_there_is_told_with_one_like_it(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        parsing.parse("ready", ["--output_dir", str(tmp_path), "--lerning_rate", "1", "--zzz", *CPU])
    assert caught.value.problems == [
        "There is no flag --lerning_rate (did you mean --learning_rate?), --zzz; `--help` lists them."
    ]


def test_a_value_of_another_type_is_one_problem_without_a_page_of_usage(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        parsing.parse("ready", ["--output_dir", str(tmp_path), "--max_steps", "few", *CPU])
    assert caught.value.problems == ["Argument --max_steps/--max-steps: invalid int value: 'few'."]


def test_a_flag_is_not_known_by_its_beginning():
    with pytest.raises(ArgumentError, match="There is no flag --meta_ev \\(did you mean --meta_every\\?\\)"):
        parsing.parse("ready", ["--output_dir", "out", "--dataset_name", "people", "--meta_ev", "2"])
