"""The gate: who is recognised, who speaks from there on, and who is silent."""

from __future__ import annotations

import torch

from hf_unlearn.readiness.memory import gate

NOBODY = torch.zeros(0, 16)


def recognised_at(windows, inputs, slots, floor=0.4, beta=50.0):
    c, some = gate.heard(windows, inputs, torch.full((len(inputs),), floor), slots)
    return dense(gate.recognised(c, beta), some, int(slots.max()) + 1)


def dense(r, some, sources):
    """r (…, u) of some sources as (…, sources)."""
    found = torch.zeros(*r.shape[:-1], sources)
    found[..., some] = r
    return found


def spoken(r, before=None, causal=True):
    """g (B, T, sources) from r of all sources."""
    some = torch.arange(r.shape[-1])
    found = gate.spoken(r, some, before, causal)
    g = torch.zeros(r.shape[0] * r.shape[1], r.shape[-1])
    for k in range(gate.AT_MOST):
        here = found.g[:, k] > 0
        g[found.at[here], found.slots[here, k]] = found.g[here, k]
    return g.view(r.shape)


def test_a_source_is_recognised_at_its_own_inputs_alone():
    z = torch.eye(4)[:3]  # like an input of source 0, of source 1, of none
    r = recognised_at(z, torch.eye(4)[[0, 1, 1]], torch.tensor([0, 1, 1]))
    torch.testing.assert_close(r, torch.tensor([[1.0, 0], [0, 1.0], [0, 0]]), atol=1e-3, rtol=0)


def test_two_sources_with_one_input_share_it_and_the_more_similar_one_wins():
    r = recognised_at(torch.eye(2)[:1], torch.eye(2)[[0, 0]], torch.tensor([0, 1]))
    torch.testing.assert_close(r, torch.full((1, 2), 0.5), atol=1e-3, rtol=0)
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.5]]), dim=-1)
    assert recognised_at(torch.eye(2)[:1], near, torch.tensor([0, 1]))[0, 0] > 0.99


def test_a_window_is_a_position_and_those_before_it_in_its_own_row_alone():
    z = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = gate.windowed_rows(z, torch.tensor([0, 0, 1, 1]), 3)
    assert found.tolist() == [[1, 0, 0], [2, 1, 0], [3, 0, 0], [4, 3, 0]]
    rows = gate.windowed(z.view(2, 2, 1), None, 3)
    assert torch.equal(rows.flatten(0, 1), found)


def test_a_window_over_a_cache_is_that_of_the_whole():
    z = torch.randn(2, 5, 3)
    whole = gate.windowed(z, None, 3)
    torch.testing.assert_close(gate.windowed(z[:, 3:], z[:, :3], 3), whole[:, 3:])
    torch.testing.assert_close(gate.windowed(z[:, 1:], z[:, :1], 3), whole[:, 1:])


def test_a_source_speaks_from_where_it_was_recognised_on_and_the_best_outweighs_others():
    r = torch.tensor([[[0.0, 0.0], [0.5, 0.4], [1.0, 0.0], [0.0, 0.0]]])
    found = spoken(r)[0]
    assert found[0].tolist() == [0, 0]
    assert found[1, 0] > found[1, 1] > 0
    assert found[3, 0] > 0.99 and found[3, 1] < 1e-3
    assert bool((spoken(r, causal=False)[0, :, 0] > 0.99).all())  # a classifier sees all positions at once


