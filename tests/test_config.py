"""What the configs refuse and take: values of another type, numbers out of range, and what is told of a secret."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
import torch

from hf_unlearn import ArgumentError, ReadyConfig, UnlearnConfig
from hf_unlearn.utils.field_types import simple_fields

CPU = {"use_cpu": True, "report_to": []}


def told(config, **options) -> list[str]:
    with pytest.raises(ArgumentError) as caught:
        config("out", **CPU, **options)
    return caught.value.problems


@pytest.mark.parametrize("config", [ReadyConfig, UnlearnConfig])
def test_a_word_for_a_boolean_is_refused_and_not_taken_for_true(config):
    names = [name for name, (kind, _) in simple_fields(config).items() if kind is bool and name != "use_cpu"]
    assert {"stop" if config is UnlearnConfig else "inner_normalize", "bf16", "push_to_hub", "tf32"} <= set(names)
    for value in ("no", "false", "True", 2, math.nan, [], np.array([True])):
        problems = told(config, **dict.fromkeys(names, value))
        assert set(problems) == {f"`{name}` is {value!r}; it must be True or False." for name in names}


@pytest.mark.parametrize("config, options, words", [
    (ReadyConfig, {"learning_rate": -1e-4}, "finite number at least 0"),
    (ReadyConfig, {"learning_rate": math.nan}, "finite number at least 0"),
    (ReadyConfig, {"learning_rate": math.inf}, "finite number at least 0"),
    (UnlearnConfig, {"learning_rate": "1e-4"}, "finite number at least 0"),
    (UnlearnConfig, {"learning_rate": True}, "finite number at least 0"),
    (UnlearnConfig, {"weight_decay": -0.1}, "finite number at least 0"),
    (ReadyConfig, {"adam_beta2": 1.0}, "finite number at least 0 and below 1"),
    (ReadyConfig, {"warmup_steps": math.nan}, "finite number at least 0"),
    (ReadyConfig, {"warmup_steps": None}, "finite number at least 0"),
    (ReadyConfig, {"max_grad_norm": math.nan}, "number"),
    (UnlearnConfig, {"seed": -1}, "whole number of at least 0 and at most 4294967295"),
    (ReadyConfig, {"seed": "a"}, "whole number of at least 0 and at most 4294967295"),
    (ReadyConfig, {"seed": None}, "whole number of at least 0 and at most 4294967295"),
    (ReadyConfig, {"data_seed": 2**40}, "whole number of at least 0 and at most 4294967295"),
    (UnlearnConfig, {"max_steps": 0}, "-1 (no limit) or a whole number of at least 1"),
    (ReadyConfig, {"max_steps": -2}, "-1 (no limit) or a whole number of at least 1"),
    (ReadyConfig, {"max_steps": 1.5}, "-1 (no limit) or a whole number of at least 1"),
    (ReadyConfig, {"num_train_epochs": 0}, "finite number above 0"),
    (ReadyConfig, {"inner_lr": 0}, "finite number above 0"),  # a simulated request that moves nothing
    (ReadyConfig, {"num_train_epochs": -3.0}, "finite number above 0"),
    (UnlearnConfig, {"per_device_train_batch_size": 0}, "whole number of at least 1"),
    (UnlearnConfig, {"gradient_accumulation_steps": True}, "whole number of at least 1"),
    (ReadyConfig, {"per_device_eval_batch_size": "8"}, "whole number of at least 1"),
    (ReadyConfig, {"eval_accumulation_steps": 0}, "whole number of at least 1"),
    (ReadyConfig, {"dataloader_num_workers": -1}, "whole number of at least 0"),
    (ReadyConfig, {"logging_steps": "5"}, "finite number above 0"),
    (UnlearnConfig, {"save_strategy": "steps", "save_steps": -5}, "finite number above 0"),
    (UnlearnConfig, {"save_total_limit": "two"}, "a whole number"),
    (UnlearnConfig, {"passes": "²"}, '"auto" or a whole number of at least 1'),
    (UnlearnConfig, {"passes": "9" * 5000}, '"auto" or a whole number of at least 1'),
    (UnlearnConfig, {"passes": True}, '"auto" or a whole number of at least 1'),
    (UnlearnConfig, {"objective": ["npo"]}, "one of 'alt_po'"),
    (UnlearnConfig, {"retain_budget": 10**400}, "finite number above 0"),
    (UnlearnConfig, {"unseen_every": True}, "whole number of at least 1"),
    (ReadyConfig, {"request_rows": math.inf}, "whole number of at least 0"),
    (ReadyConfig, {"request_group": 5}, "name of a column"),
])  # fmt: skip
def test_a_number_out_of_range_is_refused_by_name(config, options, words):
    name = list(options)[-1]
    (problem,) = told(config, **options)
    assert problem.startswith(f"`{name}` is ") and words in problem and len(problem) < 300


def test_words_out_of_place_all_come_in_one_error():
    """One of them alone ended in a `TypeError` of the Trainer's own checks."""
    wrong = {"logging_steps": "5", "stop": "no", "seed": -1, "unseen_every": "x", "max_steps": 0, "gap": 3}
    assert {problem.name for problem in told(UnlearnConfig, **wrong)} == set(wrong)
    problems = told(UnlearnConfig, eval_strategy="never", accelerator_config={"split_batch": True}, **wrong)
    assert len(problems) == len(wrong) + 2
    assert "`eval_strategy` is 'never'; it must be one of 'no', 'steps', 'epoch'." in problems


