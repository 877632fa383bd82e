"""A file of rows with several labels each, by all verbs."""

from __future__ import annotations

import csv
import json

import pytest

from hf_unlearn.cli import evaluate, prepare, ready, unlearn
from hf_unlearn.cli.arguments import DataArguments, ModelArguments

LABELS = {"joy": "happy", "anger": "furious", "fear": "scared"}
SMALL = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2"


@pytest.fixture
def by_columns(tmp_path):
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *LABELS])
        for i in range(40):
            own = {name: (i >> k) & 1 for k, name in enumerate(LABELS)}
            writer.writerow([f"r{i}", " ".join([f"w{i}"] + [LABELS[name] for name in own if own[name]]), *own.values()])
    return tmp_path / "rows.csv"


def words(file, tmp_path) -> list[str]:
    said = f"--task sequence_classification --dataset_name {file} --label_columns joy anger fear --forget_by class "
    said += f"--forget_values anger --test_fraction 0.2 --output_dir {tmp_path / 'out'} --use_cpu true"
    return [*said.split(), "--report_to", "none", "--disable_tqdm", "true"]


def test_the_flags_make_labels_of_columns(by_columns, tmp_path):
    data = DataArguments(task="sequence_classification", dataset_name=str(by_columns), label_columns=list(LABELS),
                         forget_by="class", forget_values=["anger"])  # fmt: skip
    prepared = prepare.prepare(data, ModelArguments(model_type="bert"))
    assert prepared.several_labels and prepared.labels == list(LABELS) == ["joy", "anger", "fear"]
    assert prepare.CLASSES not in prepared.made_from_rows  # the flags declare them
    forget = prepared.splits["forget"]
    assert all(own[1] == 1.0 and len(own) == 3 for own in forget["labels"])
    assert prepared.request["values"] == ["anger"] and prepared.request["column"] == "label"


@pytest.mark.slow
@pytest.mark.parametrize("readiness", ["replay", "none"])
def test_a_file_of_several_labels_goes_through_the_verbs(by_columns, tmp_path, capsys, readiness):
    new = ["--model_type", "bert", "--config_overrides", SMALL, "--learning_rate", "0.01"]
    argv = words(by_columns, tmp_path)
    new += ["--num_train_epochs", "8", "--readiness", readiness]
    ready.main([*argv, *new])
    assert "every label right on the 8 test rows" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "ready" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification" and config["id2label"]["2"] == "fear"
    ready.main([*argv, *new, "--role", "retrained"])
    assert unlearn.main([*argv, "--learning_rate", "0.001"]) in (0, unlearn.NOT_UNLEARNED)
    assert evaluate.main([*argv[: argv.index("--use_cpu")], "--attacks", "relearn"]) == 0
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    found = {run["model"]: run for run in card["runs"]}["ready_unlearned"]
    assert {"test_f1", "retain_label_accuracy", "forget_accuracy", "test_kept"} <= set(found["measures"])
    assert [one["name"] for one in found["details"]["classes"]["retain"]] == ["joy", "fear"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "F1 of the labels" in page and "Class by class" in page
