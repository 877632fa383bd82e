"""`recipes/tools/alternates.py`: another answer beside each row, by the model itself, and `alt_po` with them."""

from __future__ import annotations

import json
import runpy
import sys

import pytest

from hf_unlearn import encode, load_rows
from hf_unlearn.data.encode.text import build_tokenizer
from hf_unlearn.objectives.registry import get_objective
from recipes.tools import alternates


def small(vocabulary: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=128, **sizes))


def test_what_a_user_can_mend_is_told_in_a_line(tmp_path, monkeypatch):
    words = ["--model", "m", "--rows", str(tmp_path / "rows.txt"), "--output", "out.jsonl"]
    monkeypatch.setattr(sys, "argv", [alternates.__file__, *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(alternates.__file__, run_name="__main__")
    assert "rows.txt" in caught.value.code and "\n" not in caught.value.code


def test_each_row_gets_an_answer_that_is_not_its_own_the_same_by_the_same_seed(tmp_path):
    rows = load_rows("people", split="train[:8]")
    tokenizer = build_tokenizer([*rows["question"], *rows["answer"]], 300)
    model = small(len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("\n".join(
        json.dumps({"question": q, "answer": a}) for q, a in zip(rows["question"], rows["answer"], strict=True)
    ))  # fmt: skip
    words = ["--model", str(tmp_path / "model"), "--rows", str(tmp_path / "rows.jsonl"), "--max_new_tokens", "6"]
    for name in ("one", "two"):
        assert alternates.main([*words, "--output", str(tmp_path / f"{name}.jsonl")]) == 0
    one, two = ((tmp_path / f"{name}.jsonl").read_text() for name in ("one", "two"))
    assert one == two
    written = [json.loads(line) for line in one.splitlines()]
    assert len(written) == 8 and all(row["alternate"].strip() not in ("", row["answer"]) for row in written)

    from hf_unlearn.data.alternates import alternate_rows

    made = encode(load_rows(str(tmp_path / "one.jsonl")), tokenizer, max_length=96)
    beside, problems = alternate_rows(get_objective("alt_po"), made, tokenizer, 0)
    assert not problems and len(beside) == 8


def test_a_row_that_the_model_always_answers_alike_is_begun_with_another_rows_word(monkeypatch):
    from helpers.tiny import lm, tokenizer

    asked = []

    def by_heart(model, prompts, tokenizer, **how):
        asked.append([len(prompt) for prompt in prompts])
        return [[8] if len(prompt) == 2 else [9] for prompt in prompts]

    monkeypatch.setattr("hf_unlearn.evaluation.attacks.generate.continuations", by_heart)
    rows = [{"input_ids": [4, 5, first], "labels": [-100, -100, first]} for first in (8, 7)]
    found = alternates.alternates(lm(), tokenizer(), rows)
    assert asked == [[2, 2], [2], [3]]
    assert found[1] == "t8" and found[0].split() == ["t7", "t9"]
