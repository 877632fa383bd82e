"""
The recipes for one's own data and those on models of the hub: each trains, unlearns and measures few rows of its kind,
with a tiny model.
"""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.recipes import APART, OWN_YAMLS, ROOT, SMALL, TINY, strict_json, write_banking77, write_tofu
from PIL import Image

from hf_unlearn import Scorecard
from hf_unlearn.cli.main import main

ROWS = 10


def texts(folder: Path) -> list[str]:
    """mine/texts.csv."""
    said = [f"where is my parcel {i}, please" for i in range(ROWS)]
    lines = [f'"{text}",{("order", "other")[i % 2]}' for i, text in enumerate(said)]
    (folder / "mine").mkdir()
    (folder / "mine/texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    encoder(folder, said)
    return []


def encoder(folder: Path, said: list[str]) -> None:
    """A small encoder without a head, for the place of the hub's."""
    from transformers import BertConfig, BertModel

    from hf_unlearn.data.encode.text import build_tokenizer

    build_tokenizer(said, 300, append_eos=True).save_pretrained(folder / "encoder")
    sizes = {name: int(size) for name, size in (word.split("=") for word in SMALL.split(","))}
    BertModel(BertConfig(vocab_size=300, **sizes)).save_pretrained(folder / "encoder")


def banking77(folder: Path) -> list[str]:
    """Files like the real ones."""
    (folder / "rows").mkdir()
    encoder(folder, [f"Question {i}, about card_linking in train?" for i in range(ROWS)])
    return ["--data_files", str(write_banking77(folder / "rows"))]


def tofu(folder: Path) -> list[str]:
    """A file like the real one, of which the recipe reads twelve authors."""
    language(folder, [{"question": "What did author 3 write, 61?", "answer": f"Book {i}."} for i in range(ROWS)])
    return ["--data_files", str(write_tofu(folder))]


def language(folder: Path, rows: list[dict]) -> None:
    """A small language model with a chat template, for the place of the hub's."""
    from hf_unlearn.cli.model import build_model
    from hf_unlearn.data.encode.text import build_tokenizer

    tokenizer = build_tokenizer(map(str, rows), 300)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer.save_pretrained(folder / "encoder")
    build_model("causal_lm", "llama", SMALL, tokenizer).save_pretrained(folder / "encoder")


def chats(folder: Path) -> list[str]:
    """mine/chats.jsonl."""
    said = [("user", "Where is my parcel {}?"), ("assistant", "At the depot of street {}.")]
    rows = [
        {"person": f"p{i}", "messages": [{"role": who, "content": text.format(i)} for who, text in said]}
        for i in range(ROWS)
    ]
    return jsonl(folder, "chats", rows)


def documents(folder: Path) -> list[str]:
    """mine/documents.jsonl, some of them of several windows."""
    rows = [{"id": f"d{i}", "text": f"Report {i} of the depot. " * (1 + i % 3)} for i in range(ROWS)]
    return [*jsonl(folder, "documents", rows), "--max_length", "24", "--stride", "16"]


def jsonl(folder: Path, name: str, rows: list[dict]) -> list[str]:
    (folder / "mine").mkdir()
    (folder / f"mine/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    language(folder, rows)
    return []


def images(folder: Path) -> list[str]:
    """mine/images/CLASS/i.png."""
    for i in range(ROWS):
        path = folder / "mine/images" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return ["--config_overrides", f"image_size=8,patch_size=4,{SMALL}"]


def sounds(folder: Path) -> list[str]:
    """mine/sounds/CLASS/i.wav."""
    for i in range(ROWS):
        path = folder / "mine/sounds" / ("yes", "no")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", None))
            file.writeframes(np.random.default_rng(i).integers(-9999, 9999, 1600, dtype=np.int16).tobytes())
    return ["--config_overrides", f"time_stride=16,frequency_stride=16,{SMALL}", "--max_seconds", "0.3"]


ROWS_OF = {
    "banking77_minilm": banking77,
    "tofu_smollm2_lora": tofu,
    "own_chat": chats,
    "own_documents": documents,
    "own_classifier": texts,
    "vision/own_folder": images,
    "audio/own_folder": sounds,
}


def own(path: Path) -> str:
    """Which of [`ROWS_OF`] a recipe is: own_folder.yaml is there for images and for sounds."""
    return path.stem if path.stem in ROWS_OF else f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", APART, ids=own)
def test_few_rows_with_a_small_model_are_trained_on_unlearned_and_measured(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))
    flags = ROWS_OF[own(path)](tmp_path)
    (tmp_path / "mine.yaml").write_text(
        re.sub("(?<=^model_name_or_path: )[^ ]+", "encoder", path.read_text(), flags=re.M)
    )
    words = ["--config", "mine.yaml", "--output_dir", "out", *flags]
    assert main(["ready", *words, *TINY]) == 0
    assert "May be asked for: " in capsys.readouterr().err
    assert main(["unlearn", *words, *TINY]) == 0
    assert main(["evaluate", *words, "--attacks", "none"]) == 0
    record = strict_json(tmp_path / "out/ready_unlearned/unlearning.json")
    assert record["guarantee"] == "exact" and 0 < record["rows"]["forget"] < sum(record["rows"].values())
    card = strict_json(tmp_path / "out/scorecard.json")
    assert [run["model"] for run in card["runs"]] == ["ready", "ready_unlearned"]


def test_there_are_rows_for_each_and_each_for_some():
    assert sorted(map(own, APART)) == sorted(ROWS_OF)


def test_the_guide_s_three_commands_of_a_path_name_a_recipe_each():
    section = (ROOT / "recipes/README.md").read_text().partition("## Your own data\n")[2].partition("\n## ")[0]
    found = re.findall(r"^    hf-unlearn (\w+) +--config (\S+)$", section, re.M)
    assert [verb for verb, _ in found] == ["ready", "unlearn", "evaluate"] * 3
    paths = [ROOT / path for _, path in found]
    assert paths[::3] == paths[1::3] == paths[2::3] and set(paths) < set(OWN_YAMLS)
    for path in OWN_YAMLS:
        assert str(path.relative_to(ROOT)) in section
        where = yaml.safe_load(path.read_text())["dataset_name"]
        assert where in section or path not in paths
