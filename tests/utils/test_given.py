"""A config knows which of its values somebody set; a ready checkpoint's recommendation fills in the others alone."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArgumentParser

from hf_unlearn import ArgumentError, ReadyConfig, UnlearnConfig
from hf_unlearn.objectives import registry
from hf_unlearn.unlearning.defaults import with_fitting_options, with_request_defaults
from hf_unlearn.utils.given import RecordsGiven, with_values


@dataclass
class Base:
    name: str
    size: int = 1


@dataclass
class Small(Base, RecordsGiven):
    colours: list[str] = field(default_factory=list)
    depth: int = 1
    width: int = 1
    height: int = 1

    def __post_init__(self):
        self.size = int(self.size)


def test_values_given_by_place_and_by_name_are_recorded_also_where_they_are_the_defaults():
    assert Small("a").given == {"name"}
    assert Small("a", 1).given == {"name", "size"}
    assert Small("a", colours=[]).given == {"name", "colours"}


def test_a_call_that_names_more_than_half_of_the_fields_records_what_differs_from_the_defaults():
    assert Small("a", 1, []).given == {"name", "size", "colours"}  # half of them: a person
    assert Small("a", 1, [], 2).given == {"name", "depth"}
    assert Small(name="a", size=1, colours=["red"], width=1, height=1).given == {"name", "colours"}


def test_replace_keeps_the_record_and_adds_what_it_changes():
    made = Small("a", colours=[])
    assert dataclasses.replace(made).given == {"name", "colours"}
    again = dataclasses.replace(made, size=1)
    assert again.given == {"name", "colours", "size"} and made.given == {"name", "colours"}
    assert dataclasses.replace(again, name="a").given == again.given


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles_keep_the_record_and_grow_apart(copied):
    made = Small("a")
    other = copied(made)
    other.size = 1
    assert (made.given, other.given) == ({"name"}, {"name", "size"})


def test_assignment_is_recorded_but_not_that_of_the_class_s_own_checks():
    made = Small("a")
    made.size = 1
    made.note = "no field"
    assert made.given == {"name", "size"}


def test_a_subclass_records_too_and_writes_its_checks_as_ever():
    @dataclass
    class Larger(Small):
        weight: float = 0.5

        def __post_init__(self):
            super().__post_init__()
            self.weight = float(self.weight)

    made = Larger("a", weight=0.5)
    made.size = 3
    assert made.given == {"name", "weight", "size"}
    assert dataclasses.replace(made, colours=[]).given == {"name", "weight", "size", "colours"}


def test_values_that_nobody_gave_leave_the_record():
    assert with_values(Small("a"), {"size": 4}).given == {"name"}


@pytest.mark.parametrize("config", [ReadyConfig, UnlearnConfig])
def test_the_configs_look_as_if_there_were_no_record(config, tmp_path):
    args = config(str(tmp_path), learning_rate=1e-3)
    assert args.given == {"output_dir", "learning_rate"}
    assert "given" not in args.to_dict() and "given" not in repr(args) and "given" not in dataclasses.asdict(args)
    assert {"given"} & {f.name for f in dataclasses.fields(args)} == set()
    assert next(iter(inspect.signature(config).parameters)) == "output_dir"
    names = {f.name for f in dataclasses.fields(TrainingArguments)}
    assert names <= set(args.to_dict()) and args == dataclasses.replace(args)


def test_the_record_survives_the_file_that_the_trainer_writes(tmp_path):
    torch.save(UnlearnConfig(str(tmp_path), gap="auto"), tmp_path / "training_args.bin")
    assert torch.load(tmp_path / "training_args.bin", weights_only=False).given == {"output_dir", "gap"}


REQUEST = {"request": {"learning_rate": 1e-4, "gap": "matched", "unseen_every": 2}}


def test_a_checkpoint_s_recommendation_fills_in_what_nobody_gave(tmp_path):
    found = with_request_defaults(UnlearnConfig(str(tmp_path)), REQUEST)
    assert (found.learning_rate, found.gap, found.unseen_every) == (1e-4, "matched", 2)
    assert found.given == {"output_dir"}


def test_a_value_that_the_user_gave_stands_also_where_it_is_the_default(tmp_path):
    args = UnlearnConfig(str(tmp_path), learning_rate=3e-4, gap="auto")
    found = with_request_defaults(args, REQUEST)
    assert (found.learning_rate, found.gap, found.unseen_every) == (3e-4, "auto", 2)
    replaced = with_request_defaults(dataclasses.replace(UnlearnConfig(str(tmp_path)), learning_rate=3e-4), REQUEST)
    assert (replaced.learning_rate, replaced.gap) == (3e-4, "matched")
    assigned = UnlearnConfig(str(tmp_path))
    assigned.learning_rate = 3e-4
    assert with_request_defaults(assigned, REQUEST).learning_rate == 3e-4


def test_the_gap_that_auto_stands_for_is_nobody_s_wish(tmp_path):
    found = with_fitting_options(UnlearnConfig(str(tmp_path), target="chance"))
    assert found.gap == "level" and found.given == {"output_dir", "target"}


@pytest.mark.parametrize("request_", [
    {"unseen_every": 0}, {"stop": "no"}, {"learning_rate": "1e-4"}, {"lr_scheduler_type": 3}, {"objective": ["npo"]},
    {"passes": [1]}, {"gap": None}, {"per_device_train_batch_size": True},
], ids=str)  # fmt: skip
def test_a_recommendation_that_makes_no_sense_is_refused(tmp_path, request_):
    ((name, value),) = request_.items()
    with pytest.raises(ArgumentError) as caught:
        with_request_defaults(UnlearnConfig(str(tmp_path)), {"request": request_})
    (problem,) = caught.value.problems
    assert problem.startswith(f"With what readiness.json recommends: `{name}` is {value!r}; it must be ")


def by_argument_parser(folder: str, **options) -> UnlearnConfig:
    words = ["--output_dir", folder, *(word for k, v in options.items() for word in (f"--{k}", str(v)))]
    return HfArgumentParser(UnlearnConfig).parse_args_into_dataclasses(words, look_for_args_file=False)[0]


def by_dict(folder: str, **options) -> UnlearnConfig:
    return UnlearnConfig(**UnlearnConfig(folder, **options).to_dict())


def by_dict_without_some_keys(folder: str, **options) -> UnlearnConfig:
    values = UnlearnConfig(folder, **options).to_dict()
    for name in ("hub_token", "seed", "passes"):
        values.pop(name)
    return UnlearnConfig(**values)


@pytest.mark.parametrize("by_program", [by_argument_parser, by_dict, by_dict_without_some_keys])
def test_a_program_that_names_most_fields_leaves_the_defaults_to_the_checkpoint(by_program, tmp_path):
    args = by_program(str(tmp_path), unseen_every=3, use_cpu=True)
    assert {"unseen_every", "use_cpu", "output_dir"} <= args.given
    assert not {"learning_rate", "gap", "objective", "lr_scheduler_type"} & args.given
    found = with_request_defaults(args, REQUEST)
    assert (found.learning_rate, found.gap, found.unseen_every) == (1e-4, "matched", 3)
    args.learning_rate = 3e-4
    assert with_request_defaults(args, REQUEST).learning_rate == 3e-4


def test_a_recommendation_that_is_passed_over_is_told_once_with_both_values(tmp_path, caplog):
    args = UnlearnConfig(str(tmp_path), learning_rate=3e-4, unseen_every=2)
    with caplog.at_level(logging.WARNING, "hf_unlearn"):
        with_request_defaults(args, REQUEST)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "recommends `learning_rate` 0.0001 (used: 0.0003);" in told and "unseen_every" not in told


def test_an_option_that_the_objective_does_not_have_is_refused_where_it_was_set(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        UnlearnConfig(str(tmp_path), objective="npo", gap="rows", gamma=2.0, beta=3.0)
    assert [problem.split(".")[0] for problem in (" ".join(p.split()) for p in caught.value.problems)] == [
        "`gamma` is 2",
        "`gap` is 'rows', but the objective `npo` has no such option; `nabla_tau` has it",
    ]
    with pytest.raises(ArgumentError, match="`beta` is 2.0, but .*`nabla_tau`.*; all but `.*`nabla_tau`.* have it"):
        UnlearnConfig(str(tmp_path), beta=2.0)
    UnlearnConfig(str(tmp_path), objective="npo", gap="auto", gamma=1.0)  # the defaults: nothing that would be lost


@pytest.mark.parametrize("name", registry.OBJECTIVES)
def test_every_option_of_every_other_objective_is_refused(name):
    own = {f.name for f in registry.option_fields(registry.OBJECTIVES[name])}
    options = {f.name: f.default for cls in registry.OBJECTIVES.values() for f in registry.option_fields(cls)}
    for option in options:
        changed = SimpleNamespace(**(options | {"objective": name, option: object()}))
        assert bool(registry.foreign_options(changed, {option})) == (option not in own)
        assert not registry.foreign_options(changed, set())


def test_a_recommended_option_of_another_objective_does_not_end_a_request(tmp_path):
    args = UnlearnConfig(str(tmp_path), objective="npo")
    assert with_request_defaults(args, REQUEST).objective == "npo"
    with pytest.raises(ArgumentError, match="With what readiness.json recommends: `gap` is 'rows', but the objective"):
        with_request_defaults(UnlearnConfig(str(tmp_path), gap="rows"), {"request": {"objective": "npo"}})


def test_an_old_name_of_an_option_is_taken_for_the_new_one():
    old = UnlearnConfig("out", readiness="some/where", use_cpu=True)
    assert old.readiness_from == old.readiness == "some/where" and "readiness_from" in old.given
    assert dataclasses.replace(old, readiness="none").readiness_from == "none"