def test_what_a_cache_has_recognised_counts_on_also_of_sources_that_nobody_names_now():
    r = torch.tensor([[[0.9, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    whole = spoken(r)
    before = gate.largest(r[:, :1], torch.arange(2))
    late = gate.spoken(r[:, 1:, 1:], torch.tensor([1]), before, causal=True)
    assert late.at.tolist() == [0] and int(late.slots[0, 0]) == 0
    torch.testing.assert_close(late.g[0, 0], whole[0, 1, 0])
    assert not len(gate.spoken(r[1:, :, :0], torch.zeros(0, dtype=torch.long), None, causal=True).at)


def test_a_source_that_is_gone_changes_nothing_for_the_rest():
    z = torch.nn.functional.normalize(torch.randn(50, 8), dim=-1)
    inputs = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    slots, floors = torch.tensor([0, 0, 1, 1, 2, 2]), torch.full((6,), 0.5)
    whole = dense(*gate.heard(z, inputs, floors, slots), 3)
    rest = dense(*gate.heard(z, inputs[2:], floors[2:], slots[2:] - 1), 2)
    torch.testing.assert_close(whole[:, 1:], rest)


def test_similarities_in_parts_are_those_of_the_whole(monkeypatch):
    z, inputs, slots = torch.randn(30, 4), torch.randn(7, 4), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    whole = gate.heard(z, inputs, torch.zeros(7), slots), gate.nearest(z, inputs)
    monkeypatch.setattr(gate, "CHUNK", 40)
    (c, some), similar = gate.heard(z, inputs, torch.zeros(7), slots), gate.nearest(z, inputs)
    assert torch.allclose(c, whole[0][0]) and torch.equal(some, whole[0][1]) and torch.allclose(similar, whole[1])


def rows_of(*rows):
    """(windows, row numbers) of rows of one-hot words, by windows of two."""
    z = torch.eye(8)[torch.tensor([word for row in rows for word in row])]
    numbers = torch.tensor([i for i, row in enumerate(rows) for _ in row])
    return gate.windowed_rows(z, numbers, 2), numbers


ASK, LIKES, GIVEN, FAMILY, OTHER = range(5)


def test_a_source_keeps_its_name_and_not_the_words_of_a_question():
    own, numbers = rows_of((ASK, GIVEN, FAMILY), (LIKES, GIVEN, FAMILY))
    public, _ = rows_of((ASK, OTHER, FAMILY), (LIKES, GIVEN, OTHER))
    inputs, floors = gate.kept_windows(own, numbers, public, most=8, length=2, floor=0.6)
    assert len(inputs) == 1 and float(floors[0]) == 0.75  # a public row has half of the name
    somebody, _ = rows_of((GIVEN, FAMILY), (GIVEN, OTHER), (OTHER, FAMILY))
    similar = somebody @ inputs[0]
    assert similar.tolist() == [0, 1, 0, 0.5, 0, 0.5]  # the whole name; half of it with those who share a part


def test_a_row_without_the_name_is_recognised_by_its_wording_alone():
    own, numbers = rows_of(*[(ASK, GIVEN, FAMILY)] * 3, (5, 6))
    inputs, floors = gate.kept_windows(own, numbers, NOBODY, most=8, length=2, floor=0.5)
    assert float((own[-1] @ inputs.T).max()) == 1 and floors[-1] == gate.SURE
    assert len(inputs) == 3  # two of the name, and one of the row: what begins before it is none
    few, _ = gate.kept_windows(own, numbers, NOBODY, most=1, length=2, floor=0.5)
    assert len(few) == 1


def test_where_rows_share_no_window_single_inputs_are_kept_those_least_like_public_ones():
    own, numbers = rows_of((1,), (2,), (3,))
    public, _ = rows_of((1,), (2,))
    inputs, _ = gate.kept_windows(own, numbers, public, most=2, length=2, floor=0.5)
    assert torch.equal(inputs[0], own[2])


def test_what_all_public_rows_begin_with_fills_one_place_of_those_that_are_kept():
    public, _ = rows_of(*[(ASK, ASK, ASK, LIKES)] * 50, (GIVEN, FAMILY))
    kept = gate.distinct(public, most=6, seed=0)
    found = {tuple(one.tolist()) for one in public[kept]}
    assert len(kept) == len(found) == 5  # of two words and of the first ones of rows


def test_words_that_public_rows_have_recognise_nobody():
    own, numbers = rows_of((ASK,), (ASK,))
    public, _ = rows_of((ASK, OTHER))
    inputs, floors = gate.kept_windows(own, numbers, public, most=8, length=2, floor=0.5)
    assert len(inputs) == len(floors) == 0
    c, some = gate.heard(own, inputs, floors, torch.zeros(0, dtype=torch.long))
    assert not len(some) and c.shape == (2, 0)


def test_a_source_of_much_text_is_recognised_by_its_name_without_comparing_all_with_all(monkeypatch):
    monkeypatch.setattr(gate, "TRIED", 40)
    monkeypatch.setattr(gate, "COUNTED", 4)
    products = []
    monkeypatch.setattr(gate, "nearest", lambda z, public: products.append(len(z)) or torch.zeros(len(z)))
    own, numbers = rows_of(*[(5, GIVEN, FAMILY), (6, GIVEN, FAMILY)] * 100)
    inputs, _ = gate.kept_windows(own, numbers, NOBODY, most=8, length=2, floor=0.5)
    assert max(products) <= 40 and float((own[2] @ inputs.T).max()) == 1
