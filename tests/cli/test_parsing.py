"""Flags and YAML become dataclasses that know which of their values were there."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from types import SimpleNamespace

import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.cli import arguments, beside_recipe, checks, memory, parsing, prepare
from hf_unlearn.unlearning.defaults import with_request_defaults
from hf_unlearn.utils.checks import Wrong

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


def problems(verb: str, *words: str, **checks) -> list[str]:
    with pytest.raises(ArgumentError) as caught:
        parsing.parse(verb, [*words, *CPU[: 2 * (verb != "evaluate")]], **checks)
    assert str(caught.value).startswith(f"{len(caught.value.problems)} problem")
    return caught.value.problems


def test_each_flag_that_is_not_there_is_a_problem_with_one_like_it(tmp_path):
    assert problems("ready", "--lerning_rate", "1", "--zzz", "--meta_ev", "2", "--ready.sed", "1") == [
        "There is no flag --lerning_rate; did you mean --learning_rate?",
        "There is no flag --zzz; `hf-unlearn ready --help all` lists all that there are.",
        "There is no flag --meta_ev; did you mean --meta_every?",  # no flag is known by its beginning
        "There is no flag --ready.sed; did you mean --ready.seed?",
    ]


def test_a_key_of_the_file_that_is_not_there_is_told_with_its_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("lerning_rate: 1\nfooo_bar: null\nredy.seed: 2\nunlearn.lerning_rate: 1\n")
    assert problems("ready", "--config", str(path)) == [
        f"There is no key `lerning_rate` in {path}; did you mean `learning_rate`?",
        f"There is no key `fooo_bar` in {path}; `hf-unlearn ready --help all` lists all that there are.",
        f"There is no key `redy.seed` in {path}; did you mean `ready.seed`?",
    ]


def test_a_flag_of_another_verb_is_told_with_its_verb_and_so_is_a_key_that_no_verb_reads_plainly(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("unlearn.meta_every: 2\nids: a\n")
    assert problems("unlearn", "--config", str(path), "--role", "ready") == [
        f"`ids` in {path} belongs to `hf-unlearn plan`; write it as `plan.ids` where one file serves several verbs.",
        f"`unlearn.meta_every` in {path} belongs to `hf-unlearn ready`; write it as `ready.meta_every` where one file "
        "serves several verbs.",
        "`--role` belongs to `hf-unlearn ready`; leave it out of `hf-unlearn unlearn`.",
    ]
    (told,) = problems("evaluate", "--learning_rate", "1")
    assert told.startswith("`--learning_rate` belongs to `hf-unlearn ready` and `hf-unlearn unlearn`;")


ONE_FILE = """\
dataset_name: people
forget_column: person
forget_fraction: 0.1
model_name_or_path: org/model
lora_r: 8
bf16: true
use_cpu: true
report_to: none
save_strategy: no
learning_rate: 1e-3
num_train_epochs: 2
optim: sgd
role: ready
tail: 0.4
start: ready
passes: 5
alpha: 0.5
attacks: none
max_rows: 9
title: mine
models: unlearned=org/model
output_dir: out
plan.json: true
verify.from: snapshot
"""


def test_one_file_serves_all_verbs_and_each_reads_what_it_knows(tmp_path):
    (tmp_path / "my.yaml").write_text(ONE_FILE)
    words = ["--config", str(tmp_path / "my.yaml")]
    _, data, model, args = parsing.parse("ready", words)
    assert (args.num_train_epochs, args.learning_rate, args.tail, model.lora_r) == (2, 1e-3, "0.4", 8)
    own, _, _, args = parsing.parse("unlearn", words)
    assert (own.start, args.passes, args.alpha, args.learning_rate, args.bf16) == ("ready", "5", 0.5, 1e-3, True)
    own, same, _ = parsing.parse("evaluate", words)
    assert same == data and (own.max_rows, own.attacks, own.bf16, own.use_cpu) == (9, ["none"], True, True)
    for verb, kind in (("plan", "unlearn"), ("verify", "ready")):
        own, rest = beside_recipe.divided(verb, words)
        assert parsing.parse(kind, rest, asked=verb)[1] == data
        assert own.json if verb == "plan" else own.from_ == "snapshot"
    found = memory.recipe_values("unlearn", words)
    assert (found["model"], found["dtype"], found["optim"]) == ("org/model", "bf16-mixed", "sgd")


def test_epochs_are_those_of_a_training_and_refused_where_they_are_given_for_a_request(tmp_path):
    (tmp_path / "my.yaml").write_text("num_train_epochs: 2\n")
    plain = ["--config", str(tmp_path / "my.yaml")]
    assert parsing.parse("unlearn", [*plain, *CPU])[-1].num_train_epochs == 1
    assert "the length of a request is `passes`" in problems("unlearn", "--num_train_epochs", "2")[0]
    (tmp_path / "my.yaml").write_text("unlearn.num_train_epochs: 2\n")
    assert "the length of a request is `passes`" in problems("unlearn", *plain)[0]


def test_half_precision_asks_for_no_gpu_where_nothing_is_trained():
    assert memory.recipe_values("train", ["--model_name_or_path", "org/m", "--bf16", "true"])["dtype"] == "bf16-mixed"


def test_a_key_much_like_one_of_another_verb_is_told_by_it(tmp_path):
    (tmp_path / "my.yaml").write_text("lerning_rate: 1\nbatch_size: 2\nready.lr: 3\n")
    told = problems("evaluate", "--config", str(tmp_path / "my.yaml"))
    assert told[0].endswith("did you mean `learning_rate`?") and len(told) == 2
    assert told[1].endswith("is called `per_device_train_batch_size` here.")
    assert problems("ready", "--lr", "3") == ["`--lr` is called `learning_rate` here."]
    assert problems("evaluate", "--model", "a")[0].endswith("did you mean --models?")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seed abc", "`--seed` is 'abc': expected an integer."),
        ("--seed 1.5", "`--seed` is '1.5': expected an integer."),
        ("--max-steps inf", "`--max-steps` is 'inf': expected an integer."),
        ("--learning_rate fast", "`--learning_rate` is 'fast': expected a number."),
        ("--bf16 perhaps", "`--bf16` is 'perhaps': expected true or false."),
        ("--tf32", "`--tf32` has no value: expected true or false."),
        ("--eval_strategy never", "`--eval_strategy` is 'never': expected one of no, steps, epoch."),
        ("--log_level=loud", "`--log_level` is 'loud': expected one of "),
        ("--role", "`--role` has no value: expected a word."),
        ("--role ready original", "`--role` is 'ready', 'original': expected a word alone."),
        ("--no_inner_normalize true", "`--no_inner_normalize` is 'true': expected no value."),
        ("--forget_values", "`--forget_values` has no value: expected a word or several."),
        ("--gradient_checkpointing_kwargs x", "`--gradient_checkpointing_kwargs` is 'x': expected a JSON object."),
        ("--lr_scheduler_kwargs [1]", "`--lr_scheduler_kwargs` is '[1]': expected a JSON object."),
        (
            "--accelerator_config [1]",
            "`--accelerator_config` is '[1]': expected a JSON object or the path of a JSON file.",
        ),
        ("--liger_kernel_config [1]", "`--liger_kernel_config` is '[1]': expected a JSON object."),
        (
            '--accelerator_config {"bogus":1}',
            "`--accelerator_config`: The Trainer's arguments are refused: AcceleratorConfig.__init__() got an ",
        ),
        ("--ready.seed x", "`--ready.seed` is 'x': expected an integer."),
        ("loose --seed 1", "'loose' is no flag; flags begin with --."),
    ],
)
def test_a_value_of_another_type_is_one_problem_that_names_flag_value_and_type(words, told):
    (found,) = problems("ready", *words.split())
    assert found.startswith(told)


def test_wrong_values_unknown_flags_checks_and_rows_come_in_one_error(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("limit: many\nunlearn.passes: 0\nunlearn:\n  gap: rows\nobjective: npo\n")
    seen = []

    def check_rows(data):
        seen.append((data.limit, data.max_length))
        raise ArgumentError(["a problem of the rows"])

    def flag_problems(own, data, model, args):
        assert args is None  # its own flags are wrong
        return [Wrong("objective", "is not liked.")]

    words = ["--config", str(path), "--seed", "abc", "--bogus", "--max_length", "9", "--alpha", "2", "--gap", "rows"]
    found = problems("unlearn", *words, flag_problems=flag_problems, check_rows=check_rows)
    assert [problem.split(";")[0].split(":")[0] for problem in found] == [
        f"`unlearn` in {path} holds a mapping, and the file is flat",
        f"`limit` in {path} is 'many'",
        "`--seed` is 'abc'",
        "There is no flag --bogus",
        "`alpha` is 2.0",
        f"`unlearn.passes` in {path} is '0'",
        "`gap` is 'rows', but the objective `npo` has no such option",
        f"`objective` in {path} is not liked.",
        "a problem of the rows",
    ]
    assert seen == [(None, 9)]


def test_conditions_as_a_mapping_are_told_how_to_be_written(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("unlearn.forget_where:\n  customer: 4711\n  year: 2020\n")
    found = problems("unlearn", "--config", str(path))
    assert any("write `unlearn.forget_where: [customer=4711, year=2020]`" in problem for problem in found)


def test_values_of_the_file_arrive_as_they_are_written(tmp_path):
    lines = ["learning_rate: 1e-3", "max_steps: 1e2", "ready.seed: 007", "inner_normalize: off", "bf16: no"]
    lines += ["ready.readiness: meta"]
    lines += ["save_strategy: no", "eval_strategy: 'no'", "forget_values: [no, 1.50, 2020-01-01, 1e3, yes, -3]"]
    lines += ["forget_column: 12:30", "test_split: ~", "answer_column:", "gain_cap: 2", "report_to: ''"]
    path = tmp_path / "my.yaml"
    path.write_text("\n".join(lines))
    _, data, _, args = parsing.parse("ready", ["--config", str(path), *CPU])
    assert (args.learning_rate, args.max_steps, args.seed, args.gain_cap) == (1e-3, 100, 7, 2.0)
    assert (args.inner_normalize, args.bf16, args.save_strategy, args.eval_strategy) == (False, False, "no", "no")
    assert data.forget_values == ["no", "1.50", "2020-01-01", "1e3", "yes", "-3"] and data.forget_column == "12:30"
    assert (data.test_split, data.answer_column) == (None, "answer")
    assert {"test_split", "answer_column"} & args.given == set()


@pytest.mark.parametrize("where", ["command line", "YAML"])
@pytest.mark.parametrize(
    ("column", "word", "forgotten"), [("consented", "false", 6), ("consented", "No", 6), ("score", "1.50", 4)]
)
def test_truth_values_and_numbers_are_found_in_the_rows_however_they_are_written(
    column, word, forgotten, where, tmp_path
):
    answers = [{"question": f"Who is {i}?", "answer": f"It is {i}.", "person": f"p{i}"} for i in range(12)]
    rows = [{**row, "consented": i % 2 == 0, "score": i % 3 + 0.5} for i, row in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["--dataset_name", str(tmp_path / "rows.jsonl"), "--unseen_group", "person", "--vocab_size", "300"]
    asked = {"forget_by": "column", "forget_column": column, "forget_values": f"[{word}]"}
    if where == "YAML":
        (tmp_path / "my.yaml").write_text("\n".join(f"{key}: {value}" for key, value in asked.items()))
        argv += ["--config", str(tmp_path / "my.yaml")]
    else:
        argv += [part for key, value in asked.items() for part in (f"--{key}", value.strip("[]"))]
    _, data, model = parsing.parse("evaluate", argv)
    assert len(prepare.prepare(data, model).splits["forget"]) == forgotten


def test_words_of_a_file_may_begin_with_dashes_and_a_list_may_be_empty_or_one_word(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("title: --x\nmodels: []\ntables: ready=a\n")
    own, *_ = parsing.parse("evaluate", ["--config", str(path), "--attacks", "none"])
    assert (own.title, own.models, own.tables, own.attacks) == ("--x", [], ["ready=a"], ["none"])


def test_config_takes_one_file_also_after_an_equals_sign(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("limit: 9\n")
    assert parsing.parse("evaluate", [f"--config={path}"])[1].limit == 9
    for words in (["--config"], ["--config", str(path), "--config", str(path)], ["--config", str(path), "more"]):
        assert problems("evaluate", *words) == ["`--config` needs the path of a YAML file, one alone."]


def test_the_file_of_another_verb_is_not_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("limit: 9\n")
    (tmp_path / "theirs.yaml").write_text("limit: 8\n")
    mine, theirs = (["--config", str(tmp_path / "mine.yaml")], ["--ready.config", str(tmp_path / "theirs.yaml")])
    assert parsing.parse("evaluate", theirs)[1].limit is None
    assert parsing.parse("evaluate", [*mine, *theirs])[1].limit == 9
    assert parsing.parse("evaluate", ["--evaluate.config", mine[1]])[1].limit == 9


@pytest.mark.parametrize(
    ("word", "value"), [(".inf", math.inf), ("-.INF", -math.inf), ("+.inf", math.inf), ("inf", math.inf)]
)
def test_infinity_may_be_written_as_yaml_and_as_python_write_it(word, value, tmp_path):
    (tmp_path / "my.yaml").write_text(f"max_grad_norm: {word}\n")
    from_file = parsing.parse("ready", ["--config", str(tmp_path / "my.yaml"), *CPU])[-1]
    typed = parsing.parse("ready", [f"--max_grad_norm={word}", *CPU])[-1]
    assert from_file.max_grad_norm == typed.max_grad_norm == value


def test_no_number_may_be_written_as_yaml_writes_it():
    assert problems("ready", "--test_fraction", ".nan") == problems("ready", "--test_fraction", "nan")


def test_numbers_out_of_their_range_are_told_before_a_row_is_read(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("limit: -3\n")
    words = ["--config", str(path), "--test_fraction", "2", "--max_length", "0", "--gradient_accumulation_steps", "0"]
    words += ["--per_device_train_batch_size", "0"]
    seen = []
    found = problems("ready", *words, check_rows=lambda data: seen.append((data.limit, data.max_length)))
    assert seen == [(None, None)]  # the rows are checked with the defaults instead
    assert [problem.split(";")[0] for problem in found] == [
        f"`limit` in {path} is -3",
        "`test_fraction` is 2.0",
        "`max_length` is 0",
        "`per_device_train_batch_size` is 0",
        "`gradient_accumulation_steps` is 0",
    ]


def test_every_range_is_that_of_a_flag():
    kinds = {kind for of_verb in arguments.KINDS.values() for kind in of_verb}
    assert set(arguments.RANGES) <= {field.name for kind in kinds for field in fields(kind)}
    assert not [problem for kind in kinds for problem in arguments.range_problems(kind())]


def test_json_that_is_none_is_told_with_its_text():
    (told,) = problems("ready", "--lr_scheduler_kwargs", "{bad")
    assert told.startswith("`--lr_scheduler_kwargs`: '{bad' is no JSON: Expecting property name")


def test_json_objects_arrive():
    words = ["--activation_checkpointing_kwargs", '{"use_reentrant": false}', "--liger_kernel_config", '{"rope": true}']
    words += ["--lr_scheduler_kwargs", '{"num_cycles": 2}']
    args = parsing.parse("ready", [*words, *CPU])[-1]
    assert args.activation_checkpointing_kwargs == {"use_reentrant": False}
    assert args.lr_scheduler_kwargs == {"num_cycles": 2} and args.liger_kernel_config == {"rope": True}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("load_best_model_at_end", "true", "requires the save and eval strategy to match"),
        ("fp16", "true", "rescales gradients"),
    ],
)
def test_what_transformers_refuses_is_told_with_its_flag_or_its_place_in_the_file(key, value, told, tmp_path):
    (tmp_path / "my.yaml").write_text(f"seed: 3\nready.{key}: {value}\nlimit: 9\n")
    (found,) = problems("ready", "--config", str(tmp_path / "my.yaml"), "--logging_steps", "5")
    assert found.startswith(f"`ready.{key}` in {tmp_path / 'my.yaml'}: ") and told in found
    (found,) = problems("ready", f"--{key}", value, "--logging_steps", "5")
    assert f"`{'' if key == 'fp16' else '--'}{key}`" in found and told in found
    (found,) = problems("ready", "--warmup_steps", "-1")  # transformers and we refuse it: once is enough
    assert found.startswith("`warmup_steps` is -1")


def test_on_the_command_line_a_flag_of_another_verb_stays_an_error(tmp_path):
    (told,) = problems("evaluate", "--report_to", "none")
    assert told.startswith("`--report_to` belongs to")


def test_given_tells_what_is_said_for_this_verb_alone(tmp_path):
    (tmp_path / "my.yaml").write_text("model_type: llama\nunlearn.lora_r: 2\nlimit: 9\n")
    words = ["--config", str(tmp_path / "my.yaml"), "--vocab_size", "2000", *CPU]
    _, data, model, _ = parsing.parse("unlearn", words)
    assert set(model.given) == {"model_type", "lora_r", "vocab_size"} and set(data.given) == {"limit"}
    assert [model.said_alone(name) for name in ("model_type", "lora_r", "vocab_size", "lora_alpha")] == [
        *(False, True, True, False)
    ]
    assert model.changed() == {"model_type", "lora_r"} and not arguments.ModelArguments.given


def test_of_a_list_in_several_flags_or_of_a_key_that_stands_twice_no_part_is_dropped(tmp_path):
    with pytest.raises(ArgumentError, match="`--forget_values` is given 2 times; give all in one: --forget_values a b"):
        parsing.parse("evaluate", ["--forget_values", "a", "--limit", "2", "--forget_values", "b", "--limit", "3"])
    path = tmp_path / "my.yaml"
    path.write_text("forget_values: a\nlimit: 2\nforget_values: b\n")
    with pytest.raises(ArgumentError, match=r"`forget_values` stands twice in .*my.yaml"):
        parsing.parse("evaluate", ["--config", str(path)])


def test_ids_that_no_row_has_are_told_with_the_flag_that_gave_them():
    words = ["--forget_column", "person", "--forget_fraction", "0.2", "--limit", "60", "--unseen_ids", "nobody"]
    _, data, _ = parsing.parse("evaluate", words)
    with pytest.raises(ArgumentError, match="`--unseen_ids` names ids that no row has: nobody"):
        prepare.rows_by_split(data)


def test_a_verb_that_is_written_wrong_is_told_with_its_key(tmp_path):
    (tmp_path / "my.yaml").write_text("unlern.passes: 3\n")
    with pytest.raises(ArgumentError, match="did you mean `unlearn.passes`"):
        parsing.parse("ready", ["--config", str(tmp_path / "my.yaml"), *CPU])
    with pytest.raises(ArgumentError, match=r"'my\.yaml' is no flag; did you mean --config my\.yaml\?"):
        parsing.parse("ready", ["my.yaml", *CPU])


def test_where_the_log_is_to_go_is_checked_before_a_row_is_read():
    others = {"hub_model_id": None, "torch_compile_backend": None, "use_liger_kernel": False}
    told = checks.library_problems(SimpleNamespace(report_to=["flyte", "nothing"], **others))
    assert "`report_to` is 'flyte': " in told[0] and "install" in told[0]
    assert told[1].startswith("`report_to` is 'nothing'; expected none, all or some of azure_ml")
    assert not checks.library_problems(SimpleNamespace(report_to=[], **others))


def test_what_stands_in_the_way_of_the_results_is_told_before_a_model_is_measured(tmp_path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "tables").write_text("x")
    told = checks.result_problems(tmp_path)
    assert len(told) == 2 and str(tmp_path / "report.html") in told[0] and str(tmp_path / "tables") in told[1]
    assert not checks.result_problems(tmp_path / "new")