def test_numbers_of_numpy_and_whole_floats_are_taken_as_plain_numbers():
    args = UnlearnConfig("out", **CPU, unseen_every=np.int64(2), retain_budget=np.float32(0.5), stop=np.bool_(True))
    assert (args.unseen_every, args.retain_budget, args.stop) == (2, 0.5, True)
    assert {type(v) for v in (args.unseen_every, args.retain_budget, args.stop)} == {int, float, bool}
    args = ReadyConfig(
        "out",
        **CPU,
        readiness="meta",
        per_device_train_batch_size=4.0,
        inner_normalize=0,
        seed=np.uint8(3),
        max_steps=9.0,
    )
    assert [args.per_device_train_batch_size, args.inner_normalize, args.seed, args.max_steps] == [4, False, 3, 9]
    assert "given" not in args.to_dict() and {type(args.seed), type(args.max_steps)} == {int}
    json.dumps(args.to_dict())
    args = UnlearnConfig("out", **CPU, retain_budget=torch.tensor(0.5), gate_every=torch.tensor(2))
    assert (args.retain_budget, args.gate_every, type(args.gate_every)) == (0.5, 2, int)
    assert ReadyConfig("out", **CPU, max_grad_norm=None).max_grad_norm is None
    assert UnlearnConfig("out", **CPU, passes=np.int64(3)).passes == 3 and UnlearnConfig("out", **CPU, learning_rate=0)


def test_a_value_that_is_assigned_later_is_checked_as_well():
    args = UnlearnConfig("out", **CPU)
    args.stop, args.unseen_every, args.seed = "no", 0, np.int64(7)
    assert [problem.name for problem in args.problems()] == ["unseen_every", "stop"] and args.seed == 7


