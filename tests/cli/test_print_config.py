"""`--print_config` prints what is read, as YAML that gives the same, with where each value is from."""

from __future__ import annotations

import pytest
import yaml

from hf_unlearn import ArgumentError
from hf_unlearn.cli import attack_checks, beside_recipe, main, memory, parsing, prepare, print_config, request

FILE = """\
dataset_name: rows.csv
task: sequence_classification
forget_by: class
forget_values: ["no", 1.50, "a: b", it's]
test_split: null
model_name_or_path: org/model
use_cpu: true
num_train_epochs: 2
title: mine
ready.learning_rate: 1e-3
unlearn.passes: 7
unlearn.alpha: null
evaluate.relearn_steps: 5
plan.json: true
output_dir: out
"""


@pytest.fixture
def words(tmp_path):
    (tmp_path / "my.yaml").write_text(FILE)
    return ["--config", str(tmp_path / "my.yaml")]


def again(text: str, folder) -> list[str]:
    (folder / "printed.yaml").write_text(text)
    return ["--config", str(folder / "printed.yaml")]


def without_origins(text: str) -> list[str]:
    return sorted(line.rpartition("  # ")[0] for line in text.splitlines()[1:] if not line.startswith("# "))


def read(verb: str, argv: list[str]) -> list:
    """What a verb makes of its flags: the values, and what was given for it alone."""
    found = parsing.parse(verb, argv)
    values = [{k: v for k, v in vars(one).items() if k != "given"} for one in found[:3]]
    alone = [
        {name for name in one.given if one.said_alone(name) and getattr(one, name) is not None} for one in found[:3]
    ]
    return [values, alone, *((one.to_dict(), one.given) for one in found[3:])]


@pytest.mark.parametrize(
    ("verb", "typed"),
    [
        ("ready", ["--seed", "7", "--lr_scheduler_kwargs", '{"num_cycles": 2}', "--forget-values", "x #1", "'", "[a]"]),
        (
            "ready",
            ["--text_column", "yes", "--label_column", "null and void", "--run_name", " a", "--warmup_steps=1e1"],
        ),
        ("unlearn", ["--no_stop", "--model_name_or_path", "other", "--forget_fraction", "0.2"]),
        ("unlearn", ["--forget_ids", "1", "2", "--unlearn.passes", "3"]),
        ("evaluate", ["--attacks", "none", "--forget_where", "a=1", "--forget_where", "b=é", "--no_generations"]),
        ("evaluate", ["--title", "", "--unseen_ids", "1", "--max_rows", "1e3"]),
    ],
)
def test_what_is_printed_gives_the_same(verb, typed, words, tmp_path):
    text = print_config.text(verb, [*words, *typed])
    printed = again(text, tmp_path)
    assert without_origins(print_config.text(verb, printed)) == without_origins(text)
    values, alone, *config = read(verb, printed)
    first_values, first_alone, *first_config = read(verb, [*words, *typed])
    before, after = parsing.parse(verb, [*words, *typed]), parsing.parse(verb, printed)
    assert request.named(before[1]) == request.named(after[1])
    idle = {name for one in before for name in print_config.superseded(one)}
    for was, now in zip(first_values, values, strict=True):
        assert {k: v for k, v in was.items() if k not in idle} == {k: v for k, v in now.items() if k not in idle}
    for was, now in zip(first_alone, alone, strict=True):
        assert was - idle == now - {"generations"}  # `--no_generations` is no name of a field
    assert config == first_config
    if verb == "evaluate":
        assert attack_checks.unread_options(before[0]) == attack_checks.unread_options(after[0])


def test_each_value_says_where_it_is_from(words):
    lines = print_config.text("unlearn", [*words, "--limit", "9"]).splitlines()
    assert "unlearn.limit: 9  # command line" in lines
    assert f"unlearn.passes: 7  # {words[1]}" in lines and f"use_cpu: true  # {words[1]}" in lines
    assert "# learning_rate: 0.0001  # default" in lines and "# split_seed: 0  # default" in lines
    text = "\n".join(lines)
    assert not any(word in text for word in ("title", "ready.", "num_train_epochs: 2", "question_column", "lora_alpha"))
    assert "null" not in text and not any(line.startswith(("alpha: ", "# alpha: ")) for line in text.splitlines())


