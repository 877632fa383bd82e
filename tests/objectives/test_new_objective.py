"""An objective is added by one file: the one that the docstring of `hf_unlearn.objectives` shows."""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import textwrap
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import hf_unlearn.objectives
from hf_unlearn.objectives import registry
from hf_unlearn.objectives.base import Objective

ROOT = Path(__file__).resolve().parents[2]
HELP = """
import contextlib, io, sys
import hf_unlearn.objectives
hf_unlearn.objectives.__path__.append(sys.argv[1])

from transformers.hf_argparser import HfArgumentParser
from hf_unlearn.options import UnlearnOptions

with contextlib.suppress(SystemExit):
    HfArgumentParser([UnlearnOptions]).parse_args(["--help"])
sys.exit("torch" in sys.modules)
"""


def example() -> str:
    """The file in the docstring of the room."""
    lines = hf_unlearn.objectives.__doc__.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    from __future__"))
    last = next(i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith("    "))
    return textwrap.dedent("\n".join(lines[first:last])).strip() + "\n"


def test_the_example_of_an_objective_has_under_30_lines_that_ruff_accepts():
    assert len(example().splitlines()) < 30
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "-", "--stdin-filename"]
    command.append("hf_unlearn/objectives/unlikelihood.py")
    done = subprocess.run(command, cwd=ROOT, input=example(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_file_adds_an_objective_to_the_help(tmp_path):
    (tmp_path / "unlikelihood.py").write_text(example())
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    command = [sys.executable, "-c", HELP, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr or "torch was imported"
    shown = " ".join(done.stdout.split())
    assert "`wga`, `unlikelihood`" in shown and "--power" in shown
    assert "`unlikelihood` only: larger: less for unlikely labels." in shown


def in_a_process_without_the_package(work) -> dict:
    """What `work` returns in a copy of this process that is to import the package, and nothing else, anew."""
    importlib.import_module("hf_unlearn.trainers.unlearn")  # here: the copy need not import what that is built on
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)  # those of the parent are not there
            gc.freeze()
            for name in [name for name in sys.modules if name.split(".")[0] in ("hf_unlearn", "helpers")]:
                del sys.modules[name]
            found = work()
        except BaseException:
            found = {"error": traceback.format_exc()}
        with open(writing, "w") as out:
            json.dump(found, out)
        os._exit(0)
    os.close(writing)
    with open(reading) as sent:
        found = json.load(sent)
    os.waitpid(pid, 0)
    assert "error" not in found, found["error"]
    return found


def requests_by_unlikelihood(folder: Path) -> dict:
    """Two requests that are cut differently; run where the package has not been imported yet."""
    import hf_unlearn.objectives

    hf_unlearn.objectives.__path__.append(str(folder))

    from helpers.tiny import QUIET, distance, fit, lm64, lm_rows, tokenizer, weights

    from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer

    found = {}
    for name, options in (
        ("name", {"objective": "unlikeliness"}),
        ("value", {"objective": "unlikelihood", "power": -1.0}),
    ):
        try:
            UnlearnConfig(str(folder), use_cpu=True, **options)
        except ArgumentError as error:
            found[name] = str(error)
    rows = {"forget": lm_rows(8), "retain": lm_rows(16, 8), "unseen": lm_rows(6, 100)}
    own = {
        "objective": "unlikelihood",
        "power": 0.5,
        "passes": "2",
        "stop": False,
        "learning_rate": 0.1,
        "optim": "sgd",
    }
    ends = []
    for each, accumulation in ((4, 1), (2, 2)):
        cut = {"per_device_train_batch_size": each, "gradient_accumulation_steps": accumulation}
        args = UnlearnConfig(str(folder / "out"), **QUIET, **own, **cut, max_grad_norm=0.0)
        model = fit(lm64(), [*rows["forget"], *rows["retain"]], steps=12)
        run = UnlearnTrainer(model, args, *rows.values(), processing_class=tokenizer())
        start = weights(run.model)
        run.train()
        ends.append(weights(run.model))
    run.save_model()
    found |= {"stop_reason": run.stop_reason, "moved": distance(ends[0], start), "cut": distance(ends[1], ends[0])}
    return found | {"card": run.card_info()["settings"], "record": run.record()}


def test_one_file_adds_an_objective_that_a_request_can_use(tmp_path):
    (tmp_path / "unlikelihood.py").write_text(example())
    found = in_a_process_without_the_package(lambda: requests_by_unlikelihood(tmp_path))
    assert "`objective` is 'unlikeliness'; it must be one of" in found["name"] and "'unlikelihood'" in found["name"]
    assert "`power` is -1.0; it must be a finite number at least 0.1" in found["value"]
    assert found["stop_reason"] == "all_passes_done" and found["moved"] > 1e-3 and found["cut"] < 1e-6
    for told in (found["card"], found["record"]):
        assert (told["objective"], told["power"]) == ("unlikelihood", 0.5) and "Welleck et al. 2020" in told["method"]
    assert "gap" not in found["record"]


def refused(tmp_path, monkeypatch, text: str) -> str:
    (tmp_path / "own.py").write_text(text)
    monkeypatch.setattr(registry, "FOLDERS", [*registry.FOLDERS, str(tmp_path)])
    monkeypatch.setattr(hf_unlearn.objectives, "__path__", registry.FOLDERS)
    monkeypatch.delitem(sys.modules, "hf_unlearn.objectives.own", raising=False)
    with pytest.raises(TypeError) as caught:
        registry.find_objectives()
    sys.modules.pop("hf_unlearn.objectives.own", None)
    return str(caught.value)


@pytest.mark.parametrize("old, new, words", [
    ('name: ClassVar[str] = "unlikelihood"', "", "It has no `name`."),
    ('name: ClassVar[str] = "unlikelihood"', 'name: ClassVar[str] = "npo"', "Npo has the name 'npo' already."),
    ('"token_nll"', '"tokens"', "`needs` is 'tokens'; it must be one of 'row_nll', 'token_nll'"),
    ('"labels"', '"tokens"', "`average` is 'tokens'; it must be one of 'rows', 'labels', 'later_labels'."),
    ('"help": "Larger: less for unlikely labels.", ', "", "The option `power` has no help."),
    ("default=1.0, ", "", "non-default argument 'power' follows default argument"),
    ("power: float", "npo_beta: float", "`npo_beta` has another type or default in Npo."),
], ids=["no name", "a taken name", "needs", "average", "no help", "no default", "another type"])  # fmt: skip
def test_a_file_that_does_not_keep_to_the_contract_is_refused(tmp_path, monkeypatch, old, new, words):
    assert old in example()
    assert words in refused(tmp_path, monkeypatch, example().replace(old, new))


@dataclass(frozen=True)
class Toy(Objective):
    """An option, and state that moves."""

    name: ClassVar[str] = "toy"
    citation: ClassVar[str] = "-"
    moving: ClassVar[tuple[str, ...]] = ("multiplier",)
    weight: float = field(default=1.0, metadata={"help": "A weight."})
    multiplier: float = 0.0


@dataclass(frozen=True)
class Bare(Objective):
    """An option without a default, and a kind of models that there is none of."""

    name: ClassVar[str] = "bare"
    citation: ClassVar[str] = "-"
    kinds: ClassVar[tuple[str, ...]] = ("translator",)
    weight: float = field(metadata={"help": "A weight."})


def test_an_option_needs_a_default_and_kinds_must_exist():
    kinds, default = registry.contract_problems(Bare, {})
    assert default == "The option `weight` has no default."
    assert kinds.startswith("`kinds` has 'translator'; there are 'language model', 'classifier'")


def test_moving_fields_are_state_and_not_options():
    assert [f.name for f in registry.option_fields(Toy)] == ["weight"]
    assert Toy(2.0, 0.5).settings() == {"weight": 2.0} and Toy(2.0, 0.5).state() == {"multiplier": 0.5}
    assert not registry.contract_problems(Toy, registry.OBJECTIVES)
