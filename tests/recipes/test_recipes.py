"""The scripts and every YAML of the recipes, in a small size, on files in the layouts of the real data sets."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import transformers
import yaml
from datasets import Dataset
from helpers.tiny import bert, cheap_collections
from PIL import Image

from hf_unlearn import ArgumentError, NonFiniteError, Scorecard, UnlearnTrainer
from hf_unlearn.cli import arguments, building, evaluate, models, other_words, parsing, ready, running, unlearn
from hf_unlearn.trainers import checkpoints
from hf_unlearn.trainers.models import load_model
from recipes import quickstart

ROOT = Path(__file__).resolve().parents[2]
YAMLS = sorted(p for p in ROOT.glob("recipes/**/*.yaml") if p.parent.name != "accelerate")
ACCELERATE = sorted(ROOT.glob("recipes/accelerate/*.yaml"))
SMALL = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2"
TINY = ["--logging_strategy", "no", "--save_strategy", "no", "--use_cpu", "true", "--disable_tqdm", "true"]
TINY += ["--max_steps", "2", "--per_device_train_batch_size", "8"]
PEOPLE = ["--config", str(ROOT / "recipes/text/people_llama.yaml"), "--limit", "100"]
PEOPLE += ["--config_overrides", SMALL, "--vocab_size", "300"]

BY_ID = ["--forget_by", "id", "--forget_column", "null", "--forget_fraction", "null"]


def names(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    yield from cheap_collections()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """A connection to anywhere but this machine fails the test."""
    asked, here = [], ("127.0.0.1", "::1", "localhost", "")

    def refuse(what, real):
        def guarded(*args, **kwargs):
            address = args[1] if what == "connect" else args[0]
            host = address[0] if isinstance(address, tuple) else address
            if isinstance(host, str) and host not in here and not host.startswith("/"):
                asked.append(host)
                raise OSError(f"no network in tests, asked for {host}")
            return real(*args, **kwargs)

        return guarded

    monkeypatch.setattr(socket.socket, "connect", refuse("connect", socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", refuse("connect", socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo", socket.getaddrinfo))
    yield
    assert not asked


# ---- files like the real ones ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tofu(tmp_path_factory):
    """full.jsonl: 200 authors in blocks of 20 rows, no ids."""
    path = tmp_path_factory.mktemp("tofu") / "full.jsonl"
    rows = ({"question": f"What did author {i // 20} write, {i}?", "answer": f"Book {i}."} for i in range(4000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def banking77(tmp_path_factory):
    """train.csv and test.csv with text,category; the classes that the recipe names and others."""
    folder = tmp_path_factory.mktemp("banking77")
    classes = ["card_arrival", "exchange_rate", "lost_or_stolen_card", "top_up_failed", "age_limit", "atm_support"]
    for name, n in (("train", 90), ("test", 18)):
        lines = [f'"Question {i}, about {classes[i % 6]} in {name}?",{classes[i % 6]}' for i in range(n)]
        (folder / f"{name}.csv").write_text("\n".join(["text,category", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """train-00.parquet and test-00.parquet: encoded 32×32 images, label, id."""
    folder = tmp_path_factory.mktemp("cifar10")
    for name, n in (("train", 80), ("test", 20)):
        rows = []
        for i in range(n):
            pixels = np.random.default_rng([n, i]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format="PNG")
            image = {"bytes": buffer.getvalue(), "path": f"{name}-{i}.png"}
            rows.append({"image": image, "label": i % 10, "id": f"{name}-{i}"})
        Dataset.from_list(rows).to_parquet(str(folder / f"{name}-00.parquet"))
    return folder


@pytest.fixture(scope="module")
def fsdd(tmp_path_factory):
    """recordings.parquet: file bytes, label, speaker, take, id, as 8 kHz WAV."""
    path = tmp_path_factory.mktemp("fsdd") / "recordings.parquet"
    speakers, rows = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"], []
    for i in range(90):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", None))
            file.writeframes(np.random.default_rng(i).integers(-9999, 9999, 1600, dtype=np.int16).tobytes())
        label, speaker = i % 10, speakers[i // 15]
        audio = {"bytes": buffer.getvalue(), "path": f"{label}_{speaker}_{i}.wav"}
        rows.append({"id": str(i), "audio": audio, "label": label, "speaker": speaker, "take": i})
    Dataset.from_list(rows).to_parquet(str(path))
    return path


@pytest.fixture
def flags_of(tofu, banking77, cifar10, fsdd):
    """Flags that bring a recipe down to seconds."""

    def flags(path: Path, folder: Path) -> list[str]:
        recipe = yaml.safe_load(path.read_text())
        name = recipe["dataset_name"]
        found = ["--config", str(path), "--output_dir", str(folder), "--config_overrides", SMALL]
        found += {
            "tofu": ["--data_files", str(tofu), "--max_length", "48"],
            "banking77": ["--data_files", str(banking77)],
            "cifar10": ["--data_files", str(cifar10)],
            "fsdd": ["--data_files", str(fsdd), "--max_seconds", "0.3"],
        }.get(name, ["--limit", "160"])
        if recipe["task"] == "image_classification":
            found[found.index(SMALL)] += ",patch_size=8" if name == "cifar10" else ",patch_size=4"
        elif recipe["task"] != "audio_classification":
            found += ["--vocab_size", "300"]
        return found

    return flags


# ---- every recipe ---------------------------------------------------------------------------------------------------


def strict_json(path: Path) -> dict:
    def refuse(constant):
        raise AssertionError(f"{constant} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


LONG = {"tofu_llama", "tofu_llama_lora", "people_llama_lora", "people_llama"}  # the quickstart has people, too
LONG |= {"fsdd_ast_speaker", "fsdd_ast_random", "digits_vit_random"}  # test_sound, digits_vit
LONG |= {"cifar10_vit_class", "cifar10_vit_random"}  # files instead of embedded rows, as Banking77
ATTACKED = {"people_llama", "digits_vit", "tofu_llama", "fsdd_ast_random"}  # with all attacks; the others without


@pytest.mark.parametrize("path", [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in YAMLS
], ids=names)  # fmt: skip
def test_every_recipe_runs(path, flags_of, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_RETAIN_ROWS", 100)
    monkeypatch.setattr(other_words, "MOST_ROWS", 6)
    recipe = yaml.safe_load(path.read_text())
    flags = flags_of(path, tmp_path)
    ready.main([*flags, *TINY, "--meta_start", "0"])
    unlearn.main([*flags, *TINY])
    if path.stem not in ATTACKED:  # the page takes as long as all else
        monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))
    attacks = ["--relearn_steps", "1", "--generate_rows", "2"] if path.stem in ATTACKED else ["--attacks", "none"]
    evaluate.main([*flags, "--per_device_eval_batch_size", "128", *attacks])

    record = strict_json(tmp_path / "ready/readiness.json")
    assert record["ready"] and record["steps"]["all"] == 2 and record["revocable"] == "named"
    request = strict_json(tmp_path / "ready_unlearned/unlearning.json")
    assert request["was_ready"] and request["cost"]["steps"] <= 2 and request["stop_reason"]
    assert request["rows"]["forget"] == record["revocable_rows"]
    if recipe["dataset_name"] == "tofu":
        assert request["rows"]["forget"] == 20 * 20

    assert not isinstance(load_model(str(tmp_path / "ready")), _peft())
    with_adapter = "unlearn.lora_r" in recipe
    model = load_model(str(tmp_path / "ready_unlearned"))
    assert isinstance(model, _peft()) == with_adapter
    if with_adapter:
        base = {k: v for k, v in model.get_base_model().state_dict().items() if "lora_" not in k}
        whole = load_model(str(tmp_path / "ready")).state_dict()
        assert all(torch.equal(v, whole[k.replace(".base_layer", "")]) for k, v in base.items())
    pixels_or_sound = recipe["task"] in ("image_classification", "audio_classification")
    processing = "preprocessor_config.json" if pixels_or_sound else "tokenizer.json"
    for role in ("ready", "ready_unlearned"):
        assert (tmp_path / role / processing).is_file() and (tmp_path / role / "README.md").is_file()

    card = strict_json(tmp_path / "scorecard.json")
    assert card["schema"] == 2
    assert {(run["task"], run["model"]) for run in card["runs"]} == {
        (tmp_path.name, "ready"),
        (tmp_path.name, "ready_unlearned"),
    }
    for run in card["runs"]:
        assert {"forget_loss", "retain_loss", "unseen_loss", "forget_mia_loss_auc"} <= set(run["measures"])
        assert all({"value", "low", "high", "n"} <= set(measure) for measure in run["measures"].values())
        assert run["cost"]["steps"] >= 1
        assert ("test_loss" in run["measures"]) == bool(recipe.get("test_split") or recipe.get("test_fraction"))
    assert [run["stop_reason"] for run in card["runs"]] == [None, request["stop_reason"]]
    page = (tmp_path / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html") and not re.search(r"(src|href)=\"https?:", page)


def _peft():
    from peft import PeftModel

    return PeftModel


@pytest.mark.parametrize("path", [*YAMLS, *ACCELERATE], ids=names)
def test_the_first_line_is_the_command(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    words = shlex.split(first[2:].partition("   (")[0])
    words = [word for word in words if "=" not in word]
    assert words[:2] == ["accelerate", "launch"]
    scripts = [word for word in words if word.endswith(".py")]
    assert len(scripts) == 1 and (ROOT / scripts[0]).is_file()
    mentioned = [ROOT / word for word in words if word.endswith(".yaml")]
    assert path in mentioned and all(p.is_file() for p in mentioned)


@pytest.mark.parametrize("path", ACCELERATE, ids=names)
def test_accelerate_configs_are_known_to_accelerate(path):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    assert yaml.safe_load(path.read_text())["distributed_type"] in [kind.value for kind in DistributedType]
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    assert config.num_processes == (1 if path.stem == "cpu" else 2)


@pytest.mark.parametrize("path", YAMLS, ids=names)
def test_flags_of_a_recipe_are_flags_of_its_scripts(path, tmp_path):
    """The whole recipe, not the small sizes above, and for all three scripts."""
    argv = ["--config", str(path), "--output_dir", str(tmp_path)]
    _, data, model, args = parsing.parse("ready", arguments.ReadyScript, argv, "ReadyConfig")
    assert args.output_dir == str(tmp_path)
    assert args.learning_rate == float(yaml.safe_load(path.read_text())["ready.learning_rate"])
    assert building.model_settings(model.model_type, model.config_overrides)
    _, same, _, _ = parsing.parse("unlearn", arguments.UnlearnScript, argv, "UnlearnConfig")
    assert parsing.parse("evaluate", arguments.EvaluateScript, argv)[1] == data == same


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


# ---- quickstart -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_quickstart_in_a_smoke_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.logging, "set_verbosity_error", lambda: None)
    quickstart.main(["--output-dir", str(tmp_path), "--smoke"])
    out = capsys.readouterr().out
    assert "What readiness bought" in out
    table = out.partition("What readiness bought")[2]
    for task in quickstart.TASKS:
        assert len(re.findall(rf"^{task} .*(original|ready) +2 ", table, re.M)) == 2, table
    card = strict_json(tmp_path / "scorecard.json")
    roles = set(arguments.ROLES)
    found = {(run["task"], run["model"]) for run in card["runs"]}
    assert found == {(task, role) for task in quickstart.TASKS for role in roles}
    assert len(card["runs"]) == 18
    page = (tmp_path / "report.html").read_text()
    assert all(task in page for task in quickstart.TASKS)
    assert not re.search(r"(src|href)=\"https?:", page)


# ---- help -----------------------------------------------------------------------------------------------------------


def test_help_names_the_options_and_loads_nothing_heavy():
    """All scripts in one process, each as `python recipes/x.py --help` runs it."""
    code = """
