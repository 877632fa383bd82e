"""Of many rows those alone are decoded that have the letters of another one: the twins are the same."""

from __future__ import annotations

import numpy as np
import pytest

from hf_unlearn import find_duplicates
from hf_unlearn.data import said
from hf_unlearn.data.letters import Letters, letters_of
from recipes.tools.bench.rows import tokenizer

WORDS = ["Velra", "velra", "ﬁne", "fine", "Straße", "1.5", "15", "-5", "…", "“so”", "so", "e\u0301", "é", "３", "don't"]


def encoded(reader, texts: list[str]) -> list[dict]:
    return [{"input_ids": ids or [0], "labels": ids or [0]} for ids in reader(texts)["input_ids"]]


@pytest.fixture(scope="module")
def reader():
    return tokenizer()


def test_twins_are_those_of_all_rows_decoded(reader, monkeypatch):
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, draw.integers(1, 4))) for _ in range(400)]
    rows = encoded(reader, texts)
    whole = find_duplicates(rows[:200], rows[200:], processing_class=reader)
    assert 20 < len(whole) < 200
    calls = []
    monkeypatch.setattr(said, "MOST_DECODED", 0)
    monkeypatch.setattr(said, "letters_of", lambda *given: calls.append(letters_of(*given)) or calls[0])
    assert find_duplicates(rows[:200], rows[200:], processing_class=reader) == whole
    assert isinstance(calls[0], Letters)


def test_rows_of_letters_of_their_own_are_not_decoded(reader, monkeypatch):
    monkeypatch.setattr(said, "MOST_DECODED", 0)
    monkeypatch.setattr(said, "SAMPLE", 2)
    decoded, real = [], said.decoded
    monkeypatch.setattr(said, "decoded", lambda tokens, reader: decoded.extend(tokens) or real(tokens, reader))
    rows = encoded(reader, [f"row {i} of its own" for i in range(50)])
    assert find_duplicates(rows, [*rows[:1], *encoded(reader, ["ROW 7, of its own"])], processing_class=reader) == [
        (0, 0), (7, 1)
    ]  # fmt: skip
    assert len(decoded) <= 4


def test_a_tokenizer_that_reads_a_row_otherwise_than_its_tokens_is_asked_of_all_rows(monkeypatch):
    class Doubles:
        """Says a letter once that comes twice, as decoders of speech do."""

        pad_token_id = None

        def __len__(self):
            return 128

        def batch_decode(self, rows, skip_special_tokens):
            texts = ["".join(map(chr, ids)) for ids in rows]
            return ["".join(c for i, c in enumerate(text) if text[i - 1 : i] != c) for text in texts]

    monkeypatch.setattr(said, "MOST_DECODED", 0)
    rows = [{"input_ids": [*map(ord, text)], "labels": [1]} for text in ("hello", "helo", "other")]
    assert letters_of(Doubles(), [np.array(rows[0]["input_ids"])]) is None
    assert find_duplicates(rows[:1], rows[1:], processing_class=Doubles()) == [(0, 0)]
