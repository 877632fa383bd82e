"""Every YAML of the recipes, in a small size, and what its first line says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from helpers.recipes import ACCELERATE, APART, ROOT, TINY, YAMLS, small_flags, strict_json
from peft import PeftModel

from hf_unlearn import Scorecard
from hf_unlearn.cli import evaluate, model, other_words, parsing, ready, unlearn
from hf_unlearn.trainers.loading import load_model


def names(path: Path) -> str:
    return path.stem


LONG = {"tofu_llama", "tofu_llama_lora", "people_llama_lora", "people_llama"}  # the quickstart has people, too
LONG |= {"fsdd_ast_speaker", "fsdd_ast_random", "digits_vit_random"}  # test_sound, digits_vit
LONG |= {"cifar10_vit_class", "cifar10_vit_random"}  # files instead of embedded rows, as Banking77
ATTACKED = {"people_llama", "digits_vit", "tofu_llama", "fsdd_ast_random"}  # with all attacks; the others without


@pytest.mark.parametrize("path", [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in YAMLS
], ids=names)  # fmt: skip
def test_every_recipe_runs(path, files, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_RETAIN_ROWS", 100)
    monkeypatch.setattr(other_words, "MOST_ROWS", 6)
    recipe = yaml.safe_load(path.read_text())
    words = small_flags(path, tmp_path, files)
    ready.main([*words, *TINY, "--warmup_steps", "0"])  # the first of two steps moves weights
    unlearn.main([*words, *TINY])
    if path.stem not in ATTACKED:  # the page takes as long as all else
        monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))
    attacks = ["--relearn_steps", "1", "--generate_rows", "2"] if path.stem in ATTACKED else ["--attacks", "none"]
    evaluate.main([*words, "--per_device_eval_batch_size", "128", *attacks])

    record = strict_json(tmp_path / "ready/readiness.json")
    assert record["ready"] and record["steps"]["all"] == 2 and record["revocable"] == "named"
    request = strict_json(tmp_path / "ready_unlearned/unlearning.json")
    with_adapter = "unlearn.lora_r" in recipe
    assert request["guarantee"] == "exact" if not with_adapter else request["was_ready"]
    assert request["cost"]["steps"] <= 2 and request["stop_reason"]
    assert request["rows"]["forget"] == record["revocable_rows"]
    if recipe["dataset_name"] == "tofu":
        assert request["rows"]["forget"] == 20 * 20

    assert not isinstance(load_model(str(tmp_path / "ready")), PeftModel)
    after = load_model(str(tmp_path / "ready_unlearned"))
    assert isinstance(after, PeftModel) == with_adapter
    if with_adapter:
        base = {k: v for k, v in after.get_base_model().state_dict().items() if "lora_" not in k}
        whole = load_model(str(tmp_path / "ready")).state_dict()
        assert all(torch.equal(v, whole[k.replace(".base_layer", "")]) for k, v in base.items())
    pixels_or_sound = recipe["task"] in ("image_classification", "audio_classification")
    processing = "preprocessor_config.json" if pixels_or_sound else "tokenizer.json"
    for role in ("ready", "ready_unlearned"):
        assert (tmp_path / role / processing).is_file() and (tmp_path / role / "README.md").is_file()

    card = strict_json(tmp_path / "scorecard.json")
    assert card["schema"] == 3
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


@pytest.mark.parametrize("path", [*YAMLS, *APART, *ACCELERATE], ids=names)
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


@pytest.mark.parametrize("path", [*YAMLS, *APART], ids=names)
def test_comments_say_what_to_change_for_data_and_a_model_of_one_s_own(path):
    commented = {line.partition(":")[0].removeprefix("# ") for line in path.read_text().splitlines()[1:] if "#" in line}
    keys = {"dataset_name", "task", "forget_values", "forget_fraction", "model_type", "output_dir"}
    assert keys & set(yaml.safe_load(path.read_text())) <= commented


@pytest.mark.parametrize("path", ACCELERATE, ids=names)
def test_accelerate_configs_are_known_to_accelerate(path):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    assert yaml.safe_load(path.read_text())["distributed_type"] in [kind.value for kind in DistributedType]
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    assert config.num_processes == (1 if path.stem == "cpu" else 2)


@pytest.mark.parametrize("path", [*YAMLS, *APART], ids=names)
def test_flags_of_a_recipe_are_flags_of_its_scripts(path, tmp_path):
    """The whole recipe, not the small sizes above, and for all three scripts."""
    argv = ["--config", str(path), "--output_dir", str(tmp_path)]
    _, data, chosen, args = parsing.parse("ready", argv)
    assert args.output_dir == str(tmp_path)
    assert args.learning_rate == float(yaml.safe_load(path.read_text())["ready.learning_rate"])
    assert chosen.model_name_or_path or model.model_settings(chosen.model_type, chosen.config_overrides)
    _, same, _, _ = parsing.parse("unlearn", argv)
    assert parsing.parse("evaluate", argv)[1] == data == same
