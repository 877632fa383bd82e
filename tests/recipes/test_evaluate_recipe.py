"""The verb evaluate: any checkpoints by role, gates as an exit status, and input that does not belong together."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from helpers.recipes import PEOPLE, ROOT, TINY, problems_of, refusal

from hf_unlearn.cli import (
    arguments,
    attack_checks,
    checkpoints,
    evaluate,
    other_words,
    prepare,
    ready,
    running,
    shadows,
    unlearn,
)
from hf_unlearn.data.encode import text as texts
from hf_unlearn.data.rows import people
from hf_unlearn.evaluation import ModelScores, Scorecard, described
from hf_unlearn.trainers.loading import load_model

QUICK = ["--attacks", "none", "--per_device_eval_batch_size", "128"]


@pytest.fixture(autouse=True)
def small_reports(monkeypatch):
    monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))
    monkeypatch.setattr(evaluate, "MOST_RETAIN_ROWS", 40)
    monkeypatch.setattr(other_words, "MOST_ROWS", 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of three roles, hardly trained."""
    path = tmp_path_factory.mktemp("models")
    flags = [*PEOPLE, *TINY, "--output_dir", str(path)]
    for role in ("original", "retrained"):
        ready.main([*flags, "--role", role, "--warmup_steps", "0"])  # so far that some row is right
    unlearn.main([*flags, "--start", "original"])
    return path


@pytest.fixture
def models(folder, tmp_path):
    """Their folders, to be spoilt, so without the list of what was saved."""
    for role in ("original", "unlearned", "retrained"):
        shutil.copytree(folder / role, tmp_path / "in" / role, ignore=shutil.ignore_patterns("_complete.json"))
    return tmp_path / "in"


def named(models: Path) -> list[str]:
    return ["--models", *(f"{role}={models / role}" for role in ("original", "unlearned", "retrained"))]


def test_any_checkpoints_by_role_and_the_gates_they_fail(models, tmp_path, capsys):
    for role in ("original", "unlearned", "retrained"):
        for name in ("readiness.json", "unlearning.json", "trainer_state.json", "README.md"):
            (models / role / name).unlink(missing_ok=True)  # made by someone else
    out = tmp_path / "out"
    argv = [*PEOPLE, *QUICK, *named(models), "--output_dir", str(out), "--title", "mine"]
    assert evaluate.main([*argv, "--fail_on", "verdict"]) == evaluate.FAILED
    told = capsys.readouterr()
    card = Scorecard.load(out)
    (line,) = card.failed_gates("verdict")
    assert f"FAILED {line}" in told.err and "trial run" in told.out
    assert [run.model for run in card.runs] == ["original", "unlearned", "retrained"]
    assert card.runs[1].stop_reason is None
    found = card["unlearned"].measures
    wanted = {"forget_quality", "forget_mia_min_k_auc_gap", "forget_mia_zlib_privleak", "forget_truth_ratio"}
    assert wanted | {"forget_rephrased_loss", "retain_truth_ratio", "forget_extraction_strength"} <= set(found)
    assert found["forget_quality"]["of"] == "truth ratio"
    said = card.provenance["mine"]
    request = said["request"]
    assert (request["dataset"], request["column"], request["fraction"]) == ("people", "person", 0.1)
    assert request["count"] >= 1 and request["values"] == []  # nobody is named
    assert said["smoke"] is True and said["date"]  # by --limit only few rows were read
    assert {model["architecture"] for model in said["models"].values()} == {"LlamaForCausalLM"}
    assert said["commands"][0].startswith("hf-unlearn evaluate --config") and said["versions"]["torch"]
    assert len({model["weights"] for model in said["models"].values()}) == 3
    assert said["data"]["forget"]["rows"] == card["unlearned"].tables["forget"].num_rows
    assert (out / "report.html").is_file() and (out / "tables/retrained/forget.parquet").is_file()

    # The same from the saved tables of the retrained model: the numbers stay, to the last digit.
    again = tmp_path / "again"
    argv = [*PEOPLE, *QUICK, *named(models)[:3], "--output_dir", str(again), "--title", "mine"]
    evaluate.main([*argv, "--tables", f"retrained={out / 'tables/retrained'}"])
    later = Scorecard.load(again)
    assert later["unlearned"].measures == found
    assert json.loads((again / "scorecard.json").read_text())["schema"] == 3


