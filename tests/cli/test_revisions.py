"""A commit of the hub that a training began with stays the base of its adapter, wherever the branch has gone since."""

from __future__ import annotations

import json
import os

import pytest
from helpers.loopback_hub import LoopbackHub, run_client

CLIENT = """
import json, os, sys
from pathlib import Path

sys.path.insert(0, os.environ["TESTS"])
import torch
from helpers import tiny
from huggingface_hub import HfApi
from tokenizers.pre_tokenizers import WhitespaceSplit

from hf_unlearn import ArgumentError
from hf_unlearn.cli import ready, unlearn
from hf_unlearn.trainers.loading import load_model

notes = {}
tokenizer = tiny.tokenizer()
tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
tokenizer.push_to_hub("user/base")
tiny.lm(0).push_to_hub("user/base")
first = HfApi().repo_info("user/base").sha
tiny.lm(1).push_to_hub("user/base")
notes["moved"] = HfApi().repo_info("user/base").sha != first
rows = [{"id": f"r{i}", "question": f"t{3 + i} t4", "answer": f"t{5 + i} t{6 + i} t{7 + i}"} for i in range(24)]
Path("rows.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
words = ["--dataset_name", "rows.jsonl", "--forget_by", "id", "--forget_values", "r0", "r1", "--output_dir", "out"]
words += ["--use_cpu", "true", "--disable_tqdm", "true", "--save_strategy", "no", "--unseen", "0.2"]
small = ["--max_steps", "2", "--per_device_train_batch_size", "4"]
mine = ["--model_name_or_path", "user/base", "--lora_r", "2"]
try:
    ready.main([*words, *small, *mine, "--revision", "nowhere", "--lora_target_modules", "q_proj"])
except ArgumentError as error:
    notes["nowhere"] = error.problems
ready.main([*words, *small, *mine, "--revision", first, "--dtype", "bfloat16", "--use_rslora", "true"])
notes["config"] = json.loads(Path("out/ready/adapter_config.json").read_text())["revision"] == first
unlearn.main([*words, *small])
for name in ("ready", "ready_unlearned"):
    base = load_model(f"out/{name}").get_base_model()
    held = {key.replace(".base_layer", ""): value for key, value in base.state_dict().items() if "lora_" not in key}
    began = tiny.lm(0).to(torch.bfloat16).state_dict()
    notes[name] = held.keys() == began.keys() and all(torch.equal(held[key], began[key]) for key in began)
ready.main([*words, *small, "--role", "original", "--model_name_or_path", "user/base", "--lora_r", "2"])
notes["resolved"] = json.loads(Path("out/original/adapter_config.json").read_text())["revision"]
notes["main"] = HfApi().repo_info("user/base").sha
Path(os.environ["NOTES"]).write_text(json.dumps(notes))
"""


@pytest.mark.slow
def test_the_base_of_an_adapter_is_that_of_the_commit_it_was_trained_on(tmp_path):
    with LoopbackHub() as hub:
        tests = os.path.dirname(os.path.dirname(__file__))
        run_client(CLIENT, hub, tmp_path, env={"NOTES": str(tmp_path / "notes.json"), "TESTS": tests}, timeout=300)
    notes = json.loads((tmp_path / "notes.json").read_text())
    first, *others = notes["nowhere"]  # the tokenizer of that commit cannot be had either
    assert first.startswith("`model_name_or_path` is 'user/base', and its config cannot be had")
    assert all("nowhere is not a valid git identifier" in problem for problem in (first, *others))
    assert notes["moved"] and notes["config"] and notes["ready"] and notes["ready_unlearned"]
    assert notes["resolved"] == notes["main"]  # also where nobody names a commit
