"""
Which rows of many may have one text? Decoding all of them takes a tokenizer a minute a million. Rows that say the same
have the same letters and digits, whatever stands between these, so that only rows whose letters and digits another row
has, too, are decoded. They are read from a table of what each token says, and hashed as a polynomial: the hash of a
row follows from those of its tokens and from how many letters stand before each.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from .reading import normalised

BASE = 0x9E3779B97F4A7C15  # odd, of the polynomial, modulo 2^64
_OTHERS = bytes(code for code in range(128) if not chr(code).isalnum())
SAMPLE = 256  # rows that are decoded to see whether a tokenizer says of a row what it says of its tokens


class Letters:
    """
    The letters and digits of tokens.

    Attributes:
        hashes: (V,) uint64 of those of each token.
        counts: (V,) how many it has.
        sizes: (V,) characters that it stands for.
        plain: (V,) whether these are ASCII or signs; others may be a part of a character, or change with the next one.
    """

    def __init__(self, texts: list[str]):
        said = [_letters(normalised(text)) for text in texts]
        self.counts = np.fromiter(map(len, said), np.int64, len(said))
        self.sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        self.plain = np.fromiter((all(map(_stands_alone, text)) for text in texts), bool, len(texts))
        self._powers = np.ones(1, np.uint64)
        self.hashes = self._hashed(said)

    def _hashed(self, said: list[bytes]) -> np.ndarray:
        """(n,) uint64 of letters and digits."""
        counts = np.fromiter(map(len, said), np.int64, len(said))
        values = np.frombuffer(b"".join(said), np.uint8).astype(np.uint64) + np.uint64(1)
        return _sums(values * self._power(_places(np.ones(len(values), np.int64), counts)), counts)

    def of_texts(self, texts: list[str]) -> np.ndarray:
        """(n,) uint64 hashes of texts."""
        return self._hashed([_letters(normalised(text)) for text in texts])

    def of_tokens(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        `(hashes (n,) uint64, characters (n,), which rows (n,) their tokens do not tell: they must be decoded)`.

        Args:
            values: (M,) the tokens of all rows, one after the other; counts: (n,) how many each row has.
        """
        known = (values >= 0) & (values < len(self.plain))
        ids = np.where(known, values, 0)
        letters = self.counts[ids]
        hashes = _sums(self.hashes[ids] * self._power(_places(letters, counts)), counts)
        odd = _sums((~(known & self.plain[ids])).astype(np.int64), counts) > 0
        return hashes, _sums(self.sizes[ids], counts), odd | (_sums(letters, counts) == 0)

    def _power(self, exponents: np.ndarray) -> np.ndarray:
        most = int(exponents.max(initial=0)) + 1
        if most > len(self._powers):
            self._powers = np.concatenate([[np.uint64(1)], np.cumprod(np.full(2 * most, BASE, np.uint64))])
        return self._powers[exponents]


def letters_of(reader: Any, rows: list[np.ndarray]) -> Letters | None:
    """
    Of a tokenizer; None where it does not say of a row what it says of its tokens, one after the other.

    Args:
        rows: token ids of some rows, on which that is tried.
    """
    try:
        texts = reader.batch_decode([[i] for i in range(len(reader))], skip_special_tokens=True)
        read = reader.batch_decode([ids.tolist() for ids in rows], skip_special_tokens=True)
    except Exception:  # a tokenizer of any kind may raise anything at an id alone: rows are decoded whole, then
        return None
    found = Letters(texts)
    counts = np.array([len(ids) for ids in rows], np.int64)
    hashes, _, odd = found.of_tokens(np.concatenate(rows) if rows else np.zeros(0, np.int64), counts)
    return found if len(rows) and (odd | (hashes == found.of_texts(read))).all() else None


def _stands_alone(character: str) -> bool:
    """Whether a character is ASCII, or a sign or white space whose form NFKC has no letters."""
    if character.isascii():
        return True
    return unicodedata.category(character)[0] in "PZ" and not _letters(unicodedata.normalize("NFKC", character))


def _letters(text: str) -> bytes:
    """The letters and digits of ASCII."""
    return text.encode("ascii", "ignore").translate(None, _OTHERS)


def _places(widths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How much width stands before each value of its row."""
    before = np.cumsum(widths) - widths
    starts = np.cumsum(counts) - counts
    return before - np.repeat(before[np.minimum(starts, max(0, len(before) - 1))], counts) if len(before) else before


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n,) sum of the values of each row."""
    found = np.zeros(len(counts), values.dtype)
    some = counts > 0
    if some.any():
        found[some] = np.add.reduceat(values, (np.cumsum(counts) - counts)[some])
    return found