def test_passed_gates_are_an_exit_status_of_zero(models, tmp_path, capsys):
    # All but the retrained model in the role of the unlearned one: nothing tells the two apart.
    other = load_model(str(models / "retrained"))
    other.lm_head.weight.data[0, 0] += 1e-6
    other.save_pretrained(models / "unlearned")
    argv = ["--models", f"unlearned={models / 'unlearned'}", f"retrained={models / 'retrained'}"]
    gates = ["forget_quality", "auc_gap", "kept", "extraction", "over_forgetting"]
    tables = tmp_path / "out/tables/unlearned"
    tables.mkdir(parents=True)
    (tables / "forget_int4.parquet").write_text("of an earlier evaluation")
    assert evaluate.main([*PEOPLE, *QUICK, *argv, "--output_dir", str(tmp_path / "out"), "--fail_on", *gates]) == 0
    assert f"All gates passed: {', '.join(gates)}." in capsys.readouterr().out
    assert (tables / "forget.parquet").is_file() and not (tables / "forget_int4.parquet").exists()


def test_tables_of_other_rows_are_refused(models, tmp_path, monkeypatch):
    out = tmp_path / "out"
    evaluate.main([*PEOPLE, *QUICK, *named(models)[:2], "--output_dir", str(out)])
    argv = [*PEOPLE, *QUICK, *named(models)[:2], "--output_dir", str(tmp_path / "b"), "--split_seed", "1"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *argv, "--tables", f"retrained={out / 'tables/original'}"])
    with pytest.raises(SystemExit) as end:
        running.run(evaluate.main)
    assert "for split `forget`" in end.value.code and "of other data" in end.value.code
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_checkpoint_without_its_tokenizer(models, tmp_path, monkeypatch):
    kept = tmp_path / "tokenizer"
    kept.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models / "original" / name, kept)
        (models / "unlearned" / name).unlink()
    argv = [*PEOPLE, *QUICK, *named(models), "--output_dir", str(tmp_path / "out")]
    text = refusal(evaluate.main, argv, monkeypatch)
    assert 'The checkpoint of "unlearned"' in text and "has no tokenizer" in text and "--processing_from" in text
    monkeypatch.undo()
    monkeypatch.setattr(evaluate, "MOST_RETAIN_ROWS", 40)
    evaluate.main([*argv, "--processing_from", str(kept)])
    assert (tmp_path / "out/scorecard.json").is_file()