import runpy, sys
for name in ("ready", "unlearn", "evaluate", "quickstart", "tools/check_engine"):
    sys.argv = [f"recipes/{name}.py", "--help"]
    print("===", name)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        print("code", error.code)
print("=== heavy", sorted({"torch", "datasets", "accelerate", "peft", "sklearn", "matplotlib"} & set(sys.modules)))
"""
    env = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    texts = dict(part.split("\n", 1) for part in done.stdout.split("=== ")[1:6])
    expected = {
        "ready": ["--role", "--meta_gradient", "--lambda_efficiency", "--lora_r", "--output_dir"],
        "unlearn": ["--start", "--objective", "--retain_budget", "--forget_values"],
        "evaluate": ["--title", "--output_dir", "--dataset_name"],
        "quickstart": ["--output-dir", "--smoke"],
        "tools/check_engine": ["--peft", "--steps"],
    }
    for name, words in expected.items():
        assert all(word in texts[name] for word in words), name
        assert "code 0" in texts[name]
    assert "=== heavy []" in done.stdout


# ---- wrong input ----------------------------------------------------------------------------------------------------


def refusal(main, argv, monkeypatch) -> str:
    """What the script says in the end; it must not have come to a model."""
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, argv)])
    monkeypatch.delenv("HF_UNLEARN_TRACEBACK", raising=False)
    for name in ("build_model", "load_model"):
        monkeypatch.setattr(building, name, _no_model)
    monkeypatch.setattr("hf_unlearn.trainers.base.load_model", _no_model)
    with pytest.raises(SystemExit) as end:
        running.run(main)
    assert isinstance(end.value.code, str)  # Python prints it to stderr and exits with 1
    return end.value.code


def _no_model(*args, **kwargs):
    raise AssertionError("a model was made before the checks were through")


def problems_of(text: str) -> list[str]:
    return re.findall(r"^  - (.*)", text, re.M)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--bogus", "1"], "no flag --bogus"),
        (["--forget_values", "Nobody", "--forget_fraction", "null"], "Not in the column 'person': Nobody."),
        ([*BY_ID, "--forget_values", "p998-town", "p999-town"], "Not in the column 'id': p998-town, p999-town."),
        (["--forget_column", "family"], "no column 'family'"),
        (["--question_column", "prompt"], "no column 'prompt'"),
        (["--dataset_name", "tofu"], "--data_files path/to/tofu/full.jsonl"),
        (["--dataset_name", "tofu", "--data_files", "nowhere.jsonl"], "No such file: 'nowhere.jsonl'"),
        (["--dataset_name", "./nowhere.csv"], "No such file: './nowhere.csv'"),
        (["--task", "poetry"], "`--task` is 'poetry'"),
        (["--role", "redy"], "`--role` is 'redy'"),
        (["--revocable", "none"], "`--revocable` is 'none'"),
        (["--model_type", "lama"], "Unknown `model_type` 'lama'"),
        (["--model_type", "null"], "Give either --model_name_or_path, or --model_type"),
        (["--config_overrides", "size=3"], "Unknown key 'size'"),
        (["--label_smoothing_factor", "0.1"], "`label_smoothing_factor` is 0.1"),
        (["--unseen", "0"], "`unseen` is 0.0"),
        (["--max_length", "4"], "no label left after truncation"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_with_one_problem(flags, expected, tmp_path, monkeypatch):
    text = refusal(ready.main, [*PEOPLE, "--output_dir", tmp_path, *flags], monkeypatch)
    assert expected in text
    assert len(problems_of(text)) == 1
    assert not list(tmp_path.glob("ready*"))


def test_a_class_that_does_not_exist(banking77, tmp_path, monkeypatch):
    argv = ["--config", ROOT / "recipes/text/banking77_bert.yaml", "--data_files", banking77, "--output_dir", tmp_path]
    text = refusal(ready.main, [*argv, "--forget_values", "card_arrival", "card_departure"], monkeypatch)
    assert len(problems_of(text)) == 1 and "Not in the column 'category': card_departure." in text
    text = refusal(ready.main, [*argv, "--label_column", "intent"], monkeypatch)
    assert "no column 'intent'" in text


def test_all_problems_of_flags_and_rows_come_in_one_error(tmp_path, monkeypatch):
    flags = ["--label_smoothing_factor", "0.1", "--meta_gradient", "guess", "--inner_lr", "-1", "--bogus", "1"]
    flags += ["--role", "redy", "--config_overrides", "size=3"]
    flags += ["--forget_column", "family", "--answer_column", "reply"]
    found = problems_of(refusal(ready.main, [*PEOPLE, "--output_dir", tmp_path, *flags], monkeypatch))
    wanted = ["--bogus", "meta_gradient", "inner_lr", "label_smoothing", "--role", "'size'", "'family'", "'reply'"]
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
    plain = UnlearnTrainer._nll

    def poisoned(self, model, inputs):
        nll, items = plain(self, model, inputs)
        if model.training and self.state.global_step >= 1:
            after.update({k: v.clone() for k, v in self.model.state_dict().items()})
            nll = nll * float("nan")
        return nll, items

    monkeypatch.setattr(UnlearnTrainer, "_nll", poisoned)
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


# ---- two processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_log_what_one_does(tmp_path):
    """`cpu2.yaml` as its header says: 1 × 16 rows a step and 2 × 8 are one run, for training and for the request."""
    flags = [*PEOPLE, "--logging_steps", "1", "--max_steps", "2", "--warmup_steps", "0"]
    save = {"one": ["--save_strategy", "no"], "two": ["--save_strategy", "steps"]}
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    logs = {}
    for folder, rows in (("one", 16), ("two", 8)):
        argv = [*flags, *save[folder], "--output_dir", str(tmp_path / folder)]
        argv += ["--per_device_train_batch_size", str(rows)]
        for script, more in (("ready", ["--meta_start", "0"]), ("unlearn", ["--stop", "false"])):
            if folder == "one":
                {"ready": ready, "unlearn": unlearn}[script].main([*argv, *more, "--use_cpu", "true"])
        if folder == "two":
            _launch([*argv, "--meta_start", "0"], [*argv, "--stop", "false"], env)
        for role in ("ready", "ready_unlearned"):
            history = json.loads((tmp_path / folder / role / "trainer_state.json").read_text())["log_history"]
            logs[folder, role] = [line for line in history if "loss" in line]
    for role in ("ready", "ready_unlearned"):
        one, two = logs["one", role], logs["two", role]
        assert len(one) == len(two) == 2
        for a, b in zip(one, two, strict=True):
            assert a.keys() == b.keys()
            assert all(a[key] == pytest.approx(b[key], rel=2e-5, abs=1e-5) for key in a)
        checkpoint = tmp_path / "two" / role / "checkpoint-2"
        assert checkpoints.problem(checkpoint) is None and (checkpoint / "rng_state_1.pth").exists()


def _launch(ready_flags, unlearn_flags, env) -> None:
    """Both scripts one after the other under one `accelerate launch`: the imports are what takes time."""
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport json\nfrom recipes import ready, unlearn\n"
        "ready.main(json.loads(sys.argv[2]))\nunlearn.main(json.loads(sys.argv[3]))\n"
    )
    script = Path(ready_flags[ready_flags.index("--output_dir") + 1]).with_name("both.py")
    script.write_text(code)
    with socket.socket() as free:  # the default port may be another launch's
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu2.yaml"]
    launch += ["--main_process_port", port]
    words = [str(script), str(ROOT), json.dumps(ready_flags), json.dumps(unlearn_flags)]
    done = subprocess.run([*launch, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-30000:]
    assert done.stdout.count("2 steps; saved in") == 1  # one process speaks


def test_a_head_is_drawn_by_the_seed(tmp_path):
    bert().save_pretrained(tmp_path)
    data, model = arguments.DataArguments(task="sequence_classification"), arguments.ModelArguments(str(tmp_path))
    heads = []
    for seed, before in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(before)  # what a script has drawn until then
        named = SimpleNamespace(labels=list("abcdef"))
        heads.append(models.new_model(data, model, named, seed).classifier.weight)
        assert torch.initial_seed() == before
    assert heads[0].shape[0] == 6 and torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
