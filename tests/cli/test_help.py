"""`hf-unlearn` and the scripts: verbs, help by subject in about a second, and the command that a record names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers.recipes import ROOT

import hf_unlearn
from hf_unlearn.cli import arguments, help, main, parsing, running, tofu
from hf_unlearn.evaluation import __main__ as evaluation

HEAVY = ("torch", "transformers", "datasets", "accelerate", "peft", "sklearn", "matplotlib")


def python(code: str, cwd=ROOT) -> str:
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_in_one_word_with_all(capsys):
    main.run("ready", ["--seed", "1", "--help=all"], "hf-unlearn ready")
    assert "--adam_beta1" in capsys.readouterr().out


def test_help_of_all_verbs_and_scripts_loads_nothing_heavy():
    code = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from hf_unlearn.cli.main import main
for verb in ("ready", "unlearn", "plan", "verify", "evaluate", "memory", "tofu"):
    print("=== verb", verb)
    try:
        main([verb, "--help"])
    except SystemExit as error:
        assert not error.code
for name in ("ready", "unlearn", "evaluate", "quickstart", "tools/check_engine"):
    sys.argv = [f"recipes/{{name}}.py", "--help"]
    print("=== script", name)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        assert not error.code
print("=== heavy", [name for name in {HEAVY!r} if name in sys.modules])
"""
    out = python(code)
    texts = dict(part.split("\n", 1) for part in out.split("=== ")[1:-1])
    expected = {
        "verb ready": ["what is trained:", "rows:", "rows to forget:", "model:", "adapter:", "--help all", "--role"],
        "verb unlearn": ["--start", "--objective", "--retain_budget", "--forget_values", "Default: 0.0001."],
        "verb plan": ["request:", "--readiness", "--ids_file", "what is written:"],
        "verb verify": ["what is verified:", "--from start|snapshot", "--salt_file"],
        "verb evaluate": ["evaluation:", "--title", "--output_dir", "--dataset_name", "--fail_on"],
        "verb memory": ["--batch_size", "--memory"],
        "verb tofu": ["--logs", "--retrained"],
        "script ready": ["python recipes/ready.py", "--role", "--meta_gradient", "--lambda_efficiency", "--lora_r"],
        "script unlearn": ["python recipes/unlearn.py", "--start"],
        "script evaluate": ["python recipes/evaluate.py", "--title"],
        "script quickstart": ["--output_dir", "--smoke"],
        "script tools/check_engine": ["--peft", "--steps"],
    }
    for name, words in expected.items():
        assert all(word in texts[name] for word in words), (name, words)
    assert out.rstrip().endswith("=== heavy []") or "heavy []" in out


@pytest.mark.parametrize("verb", arguments.KINDS)
def test_every_flag_of_a_verb_is_in_its_help_once_with_a_text(verb):
    text = help.help_text(verb, "hf-unlearn", "")
    for kind in help.kinds_in_help(verb):
        for one in fields(kind):
            assert len(re.findall(rf"^  --{one.name.rstrip('_')}\b", text, re.M)) == 1, one.name
            assert len(one.metadata["help"]) > 10
    if verb in arguments.CONFIGS:
        assert text.index("the Trainer's own") > text.index("adapter:")


@pytest.mark.parametrize("kind", help.SUBJECTS)
def test_every_subject_begins_with_a_flag_that_exists(kind):
    assert set(help.SUBJECTS[kind].values()) <= {one.name for one in fields(kind)}
    assert list(help.by_subject(kind)) == list(help.SUBJECTS[kind])


@pytest.mark.parametrize("verb", arguments.CONFIGS)
def test_the_trainer_s_arguments_and_defaults_in_the_help_are_its_own(verb):
    known = {one.name: one.default for one in fields(getattr(hf_unlearn, arguments.CONFIGS[verb]))}
    assert set(help.TRAINER) <= set(known)
    for name, default in help.DEFAULTS[verb].items():
        assert known[name] == default, name


def test_help_all_lists_every_argument_of_the_trainer():
    text = help.help_text("unlearn", "hf-unlearn unlearn", "", everything=True)
    for one in fields(hf_unlearn.UnlearnConfig):
        if one.init:
            assert len(re.findall(rf"^  --{one.name}\b", text, re.M)) == 1, one.name


def test_help_all_is_offered_where_there_is_more_and_only_there():
    for verb in arguments.KINDS:
        text = help.help_text(verb, "hf-unlearn", "")
        assert ("--help all" in text) == (verb in arguments.CONFIGS)
    text, same = (help.help_text("evaluate", "hf-unlearn", "", everything=one) for one in (False, True))
    assert text == same


