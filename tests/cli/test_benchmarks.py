"""`hf-unlearn evaluate --benchmarks`: flags, checks before a model is loaded, a run of benchmarks alone."""

from __future__ import annotations

import json

import pytest
from helpers import benchmarks as standin

from hf_unlearn.cli import benchmarks, evaluate, parsing
from hf_unlearn.utils.checks import ArgumentError


def parsed(*words):
    return parsing.parse("evaluate", list(words), evaluate.flag_problems)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder, its tokenizer in it, and files of two benchmarks beside it."""
    folder = tmp_path_factory.mktemp("own")
    standin.model().save_pretrained(folder / "mine")
    standin.tokenizer().save_pretrained(folder / "mine")
    standin.muse(folder / "muse")
    standin.write(folder / "wmdp-bio.jsonl", standin.BIO)
    standin.write(folder / "broken.jsonl", [{**standin.BIO[0], "answer": 9}])
    return folder


def test_flags_are_options_and_written_line_breaks_are_breaks(folder):
    words = ("--muse_stop", r"\n", "Q:", "--muse_min_k", "20", "--muse_rouge", "recall", "--wmdp_shots", "0")
    where = (f"muse={folder / 'muse'}", f"wmdp={folder / 'wmdp-bio.jsonl'}")
    own, data, _ = parsed("--models", f"unlearned={folder / 'mine'}", "--benchmarks", *where, *words)
    found = benchmarks.options(own)
    assert found["muse"]["stop"] == ["\n", "Q:"] and found["muse"]["min_k"] == 20 and found["muse"]["rouge"] == "recall"
    assert found["wmdp"] == {"shots": 0, "description": None} and set(found) == {"muse", "wmdp"}
    assert benchmarks.alone(own, data) and benchmarks.results_folder(own, data).endswith("benchmarks")


def test_two_places_of_one_benchmark_are_a_list():
    found, problems = benchmarks.places(["wmdp=a.json", "wmdp=b.json", "mmlu=cais/mmlu:all"])
    assert found == {"wmdp": ["a.json", "b.json"], "mmlu": "cais/mmlu:all"} and not problems


def test_wrong_flags_are_told_together_before_a_model_is_loaded(folder):
    with pytest.raises(ArgumentError) as told:
        parsed(
            *("--models", f"unlearned={folder / 'mine'}"),
            *("--benchmarks", "tofu=x", "muse=./nowhere", f"wmdp={folder / 'broken.jsonl'}"),
            *("--muse_min_k", "30", "--mmlu_shots", "5", "--attacks", "generate"),
        )
    said = "\n".join(told.value.problems)
    assert "`--benchmarks` takes NAME=WHERE, NAME one of muse, wmdp, mmlu; got 'tofu=x'" in said
    assert "nowhere" in said and "have an 'answer' that is no number from 0 to 3" in said
    assert "`mmlu_shots` is an option of the benchmark mmlu, which is not among --benchmarks" in said
    assert "`attacks` needs rows of a request: name them by --dataset_name" in said


def test_wrong_options_are_told_by_their_flags(folder):
    with pytest.raises(ArgumentError, match="`--muse_min_k` is 120.0"):
        parsed(
            *("--models", f"unlearned={folder / 'mine'}", "--benchmarks", f"muse={folder / 'muse'}"),
            *("--muse_min_k", "120"),
        )


def test_a_benchmark_that_is_wrong_is_told_without_problems_of_rows_that_nobody_named(folder):
    words = ["--models", f"unlearned={folder / 'mine'}", "--benchmarks", f"wmdp={folder / 'none.json'}"]
    with pytest.raises(ArgumentError) as told:
        evaluate.main(words)
    (problem,) = told.value.problems
    assert "none.json" in problem
    assert not evaluate.benchmarks_alone([*words, "--dataset_name", "people"])


def test_benchmarks_alone_need_no_rows_and_leave_other_results(folder, tmp_path, capsys):
    words = ("--models", f"unlearned={folder / 'mine'}", "--output_dir", str(tmp_path))
    asked = (f"muse={folder / 'muse'}", f"wmdp={folder / 'wmdp-bio.jsonl'}")
    few = ("--muse_verbatim_tokens", "4", "--muse_knowledge_tokens", "3", "--no_generations")
    assert evaluate.main([*words, "--benchmarks", *asked, *few]) == 0
    card = json.loads((tmp_path / "benchmarks/scorecard.json").read_text())
    found = card["runs"][0]["measures"]
    assert found["wmdp_bio_accuracy"]["value"] == 0.4 and "muse_verbmem_forget_rougeL_f1" in found
    assert (tmp_path / "benchmarks/report.html").is_file() and not (tmp_path / "scorecard.json").exists()
    assert not (tmp_path / "benchmarks/generations.parquet").exists()
    out = capsys.readouterr()
    assert "WMDP, bio rows: answered right" in out.out and "40 %" in out.out
    assert "measures" in out.err and "by muse=" in out.err
    assert not (folder / "mine/README.md").exists()  # says nothing of a request
