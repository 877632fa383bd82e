"""The quickstart, two steps of everything."""

from __future__ import annotations

import re

import pytest
import transformers
from helpers.cards import run
from helpers.recipes import SMALL, problems_of, refusal, strict_json
from helpers.tiny import vit

from hf_unlearn.cli import parsing
from hf_unlearn.cli.arguments import ROLES
from hf_unlearn.cli.model import build_model
from hf_unlearn.data.encode.text import build_tokenizer
from hf_unlearn.data.rows.people import people
from hf_unlearn.evaluation import ModelScores, Scorecard
from hf_unlearn.evaluation.gates import Level, Status
from hf_unlearn.evaluation.judge import judge, judge_run
from hf_unlearn.report.words import first_screen
from recipes import quickstart


def seq2seq():
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=50, **sizes))


def test_kept_is_the_same_in_terminal_table_and_report():
    """The lowest share over test and retain rows and model utility, of the retrained model's."""
    measures = {"forget_loss": 4.0, "unseen_loss": 4.0, "test_accuracy": 0.9, "retain_accuracy": 1.0}
    less = {**measures, "test_accuracy": 0.855}  # 95 % of it
    runs = [run(role, **(less if "unlearned" in role else measures)) for role in ROLES]
    for one in runs:
        one["cost"] = {"steps": 3, "row_passes": 9.0, "seconds": 1.0}
    scores = Scorecard([ModelScores(**one) for one in runs])
    assert quickstart.requests_table(scores).count("  95 %  ") == 2
    finding = judge(scores.to_dict())[0]
    assert finding.gates["kept"].numbers["value"] == finding.kept.share == pytest.approx(0.95)
    assert "kept: 95 % of the retrained model's accuracy on test rows" in scores.findings()[0]
    answer, share = first_screen.kept(finding)
    assert answer == "Partly." and share.startswith("95 % of the retrained model's accuracy on test rows")


def test_kept_yes_is_a_passed_gate_and_model_utility_counts_too():
    for share, utility, level, status in (
        (0.979, 1.0, Level.PARTLY, Status.FAILED),
        (0.981, 1.0, Level.YES, Status.PASSED),
        (1.0, 0.97, Level.PARTLY, Status.FAILED),
    ):
        none = {"low": None, "high": None}
        kept = {"test_token_accuracy": 0.9 * share, "model_utility": {"value": 0.6 * utility, **none}}
        theirs = {"test_token_accuracy": 0.9, "model_utility": {"value": 0.6, **none}}
        found = judge_run(run("unlearned", **kept), retrained=run("retrained", **theirs))
        assert (found.kept.level, found.status("kept")) == (level, status)


def saved(kind: str, folder) -> str:
    """The folder of a small model that knows the words of the embedded people: a language model, or a bare encoder."""
    rows = people()
    made = build_tokenizer([*rows["question"], *rows["answer"]], 400, append_eos=True)
    made.save_pretrained(folder)
    sizes = {name: int(size) for name, size in (word.split("=") for word in SMALL.split(","))}
    encoder = transformers.BertModel(transformers.BertConfig(vocab_size=len(made), **sizes))
    model = encoder if kind == "encoder" else build_model("causal_lm", "llama", SMALL, made)
    model.save_pretrained(folder)
    return str(folder)


def test_a_model_by_name_is_given_the_task_that_its_config_fits(tmp_path):
    """A language model gets an adapter, an encoder a new head; what a request reads does not name them again."""
    (name, writer), *others = quickstart.tasks_on(
        saved("language", tmp_path / "lm"), tmp_path / "out", smoke=False
    ).items()
    assert name == "people, lm" and not others and writer.general and "probes" in writer.attacks
    words = quickstart.words_of(writer, tmp_path / "out", smoke=False)[1]
    _, data, trained, args = parsing.parse("ready", words)
    assert (data.task, data.limit, trained.lora_r) == ("causal_lm", 120, 16)
    assert trained.model_name_or_path == str(tmp_path / "lm") and trained.model_type is None
    _, _, asked, _ = parsing.parse("unlearn", words)
    assert asked.model_name_or_path is None and not asked.lora_r  # from the trained one, with its adapter

    reader = quickstart.tasks_on(saved("encoder", tmp_path / "encoder"), tmp_path / "out", smoke=False)[
        "people, encoder"
    ]
    _, data, trained, _ = parsing.parse("ready", quickstart.words_of(reader, tmp_path / "out", smoke=False)[1])
    assert (data.task, data.label_column, data.forget_by) == ("sequence_classification", "person", "class")
    assert not trained.lora_r and not reader.general


@pytest.mark.parametrize("make, words", [
    (None, "there is no such folder"),
    (vit, "a ViTForImageClassification, and the embedded rows are short texts: name a causal language model"),
    (seq2seq, "a T5ForConditionalGeneration, and the embedded rows are short texts: name a causal language model"),
], ids=["nowhere", "images", "sequence to sequence"])  # fmt: skip
def test_a_wrong_model_is_refused_in_one_line_before_anything_is_trained(make, words, tmp_path, monkeypatch):
    if make is not None:
        make().save_pretrained(tmp_path / "model")
    (said,) = problems_of(refusal(quickstart.main, ["--model", tmp_path / "model"], monkeypatch))
    assert said.startswith(f"`model` is '{tmp_path / 'model'}', ") and words in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language", "encoder"])
def test_quickstart_on_a_model_in_a_smoke_size(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.logging, "set_verbosity_error", lambda: None)
    where = saved(kind, tmp_path / "mine")
    assert quickstart.main(["--model", where, "--output-dir", str(tmp_path / "out"), "--smoke"]) == 0
    out = capsys.readouterr().out
    assert "people, mine, asked for and replayed: bit for bit the model that never saw them: yes" in out
    assert quickstart.ON_A_MODEL not in out
    card = strict_json(tmp_path / "out/scorecard.json")
    assert {(run["task"], run["model"]) for run in card["runs"]} == {("people, mine", role) for role in ROLES}
    measured = {name for run in card["runs"] for name in run["measures"]}
    assert ("forget_perplexity" in measured) == (kind == "language")


@pytest.mark.slow
def test_quickstart_in_a_smoke_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.logging, "set_verbosity_error", lambda: None)
    quickstart.main(["--output-dir", str(tmp_path), "--smoke"])
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-1].endswith(f"python recipes/quickstart.py {quickstart.ON_A_MODEL}")
    assert out.count("This was a trial run") == len(quickstart.TASKS) and "What the requests cost" not in out
    card = strict_json(tmp_path / "scorecard.json")
    roles = set(ROLES)
    found = {(run["task"], run["model"]) for run in card["runs"]}
    assert found == {(task, role) for task in quickstart.TASKS for role in roles}
    assert len(card["runs"]) == 18
    steps = {(run["model"], run["cost"]["steps"]) for run in card["runs"] if "unlearned" in run["model"]}
    assert steps == {("unlearned", 2), ("ready_unlearned", 1)}  # of a training of two steps the second is replayed
    page = (tmp_path / "report.html").read_text()
    assert all(task in page for task in quickstart.TASKS)
    assert page.count("This was a trial run") == 1 and 'class="badge' not in page and "Told apart" not in page
    assert not re.search(r"(src|href)=\"https?:", page)