@pytest.mark.parametrize("verb", arguments.KINDS)
@pytest.mark.parametrize("everything", [False, True])
def test_help_says_what_each_flag_takes(verb, everything):
    text = help.help_text(verb, "hf-unlearn", "", everything)
    takes = dict(re.findall(r"^  --(\w+) (\S+(?: …)?)", text, re.M))
    words = {word for taken in takes.values() for word in taken.split("|")}
    assert words >= {"N", "X", "COLUMN", "FOLDER", "NAME"} and "VALUE" not in words
    configs = [getattr(hf_unlearn, arguments.CONFIGS[verb])] if verb in arguments.CONFIGS else []
    kinds = [*help.kinds_in_help(verb), *configs]
    for name, action in parsing.actions_of(kinds[-1:]).items() if everything else ():
        if name == action.dest and name in takes:
            assert (takes[name] == "true|false") == parsing.is_bool(action), name
    if verb == "unlearn":
        assert takes["target"] == "current|frozen|chance" and takes["stop"] == takes["bf16"] == "true|false"
    if verb == "ready":
        assert (takes["request"], takes["forget_values"]) == ("JSON", "VALUE …")


def test_no_verb_an_unknown_verb_and_the_version(capsys):
    assert main.main([]) == 2
    assert "usage: hf-unlearn VERB" in capsys.readouterr().err
    assert main.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {verb} ", out, re.M) for verb in main.VERBS)
    assert main.main(["unlern"]) == 2
    assert "there is no verb 'unlern'. Did you mean 'unlearn'?" in capsys.readouterr().err
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-unlearn {hf_unlearn.__version__}\n"


def test_the_verb_tofu_is_the_command_of_the_evaluation(capsys, tmp_path):
    told, words = [], ["--logs", str(tmp_path / "nowhere.json")]
    for run in (lambda: main.run("tofu", words, ""), lambda: sys.exit(evaluation.main(["tofu", *words]))):
        with pytest.raises(SystemExit) as end:
            run()
        told.append((end.value.code, capsys.readouterr().err.partition(": ")[2]))  # without the program's name
    assert told[0] == told[1] and told[0][0] == 1 and "nowhere.json" in told[0][1]


def test_roles_and_attacks_are_the_evaluation_s(capsys):
    from hf_unlearn.evaluation import attack_names, roles

    assert arguments.ROLES is roles.ROLES and arguments.EvaluateArguments().attacks == attack_names()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/x/python", "recipes/evaluate.py", "--limit", "9"], "python recipes/evaluate.py --limit 9"),
        (["/x/python", "/x/bin/hf-unlearn", "evaluate", "--limit", "9"], "hf-unlearn evaluate --limit 9"),
        (["python3", "-m", "hf_unlearn", "evaluate", "--limit", "9"], "python -m hf_unlearn evaluate --limit 9"),
        (["python", "-u", "my own.py", "--limit", "9"], "python 'my own.py' --limit 9"),
        (["python", "-m", "pytest", "tests"], "hf-unlearn evaluate --limit 9"),
    ],
)
def test_a_record_names_the_command_that_was_run(words, expected, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", words)
    for name in ("ACCELERATE_MIXED_PRECISION", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert running.command_line(["--limit", "9"], "hf-unlearn evaluate") == expected


def test_a_record_names_the_launcher_and_its_processes(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "recipes/evaluate.py", "--limit", "9"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    said = running.command_line(["--limit", "9"], "hf-unlearn evaluate")
    assert said == "torchrun --nproc_per_node 2 recipes/evaluate.py --limit 9"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    said = running.command_line(["--limit", "9"], "hf-unlearn evaluate")
    assert said == "accelerate launch --num_processes 2 recipes/evaluate.py --limit 9"


def test_a_record_of_a_command_tells_no_token(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pytest"])
    for name in ("ACCELERATE_MIXED_PRECISION", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    argv = ["--limit", "9", "--hub_token", "hf_a", "--ready.hub-token=hf_b", "--text_column", "token"]
    said = running.command_line(argv, "hf-unlearn evaluate")
    assert said.replace("'", "") == (
        "hf-unlearn evaluate --limit 9 --hub_token <HUB_TOKEN> --ready.hub-token=<HUB_TOKEN> --text_column token"
    )


def test_the_verb_tofu_reads_a_yaml_file(capsys, tmp_path):
    (tmp_path / "logs.yaml").write_text(f"logs: {tmp_path / 'none.json'}\n")
    for words in (["--config", str(tmp_path / "logs.yaml")], [f"--config={tmp_path / 'logs.yaml'}"]):
        assert tofu.main(words) == 1
        assert "hf-unlearn" in (said := capsys.readouterr().err) and "none.json" in said
    with pytest.raises(SystemExit):  # no flag is known by its beginning
        tofu.main(["--log", "none.json"])