def test_models_that_make_other_tokens(models, tmp_path, monkeypatch):
    rows = people.people(20)
    other = texts.build_tokenizer([*rows["question"], *rows["answer"]], 280)
    other.save_pretrained(models / "retrained")
    argv = [*PEOPLE, *QUICK, *named(models), "--output_dir", str(tmp_path / "out")]
    text = refusal(evaluate.main, argv, monkeypatch)
    assert 'Unequal tokenisation: the tokenizer of "retrained"' in text and "row 0" in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--models", "before=x"], "`--models` takes ROLE=WHERE, ROLE one of original"),
        (["--models", "original"], "got 'original'"),
        (["--attacks", "guess"], "`--attacks` is guess; expected some of none, generate"),
        (["--fail_on", "speed"], "`--fail_on` is speed; expected some of forget_quality"),
        (["--shadows", "3"], "`--shadows` is 3; expected 0 or an even number from 4"),
        (["--tables", "retrained"], "`--tables` takes ROLE=WHERE"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_wrong_flags_are_refused(flags, expected, folder, tmp_path, monkeypatch):
    where = ["--output_dir", str(folder)]
    problems = problems_of(refusal(evaluate.main, [*PEOPLE, *where, *flags], monkeypatch))
    assert any(expected in problem for problem in problems)


def test_checkpoints_of_another_kind_are_refused_by_their_configs(models, tmp_path, monkeypatch):
    config = json.loads((models / "original/config.json").read_text())
    (models / "unlearned/config.json").write_text(
        json.dumps({"model_type": "vit", "architectures": ["ViTForImageClassification"]})
    )
    argv = [*PEOPLE, *named(models), "--output_dir", str(tmp_path / "out")]
    (told,) = problems_of(refusal(evaluate.main, argv, monkeypatch))
    assert "ViTForImageClassification, which is no model for causal_lm" in told
    (models / "retrained/config.json").unlink()
    (told,) = problems_of(refusal(evaluate.main, argv, monkeypatch))
    assert "retrained'" in told and "holds no config.json" in told
    assert config["architectures"] == ["LlamaForCausalLM"]
    argv = [*PEOPLE, "--models", f"unlearned={models / 'nowhere'}", "--tables", f"unlearned={models}"]
    text = refusal(evaluate.main, argv, monkeypatch)
    assert "both give unlearned" in text and "there is no such folder" in text


def test_classifiers_of_other_classes_are_refused_by_their_configs(tmp_path):
    data = arguments.DataArguments(task="image_classification")
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    for labels, expected in (
        (["cat", "dog"], None),
        (["LABEL_0", "LABEL_1"], None),
        (["dog", "cat"], "class 0 is 'dog' there and 'cat' here"),
        (["cat", "dog", "cow"], "has 3 classes, the rows 2"),
    ):
        id2label = {str(i): name for i, name in enumerate(labels)}
        (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": id2label}))
        if expected is None:
            checkpoints.check_checkpoint(data, ["cat", "dog"], "original", str(tmp_path))
        else:
            with pytest.raises(ValueError, match=expected):
                checkpoints.check_checkpoint(data, ["cat", "dog"], "original", str(tmp_path))


def test_shadows_halve_what_the_request_is_by():
    pool = datasets.Dataset.from_dict({"person": ["a", "a", "b", "c"], "label": [1, 1, 2, 2], "id": list("wxyz")})
    by_person = arguments.DataArguments(forget_by="column", forget_column="person")
    assert shadows.groups_of(by_person, pool) == ["a", "a", "b", "c"]
    assert shadows.groups_of(arguments.DataArguments(forget_by="class"), pool) == ["1", "1", "2", "2"]
    assert shadows.groups_of(arguments.DataArguments(forget_by="random"), pool) == [0, 1, 2, 3]
    assert shadows.groups_of(arguments.DataArguments(forget_by="id", forget_column="id"), pool) == [0, 1, 2, 3]


def test_more_shadows_and_other_titles_leave_the_settings(tmp_path):
    recipe = tmp_path / "a.yaml"
    recipe.write_text("ready.learning_rate: 1\nevaluate.title: x\nshadows: 4\nfail_on: kept\nlimit: 9\n")
    before = [shadows.settings(verb, ["--config", str(recipe), "--shadows", "4"]) for verb in ("ready", "unlearn")]
    recipe.write_text("ready.learning_rate: 1\nevaluate.title: y\nshadows: 8\nlimit: 9\n")
    again = [shadows.settings(verb, ["--config", str(recipe), "--attacks", "none"]) for verb in ("ready", "unlearn")]
    assert before == again == [["--limit", "9", "--learning_rate", "1"], ["--limit", "9"]]
    recipe.write_text("ready.learning_rate: 2\nlimit: 9\n")
    assert shadows.settings("ready", ["--config", str(recipe)]) != before[0]


def test_gates_need_an_unlearned_model(folder, tmp_path, monkeypatch):
    argv = [*PEOPLE, "--models", f"original={folder / 'original'}", "--fail_on", "verdict"]
    assert "role unlearned or ready_unlearned" in refusal(evaluate.main, argv, monkeypatch)


def test_gates_that_no_model_could_pass_are_refused_with_what_is_missing(folder, monkeypatch, tmp_path):
    gates = ["kept", "recovery", "quantisation", "over_forgetting"]
    argv = [*PEOPLE, *named(folder)[:3], "--output_dir", str(tmp_path), "--fail_on", *gates]
    (told,) = problems_of(refusal(evaluate.main, argv, monkeypatch))
    assert told.startswith("`fail_on` is kept, recovery, quantisation: that needs a model of role retrained")
    assert told.endswith("without: over_forgetting, general.")
    argv = [*PEOPLE, *named(folder), "--output_dir", str(tmp_path), "--attacks", "quantise", "--fail_on", *gates]
    (told,) = problems_of(refusal(evaluate.main, argv, monkeypatch))
    assert told.startswith("`fail_on` is recovery: that rests on an attack that is not among --attacks quantise")
    own, data = arguments.EvaluateArguments(fail_on=gates, attacks=["none"]), arguments.DataArguments()
    both = {"unlearned", "retrained"}
    assert attack_checks.gate_problems(own, data, both, both) == []  # saved tables may hold them


def test_flags_of_the_training_scripts_are_kept_for_shadows():
    argv = ["--config", "a.yaml", "--shadows", "8", "--data_files=x", "--models", "a=b", "c=d", "--limit", "9"]
    argv += ["--output-dir", "out", "--evaluate.seed", "4", "--ready.num_train_epochs", "3", "--fail-on", "kept"]
    argv += ["--no-generations", "--no_model_cards"]
    kept = ["--config", "a.yaml", "--data_files=x", "--limit", "9", "--ready.num_train_epochs", "3"]
    assert shadows.training_flags(argv) == kept


def test_lira_says_unlearned_of_what_looks_unlearned(monkeypatch, tmp_path):
    """Shadows in which unlearned rows have the loss 2 and never seen ones 1: so have the target's."""
    rows = datasets.Dataset.from_dict({"input_ids": [[i, 1] for i in range(24)], "labels": [[-100, 1]] * 24})
    splits = {"forget": rows.select(range(12)), "unseen": rows.select(range(12, 24)), "retain": rows}
    noise = np.random.default_rng(0)

    def table(seen):
        loss = np.where(seen, 2.0, 1.0) + noise.normal(0, 0.05, len(seen))
        columns = {"nll_sum": loss, "entropy_sum": loss, "n_labels": 1, "n_correct": 0, "row": np.arange(len(seen))}
        return pa.table({k: np.broadcast_to(np.asarray(v), len(seen)) for k, v in columns.items()})

    monkeypatch.setattr(shadows, "_shadow", lambda folder, number, start, seen, *more: table(seen))
    run = ModelScores(
        "t", "unlearned", 0, {}, tables={"forget": table(np.ones(12, bool)), "unseen": table(np.zeros(12, bool))}
    )
    script = arguments.EvaluateArguments(output_dir=str(tmp_path), shadows=8)
    prepared = prepare.Prepared(splits, None, None)
    never = table(np.zeros(24, bool))
    other = ModelScores("t", "retrained", 0, {}, tables={"forget": never.slice(0, 12), "unseen": never.slice(12)})
    shadows.add(Scorecard([run, other]), script, [], arguments.DataArguments(forget_by="random"), prepared)
    assert run.measures["forget_lira_auc"]["value"] == 1.0
    assert run.details["lira"] == {"shadows": 8, "groups": 24, "of": "unlearned"}
    assert 0.1 < other.measures["forget_lira_auc"]["value"] < 0.9 and other.details["lira"]["of"] == "unlearned"


@pytest.mark.slow
def test_two_processes_write_what_one_does(folder, tmp_path):
    argv = [*PEOPLE, "--models", *(f"{r}={folder / r}" for r in ("original", "unlearned", "retrained"))]
    argv += ["--attacks", "relearn", "generate", "--relearn_steps", "2", "--generate_rows", "4"]
    evaluate.main([*argv, "--output_dir", str(tmp_path / "one")])
    with socket.socket() as free:  # the default port may be another launch's
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu2.yaml"]
    launch += ["--main_process_port", port, "recipes/evaluate.py", *argv, "--output_dir", str(tmp_path / "two")]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, "--fail_on", "kept"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.count("Why, and what it rests on") == 1, done.stderr[-3000:]  # one process speaks
    one, two = (Scorecard.load(tmp_path / name) for name in ("one", "two"))
    failed = two.failed_gates("kept")
    assert (done.returncode != 0) == bool(failed)  # a launcher has a status of its own
    told = [f"FAILED {line}" for line in failed] or ["All gates passed: kept."]
    assert all((done.stderr + done.stdout).count(line) == 1 for line in told), done.stderr[-3000:]
    (command,) = two.provenance["two"]["commands"]
    assert command.startswith("accelerate launch --num_processes 2 recipes/evaluate.py --config")
    for a, b in zip(one.runs, two.runs, strict=True):
        assert a.measures.keys() == b.measures.keys()
        ends = ("_loss", "_prob", "real_area", "similar_area", "_recall")
        names = [
            n for n in a.measures if n.endswith(ends) and not n.startswith(("retain", "forget_re"))
        ]  # fewer rows above
        assert len(names) >= 5
        for name in names:
            assert a.measures[name]["value"] == pytest.approx(b.measures[name]["value"], rel=1e-3), name


@pytest.mark.slow
def test_shadow_models_are_trained_once_and_give_lira(folder, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.yaml"  # `evaluate.py` has no training flags of its own
    short = "ready.max_steps: 2\nunlearn.max_steps: 2\nready.use_cpu: true\nunlearn.use_cpu: true\n"
    recipe.write_text(Path(PEOPLE[1]).read_text() + short)
    argv = ["--config", str(recipe), *PEOPLE[2:], *QUICK, "--output_dir", str(tmp_path / "out"), "--shadows", "4"]
    argv += ["--models", f"unlearned={folder / 'unlearned'}"]
    trained = []
    plain = ready.train
    monkeypatch.setattr(ready, "train", lambda *args: trained.append(args[0].role) or plain(*args))

    def killed(*args):
        if len(trained) == 3:
            raise KeyboardInterrupt
        return after(*args)

    after = unlearn.unlearn
    monkeypatch.setattr(unlearn, "unlearn", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(argv)
    assert trained == ["original"] * 3
    monkeypatch.setattr(unlearn, "unlearn", after)
    evaluate.main(argv)
    assert trained == ["original"] * 5  # the two that were done were not trained again
    card = Scorecard.load(tmp_path / "out")
    auc = card["unlearned"].measures["forget_lira_auc"]
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1 and card["unlearned"].details["lira"]["shadows"] == 4
    kept = sorted((tmp_path / "out/shadows/unlearned").iterdir())
    assert len(kept) == 4 and all([p.name for p in shadow.iterdir()] == ["pool.parquet"] for shadow in kept)
    evaluate.main(argv)
    assert len(trained) == 5
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *argv, "--ready.learning_rate", "1e-5"])
    with pytest.raises(SystemExit) as end:
        running.run(evaluate.main)
    assert "was made with other settings" in end.value.code
    assert described(card["unlearned"].tables["forget"])["schema"] == 2
