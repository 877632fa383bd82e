"""`hf-unlearn verify`: whoever has the recipe and the remaining rows trains again and compares, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.recipes import SMALL, TINY, problems_of, refusal

from hf_unlearn.cli import checkpoints, evaluate, main, parsing, verify
from hf_unlearn.data.rows.people import people
from hf_unlearn.trainers import replay_plan
from hf_unlearn.utils.files import read_json

PASS = "PASS from the start:"
STEPS = ["--max_steps", "12"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A recipe whose request was replayed, and a file of the rows that remain."""
    folder = tmp_path_factory.mktemp("outputs")
    rows = people().select(range(96))
    names = list(dict.fromkeys(rows["person"]))
    gone = names[:2]
    for name, some in (("all", rows), ("remaining", rows.filter(lambda row: row["person"] not in gone))):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    recipe = {"dataset_name": folder / "all.jsonl", "forget_column": "person", "forget_values": json.dumps(gone)}
    recipe |= {"unseen": 0.15, "model_type": "llama", "config_overrides": SMALL, "vocab_size": 300, "max_length": 64}
    recipe |= {"output_dir": folder, "ready.readiness": "replay", "ready.slice_by": "person"}
    (folder / "my.yaml").write_text("\n".join(f"{key}: {value}" for key, value in recipe.items()))
    config = ["--config", str(folder / "my.yaml")]
    assert main.main(["ready", *config, *TINY, *STEPS]) == 0
    assert main.main(["unlearn", *config, *TINY[:-4], "--use_cpu", "true", "--disable_tqdm", "true"]) == 0
    return folder


def verified(outputs, capsys, *words):
    argv = ["--config", str(outputs / "my.yaml"), "--dataset_name", str(outputs / "remaining.jsonl"), *words]
    status = 0
    try:
        status = main.main(["verify", *argv, "--use_cpu", "true", "--disable_tqdm", "true"])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out.strip()


def test_a_result_passes_from_the_start_and_from_a_snapshot_with_the_remaining_rows_alone(outputs, capsys):
    record = outputs / "ready_unlearned" / "unlearning.json"
    status, said = verified(outputs, capsys, "--no_record")
    assert status == 0 and said == f"{PASS} the weights are those of the training without the rows, bit for bit."
    assert "verified" not in read_json(record)
    status, said = verified(outputs, capsys, "--from", "snapshot")
    assert status == 0 and said.startswith("PASS from snapshot (trusted):")
    assert read_json(record)["verified"]["how"] == "from snapshot" and read_json(record)["guarantee"] == "exact"


def test_the_training_before_the_request_passes_too_with_all_its_rows(outputs, capsys):
    words = ["--readiness", str(outputs / "ready"), "--dataset_name", str(outputs / "all.jsonl")]
    status, said = verified(outputs, capsys, *words)
    assert status == 0 and said.endswith("those of the training, bit for bit. No row was deleted from it.")
    said, _ = verified(outputs, capsys, "--readiness", str(outputs / "ready"))  # of which the deleted ones are rows
    assert "of the training are neither here nor asked for" in said


def test_whoever_a_recipe_names_the_rows_to_keep_are_those_that_the_model_was_trained_on(outputs):
    rows, folder = people().select(range(96)), str(outputs / "ready_unlearned")
    plan = replay_plan.read(folder)
    numbers = plan.numbers_of_rows(rows, plan.key)
    drawn = {"retain": rows.select(range(0, 96, 2)), "unseen": rows.select(range(1, 96, 2)), "forget": None}
    found = checkpoints.by_plan(drawn, folder, None)
    trained = {rows["id"][i] for i in np.flatnonzero(numbers >= 0)}
    gone = {rows["id"][i] for i in np.flatnonzero(np.isin(numbers, plan.holes))}
    assert set(found["retain"]["id"]) == trained - gone and set(found["unseen"]["id"]) == {*rows["id"]} - trained
    assert gone and checkpoints.by_plan(found, folder, None) is found and found["forget"] is None
    assert checkpoints.by_plan(drawn, str(outputs), None) is drawn  # no plan there
    words = ["--forget_values", rows["person"][0], "--models", f"ready={outputs / 'ready'}"]
    words += ["--config", str(outputs / "my.yaml")]
    own, *arguments = parsing.parse("evaluate", words)
    assert set(evaluate.prepared_rows(own, *arguments).splits["unseen"]["id"]) == {*rows["id"]} - trained


def test_another_beginning_does_not_pass_and_the_exit_status_says_so(outputs, capsys):
    status, said = verified(outputs, capsys, "--seed", "7")
    assert status == verify.NOT_PASSED == 4
    assert said.startswith("FAIL from the start: The weights before the first step are others")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --config"),
        (["--from", "end", "--limit", "9"], "`from` is 'end'; it must be one of 'start', 'snapshot'."),
        (["--salt_file", "none", "--limit", "9"], "`salt_file` is 'none', and there is no such file"),
        (["--readiness", "./none", "--limit", "9"], "`readiness` is './none', but there is no such folder"),
        (["--ids", "1", "--limit", "9"], "`--ids` belongs to `hf-unlearn plan`"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said_before_a_row_is_read(words, said, monkeypatch):
    assert any(said in problem for problem in problems_of(refusal(verify.main, words, monkeypatch)))


def test_an_output_folder_without_a_model_is_told(outputs, tmp_path, monkeypatch):
    words = ["--config", str(outputs / "my.yaml"), "--output_dir", str(tmp_path)]
    assert "There is no model in" in refusal(verify.main, words, monkeypatch)


def test_a_model_without_a_plan_is_told(outputs, tmp_path, monkeypatch):
    for path in (outputs / "ready").iterdir():
        if path.is_file() and path.name not in ("readiness.json", "replay.digests", "_complete.json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    words = ["--config", str(outputs / "my.yaml"), "--readiness", str(tmp_path)]
    assert 'was not trained with `readiness="replay"`' in refusal(verify.main, words, monkeypatch)