@pytest.mark.parametrize("verb", ["plan", "verify"])
def test_beside_a_recipe_the_verb_s_own_and_the_recipe_s_are_printed(verb, words, tmp_path):
    typed = ["--snapshots", "there", "--limit", "9"]
    text = print_config.text(verb, [*words, *typed])
    kind = {"plan": "unlearn", "verify": "ready"}[verb]
    assert f"{verb}.snapshots: there  # command line" in text and f"{kind}.limit: 9  # command line" in text
    own, rest = beside_recipe.divided(verb, [*words, *typed])
    same, others = beside_recipe.divided(verb, again(text, tmp_path))
    assert own == same and read(kind, rest) == read(kind, others)
    assert print_config.text("plan", ["--readiness", "a", "--ids", "1"]).splitlines()[1:3] == [
        "plan.readiness: a  # command line",
        "plan.ids: 1  # command line",
    ]


def test_the_estimate_s_flags_are_keys_of_its_own(words, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "report", lambda *report: asked.append(report) or 0)
    monkeypatch.setattr("hf_unlearn.memory.__main__.report", lambda *report: asked.append(report) or 0)
    for typed in (
        [*words, "--memory", "24GB", "--no-padded", "--json", "--verb", "train", "unlearn", "--lora_r", "4"],
        ["--model", "org/m", "--batch_size=3", "--verb", "ready"],
    ):
        asked.clear()
        text = print_config.text("memory", typed)
        assert main.main(["memory", *typed]) == main.main(["memory", *again(text, tmp_path)]) == 0
        assert asked[0] == asked[1]
    assert "memory.batch_size: 3  # command line" in text and "# memory.length: 512  # default" in text
    (tmp_path / "my.yaml").write_text("memory.enginn: ddp\n")
    with pytest.raises(ArgumentError, match="did you mean `memory.engine`"):
        memory.divided(words)


def test_of_the_measures_from_logs():
    assert print_config.text("tofu", ["--logs", "a.json"]).splitlines()[1:] == ["logs: a.json  # command line"]


def test_shadow_models_are_trained_by_the_same_file(words, tmp_path):
    text = print_config.text("evaluate", [*words, "--shadows", "4", "--limit", "9", "--seed", "3"])
    assert "ready.learning_rate: 1e-3" in text and "unlearn.passes: 7" in text and "ready.limit: 9" in text
    assert "evaluate.seed: 3" in text and "ready.seed" not in text
    assert parsing.parse("ready", again(text, tmp_path))[-1].learning_rate == 1e-3


def test_neither_rows_nor_models_are_looked_for_and_a_token_is_not_told(words, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "rows_by_split", None)
    for verb in [verb for verb in main.VERBS if verb not in main.LISTS]:
        more = {"memory": [], "tofu": []}.get(verb, ["--limit", "9"])
        assert main.main([verb, *(words if verb != "tofu" else ["--logs", "x"]), *more, "--print_config"]) == 0
        out, err = capsys.readouterr()
        assert not err and yaml.safe_load(out)
    assert main.main(["ready", *words, "--hub_token", "hf_a", "--print-config"]) == 0
    out = capsys.readouterr().out
    assert "hf_a" not in out and "# ready.hub_token: <HUB_TOKEN>  # command line" in out


def test_what_is_wrong_is_told_as_ever(words):
    with pytest.raises(SystemExit, match="did you mean --learning_rate"):
        main.main(["ready", *words, "--lerning_rate", "1", "--print_config"])
    with pytest.raises(SystemExit, match="`--print_config` stands alone"):
        main.main(["ready", "--print_config", words[1]])
