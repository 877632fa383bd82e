"""Tiny stand-ins of MUSE, WMDP and MMLU as they are published, and a language model of bytes that reads them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

BIO = [
    {
        "question": " Which part of a plant takes up water? ",
        "choices": ["The root", "The petal", "The seed coat", "The pollen"],
        "answer": 0,
    },
    {
        "question": "Which gas do leaves take in by day?",
        "choices": ["Helium", "Carbon dioxide", "Neon", "Argon"],
        "answer": 1,
    },
    {"question": "How many legs has a beetle?", "choices": ["Two", "Four", "Six", "Eight"], "answer": 2},
    {
        "question": "What does a bee carry from flower to flower?",
        "choices": ["Bark", "Sap", "Resin", "Pollen"],
        "answer": 3,
    },
    {
        "question": "What is a young frog called, which swims and has a tail, before it has grown legs and comes on "
        "land?",
        "choices": ["A tadpole", "A kid", "A cub", "A nymph"],
        "answer": 0,
    },
]
RIVERS = [
    ("Which is the longest?", ["The Nile", "The Thames", "The Seine", "The Tiber"], 0),
    ("Which flows through Vienna?", ["The Po", "The Danube", "The Loire", "The Ebro"], 1),
    ("Which flows through Cairo?", ["The Rhine", "The Elbe", "The Nile", "The Don"], 2),
]
EXAMPLES = [
    ("Which flows through London?", ["The Thames", "The Oder", "The Tagus", "The Volga"], 0),
    ("Which flows through Paris?", ["The Rhone", "The Seine", "The Main", "The Spree"], 1),
]


def rivers(rows) -> list[dict]:
    names = ("question", "choices", "answer")
    return [{**dict(zip(names, row, strict=True)), "subject": "world_rivers"} for row in rows]


@functools.lru_cache
def tokenizer():
    """A token for each byte: `<s>` before a text, nothing behind it."""
    from hf_unlearn.data.encode.text import build_tokenizer

    return build_tokenizer(["a"], 259)


def model(positions: int = 1024):
    """A Llama whose weights are sines, so that they are the same whatever draws random numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            max_position_embeddings=positions,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            attn_implementation="eager",
            **sizes,
        )
    )
    with torch.no_grad():
        for k, weights in enumerate(made.parameters()):
            values = np.sin(np.arange(weights.numel(), dtype=np.float64) * (1.7 + 0.13 * k) + k)
            values = 1 + 0.1 * values if weights.dim() == 1 else values * (0.4 if k else 1.0)
            weights.copy_(torch.tensor(values, dtype=torch.float32).reshape(weights.shape))
    return made.eval()


def write(path: Path, rows: list) -> Path:
    """Rows a line in a .jsonl, as one list in a .json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


TEXTS = [f"In the year {1900 + i} the mill by the river ground {i} sacks of rye." for i in range(6)]
OTHERS = [f"Nobody has ever seen the {name} lamp that hung there." for name in ("red", "blue", "tall", "old", "new")]


def muse(folder: Path, raw: bool = False) -> Path:
    """A folder with the parts of MUSE, in the shapes that its repository and its page on the hub have."""
    from datasets import Dataset

    write(folder / "verbmem/forget.json", [{"prompt": text[:20], "gt": text[20:]} for text in TEXTS])
    for part in ("forget", "retain"):
        asked = [{"question": f"Who ground {i} sacks?", "answer": f"the mill of {part} {i}"} for i in range(4)]
        write(folder / f"knowmem/{part}_qa.json", asked)
        write(folder / f"knowmem/{part}_qa_icl.json", [{"question": "Who?", "answer": "the mill"}])
    write(folder / "privleak/forget.json", TEXTS)
    Dataset.from_dict({"text": OTHERS}).to_parquet(str(folder / "privleak/holdout-00000-of-00001.parquet"))
    if raw:
        (folder / "raw").mkdir()
        (folder / "raw/forget.txt").write_text("\n".join(TEXTS), encoding="utf-8")
        write(folder / "raw/retain2.jsonl", [{"text": text} for text in OTHERS])
    return folder
