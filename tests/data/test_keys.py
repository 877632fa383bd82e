"""Digests as arrays: equal ones are found, by sorting, as a dict of bytes would find them."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_unlearn.data.duplicates import Content, fingerprints, twin_groups, twins
from hf_unlearn.data.gather import arrays_at
from hf_unlearn.data.keys import as_bytes, as_words, distinct, fast, is_among, repeated, short


def drawn(n: int, kinds: int, seed: int) -> np.ndarray:
    """(n, 2, 2) keys of so many contents."""
    numbers = np.random.default_rng(seed).integers(0, kinds, (n, 2))
    return np.stack([as_words([fast(b"%d" % i) for i in column]) for column in numbers.T], axis=1)


def test_twins_are_those_that_a_dict_of_the_keys_finds():
    first, second = drawn(200, 400, 1), drawn(300, 400, 2)
    keys, others = as_bytes(first), as_bytes(second)
    wanted = {}
    for i, j in ((i, j) for i, one in enumerate(keys) for j, other in enumerate(others) if set(one) & set(other)):
        wanted.setdefault(j, i)
    wanted = [(i, j) for j, i in sorted(wanted.items())]
    assert twins(Content(first), Content(second)) == wanted and 50 < len(wanted) < 300


def test_half_of_a_key_in_common_makes_no_twins():
    key = as_words([fast(b"one")])[:, None]
    other = key.copy()
    other[..., 1] += 1
    assert twins(Content(key), Content(other)) == [] and twins(Content(key), Content(key)) == [(0, 0)]


def test_groups_go_by_way_of_a_third_row():
    a, b, c, d = (as_words([fast(name)])[0] for name in (b"a", b"b", b"c", b"d"))
    keys = np.array([[a, b], [d, d], [c, c], [b, c], [a, a]])
    assert twin_groups(Content(keys)).tolist() == [0, 1, 0, 0, 0]
    assert twin_groups(Content(np.zeros((3, 0, 2), np.uint64))).tolist() == [0, 1, 2]


def test_numbers_are_found_among_others():
    one, other = np.array([5, 3, 3, 9], np.uint64), np.array([3, 4, 9], np.uint64)
    assert is_among(one, other).tolist() == [False, True, True, True] and not is_among(one, other[:0]).any()
    assert repeated(one).tolist() == [False, True, True, False] and distinct(one) == 3 and distinct(one[:0]) == 0
    assert short([7, "8"]).tolist() == short(["7", 8]).tolist()


@pytest.mark.parametrize("places", [slice(1, 4), slice(0, 99), np.array([4, 0, 0, 3]), np.array([], np.int64)])
def test_rows_are_gathered_by_their_places_from_any_chunks(places):
    from datasets import concatenate_datasets

    parts = [Dataset.from_dict({"n": range(k, k + 3), "t": [[i, str(i)][1:] for i in range(k, k + 3)]}) for k in (0, 3)]
    whole = concatenate_datasets(parts)
    for rows in (whole, whole.select([5, 1, 1, 0, 4]), whole.select(range(1, 6)).with_format("torch", columns=["n"])):
        expected = rows.with_format(None)[:]["n"]
        expected = expected[places] if isinstance(places, slice) else [expected[i] for i in places]
        found = arrays_at(rows, ["n", "t"], places)
        assert found["n"].to_pylist() == expected and found["t"].to_pylist() == [[str(i)] for i in expected]


def test_hashes_on_a_disk_are_those_of_earlier_versions():
    rows = Dataset.from_dict({
        "input_ids": [[1, 2, 3], [], [4]], "x": [0.5, -0.0, 1e300], "flag": [True, False, True], "said": ["a", "ß", ""],
        "odd": [[1.5], None, [2.0, 3.0]],
    })  # fmt: skip
    for columns, wanted in HASHES.items():
        assert [one.hex() for one in fingerprints(rows, columns.split())] == wanted, columns


HASHES = {
    "input_ids": [
        "63447498aab775a83869dcb828589637", "3a3e9787b44e9fc2d951e7dc0eeb0c18", "e7af8dcf142bb95ae1dfc80c082186f1"
    ],
    "x": [
        "7888552d76cf299abfcd5b3fb64c151d", "7668c9d61162685b1b3112c4ab9f07ea", "12b8fb594d556f153d48244ab4a04440"
    ],
    "flag input_ids": [
        "4c79bc7ae0bfbc422d2a7676dfd78778", "0c74b057040f1c617b8e18901fe5e4fd", "7d97f41082d9bba2c1fa86ba018e554f"
    ],
    "said": [
        "4557c6e9b7cdd925a9376a6f9d34f943", "2ee1d3f53e6d03f7da1bb5f58142ae38", "1fe211ced415d9588416073e6f12704a"
    ],
    "odd": [
        "922b35ebb02cd35c36e1da7514aef24a", "9781e576fbd9086ba1e97c87f1bd1575", "5da8d7ee612622fdc550623917fa775c"
    ],
    "flag input_ids odd said x": [
        "273d0289ba8ded37bbd306859250f34a", "eab5187164d68a8a73b27d5675efa87e", "ce131159df68bfcbf0a047f2f52445e1"
    ],
}  # fmt: skip
