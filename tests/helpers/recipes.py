"""The recipes in a small size: their flags, and files in the layouts of the real data sets."""

from __future__ import annotations

import io
import json
import re
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset
from PIL import Image

from hf_unlearn.cli import model, named, running

ROOT = Path(__file__).resolve().parents[2]
OWN_YAMLS = sorted(ROOT.glob("recipes/**/own_*.yaml"))  # for rows that are not there
HUB_YAMLS = [ROOT / f"recipes/text/{name}.yaml" for name in ("banking77_minilm", "tofu_smollm2_lora")]
APART = (*OWN_YAMLS, *HUB_YAMLS)  # run with a stand-in for their rows or their model
YAMLS = sorted(p for p in ROOT.glob("recipes/**/*.yaml") if p.parent.name != "accelerate" and p not in APART)
ACCELERATE = sorted(ROOT.glob("recipes/accelerate/*.yaml"))
SMALL = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2"
TINY = ["--logging_strategy", "no", "--save_strategy", "no", "--use_cpu", "true", "--disable_tqdm", "true"]
TINY += ["--max_steps", "2", "--per_device_train_batch_size", "8"]
PEOPLE = ["--config", str(ROOT / "recipes/text/people_llama.yaml"), "--limit", "100"]
PEOPLE += ["--config_overrides", SMALL, "--vocab_size", "300"]


def strict_json(path: Path) -> dict:
    def refuse(constant):
        raise AssertionError(f"{constant} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def refusal(main, argv, monkeypatch) -> str:
    """What the script says in the end; it must not have come to a model."""
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, argv)])
    monkeypatch.delenv("HF_UNLEARN_TRACEBACK", raising=False)
    monkeypatch.setattr(model, "build_model", _no_model)
    monkeypatch.setattr(named, "load_named", _no_model)
    monkeypatch.setattr("hf_unlearn.trainers.base.load_model", _no_model)
    with pytest.raises(SystemExit) as end:
        running.run(main)
    assert isinstance(end.value.code, str)  # Python prints it to stderr and exits with 1
    return end.value.code


def _no_model(*args, **kwargs):
    raise AssertionError("a model was made before the checks were through")


def problems_of(text: str) -> list[str]:
    return re.findall(r"^  - (.*)", text, re.M)


# ---- files like the real ones ---------------------------------------------------------------------------------------


def write_tofu(folder: Path) -> Path:
    """full.jsonl: 200 authors in blocks of 20 rows, no ids."""
    path = folder / "full.jsonl"
    rows = ({"question": f"What did author {i // 20} write, {i}?", "answer": f"Book {i}."} for i in range(4000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_banking77(folder: Path) -> Path:
    """train.csv and test.csv with text,category; the classes that the recipe names and others."""
    classes = ["card_arrival", "exchange_rate", "lost_or_stolen_card", "card_linking", "age_limit", "atm_support"]
    for name, n in (("train", 90), ("test", 18)):
        lines = [f'"Question {i}, about {classes[i % 6]} in {name}?",{classes[i % 6]}' for i in range(n)]
        (folder / f"{name}.csv").write_text("\n".join(["text,category", *lines]) + "\n")
    return folder


def write_cifar10(folder: Path) -> Path:
    """train-00.parquet and test-00.parquet: encoded 32×32 images, label, id."""
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


def write_fsdd(folder: Path) -> Path:
    """recordings.parquet: file bytes, label, speaker, take, id, as 8 kHz WAV."""
    path = folder / "recordings.parquet"
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


WRITERS = {"tofu": write_tofu, "banking77": write_banking77, "cifar10": write_cifar10, "fsdd": write_fsdd}


def small_flags(path: Path, folder: Path, files: dict[str, Path]) -> list[str]:
    """Flags that bring a recipe down to seconds; `files`: data set -> where its files are."""
    recipe = yaml.safe_load(path.read_text())
    name = recipe["dataset_name"]
    found = ["--config", str(path), "--output_dir", str(folder), "--config_overrides", SMALL]
    found += {
        "tofu": ["--data_files", str(files.get("tofu")), "--max_length", "48"],
        "banking77": ["--data_files", str(files.get("banking77"))],
        "cifar10": ["--data_files", str(files.get("cifar10"))],
        "fsdd": ["--data_files", str(files.get("fsdd")), "--max_seconds", "0.3"],
    }.get(name, ["--limit", "160"])
    if recipe["task"] == "image_classification":
        found[found.index(SMALL)] += ",patch_size=8" if name == "cifar10" else ",patch_size=4"
    elif recipe["task"] != "audio_classification":
        found += ["--vocab_size", "300"]
    return found