@pytest.mark.parametrize("request_, words", [
    ({"learning_rate": -1}, "`learning_rate` is -1"),
    ({"learning_rate": "1e-4"}, "`learning_rate` is '1e-4'"),
    ('{"learning_rate": NaN}', "`learning_rate` is nan"),
    ({"passes": "²"}, "`passes` is '²'"),
    ({"gap": "wide", "stop": "no"}, "`gap` is 'wide'"),
    ({"objective": "npo", "gap": "rows"}, "the objective `npo` has no such option"),
    ({"lr_scheduler_type": "sideways"}, "`lr_scheduler_type` is 'sideways'; it must be one of 'linear'"),
    ('["learning_rate"]', "must be a JSON object of `UnlearnConfig` values"),
    (["learning_rate"], "must be a JSON object of `UnlearnConfig` values"),
    ("[" * 100_000, "must be a JSON object of `UnlearnConfig` values"),
    ("{", "must be a JSON object of `UnlearnConfig` values"),
    ({1: 2, "lr": 3}, "has 1, 'lr'; it may have"),
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_a_recommendation_that_a_request_would_refuse_is_refused_when_training_starts(request_, words):
    problems = told(ReadyConfig, request=request_)
    assert len(problems) == (2 if "stop" in request_ else 1)
    assert words in problems[0] and problems[0].startswith("`request`") and len(problems[0]) < 500


def test_a_recommendation_holds_plain_numbers_for_the_record():
    args = ReadyConfig("out", **CPU, request={"learning_rate": np.float64(0.5), "unseen_every": np.int64(2)})
    assert json.loads(json.dumps(args.request_defaults())) == {"learning_rate": 0.5, "unseen_every": 2}
    assert ReadyConfig("out", **CPU, request='{"gap": "matched"}').request_defaults() == {"gap": "matched"}


@pytest.mark.parametrize("config", [ReadyConfig, UnlearnConfig])
def test_a_hub_token_is_shown_nowhere_and_travels_in_no_file(config, tmp_path):
    args = config("out", **CPU, hub_token="hf_secret")
    file = tmp_path / "training_args.bin"
    torch.save(args, file)
    shown = [repr(args), str(args), f"{args}", str([args]), args.to_json_string(), str(args.to_dict())]
    assert not any("hf_secret" in text for text in shown) and b"hf_secret" not in file.read_bytes()
    assert "learning_rate" in repr(args)
    read = torch.load(file, weights_only=False)
    assert (read.hub_token, read.given) == (None, args.given)
    assert b"hf_secret" not in pickle.dumps(args)
    for copied in (copy.copy(args), copy.deepcopy(args), dataclasses.replace(args, seed=1)):  # these stay in memory
        assert copied.hub_token == "hf_secret" and copied.given >= args.given
    assert copy.copy(args) == args and copy.deepcopy(args).__dict__ is not args.__dict__


META = {"readiness": "meta"}
RESISTING = {"resistance": "relearn", "lambda_resistance": 1.0}
RECOVERY = {"recovery_lr": 0.1, "recovery_steps": 7, "lambda_resistance": 9.0}


@pytest.mark.parametrize("config, options, unread", [
    (UnlearnConfig, {"resistance": "none", **RECOVERY}, set(RECOVERY)),
    (UnlearnConfig, {"readiness": "none", **RECOVERY}, set(RECOVERY)),
    (UnlearnConfig, {"resistance": "relearn", **RECOVERY}, set()),
    (UnlearnConfig, RECOVERY, set()),  # a ready checkpoint may recommend resistance: the trainer knows
    (UnlearnConfig, {"objective": "npo", "alpha": 0.1, "gate_every": 4}, {"alpha", "gate_every"}),
    (UnlearnConfig, {"objective": "gradient_ascent", "alpha": 0.1}, {"alpha"}),
    (UnlearnConfig, {"objective": "npo", "alpha": 0.1, "resistance": "relearn", "gate_every": 4}, set()),
    (UnlearnConfig, {"objective": "nabla_tau", "alpha": 0.1, "gate_every": 4}, set()),
    (UnlearnConfig, {"objective": "npo", "retain_term": "none", "beta": 2.0}, {"beta"}),
    (UnlearnConfig, {"objective": "undial", "readiness": "none", "beta": 2.0}, {"beta"}),
    (UnlearnConfig, {"objective": "undial", "retain_term": "kl", "beta": 2.0}, set()),
    (UnlearnConfig, {"target": "chance", "unseen_every": 2}, {"unseen_every"}),
    (UnlearnConfig, {"target": "current", "unseen_every": 2}, set()),
    (UnlearnConfig, {"stop": False, "retain_budget": 0.2}, {"retain_budget"}),
    (UnlearnConfig, {"method": "objective", "keep_superseded": False}, {"keep_superseded"}),
    (UnlearnConfig, {"keep_superseded": False}, set()),
    (ReadyConfig, {**META, "request_group": "person", "revocable_share": 0.1}, {"revocable_share"}),
    (ReadyConfig, {**META, "lambda_efficiency": 0, "efficiency": "loss", "gain_cap": 1.0}, {"efficiency", "gain_cap"}),
    (ReadyConfig, {**META, "lambda_efficiency": 0, "gain_cap": 1.0, **RESISTING}, set()),
    (ReadyConfig, {"meta_every": 2, "inner_lr": 0.1}, {"meta_every", "inner_lr"}),  # a replay alone
    (ReadyConfig, {**META, "lambda_efficiency": 0, "lambda_retention": 0, "efficiency": "loss"}, set()),  # nothing on
    (ReadyConfig, {"request": {"objective": "npo", "alpha": 0.3}}, {"request"}),
    (ReadyConfig, {"request": RECOVERY}, set()),  # for whoever chooses resistance
])  # fmt: skip
def test_an_option_that_nothing_reads_beside_the_others_is_refused(config, options, unread):
    problems = told(config, **options) if unread else config("out", **CPU, **options).value_problems()
    assert {problem.split("`")[1] for problem in problems} == unread
    assert all("nothing reads it: " in problem and "eave " in problem for problem in problems)


def test_a_default_beside_others_that_do_not_read_it_is_no_mistake():
    args = UnlearnConfig("out", **CPU, resistance="none", recovery_steps=3, objective="npo", alpha=None, stop=False)
    assert UnlearnConfig(**args.to_dict()).retain_budget == dataclasses.replace(args).retain_budget == 0.1
