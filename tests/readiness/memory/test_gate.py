"""The gate: who is recognised, who speaks from there on, and who is silent."""

from __future__ import annotations

import torch

from hf_unlearn.readiness.memory import gate


def recognised_at(z, inputs, slots, sources, public=None, beta=50.0, floor=0.4):
    c = gate.nearest_of_each(z, inputs, slots, sources)
    none = torch.zeros(0, z.shape[1])
    return gate.recognised(c, gate.nearest(z, none if public is None else public), beta, floor)


def dense(g, slots, sources):
    return torch.zeros(*g.shape[:-1], sources).scatter(-1, slots, g)


def test_a_source_is_recognised_at_its_own_inputs_alone():
    z = torch.eye(4)[:3]  # like an input of source 0, of source 1, of none
    r, slots = recognised_at(z, torch.eye(4)[[0, 1, 1]], torch.tensor([0, 1, 1]), 2)
    torch.testing.assert_close(dense(r, slots, 2), torch.tensor([[1.0, 0], [0, 1.0], [0, 0]]), atol=1e-3, rtol=0)


def test_an_input_that_is_like_public_ones_is_nobodys():
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0.6, 0.0]]), dim=-1)
    inputs, slots = torch.eye(3)[[1]], torch.tensor([0])
    assert float(recognised_at(z, inputs, slots, 1)[0]) > 0.9
    assert float(recognised_at(z, inputs, slots, 1, public=torch.eye(3)[[0]])[0]) == 0


def test_two_sources_with_one_input_share_it():
    r, _ = recognised_at(torch.eye(2)[:1], torch.eye(2)[[0, 0]], torch.tensor([0, 1]), 2)
    torch.testing.assert_close(r, torch.full((1, 2), 0.5), atol=1e-3, rtol=0)


def test_a_source_speaks_from_where_it_was_recognised_on_and_the_best_outweighs_others():
    r, slots = torch.tensor([[[0.0, 0.0], [0.5, 0.4], [1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[0, 1]] * 4])
    g, speaking = gate.spoken(r, slots, 2, None, causal=True)
    found = dense(g, speaking, 2)[0]
    assert found[0].tolist() == [0, 0]
    assert found[1, 0] > found[1, 1] > 0
    assert found[3, 0] > 0.99 and found[3, 1] < 1e-3
    everywhere = dense(*gate.spoken(r, slots, 2, None, causal=False), 2)[0]
    assert bool((everywhere[:, 0] > 0.99).all())  # a classifier sees all positions at once


def test_what_a_cache_has_recognised_counts_on():
    r, slots = torch.tensor([[[0.9], [0.0]], [[0.0], [0.0]]]), torch.zeros(2, 2, 1, dtype=torch.long)
    whole, _ = gate.spoken(r, slots, 1, None, causal=True)
    late, _ = gate.spoken(r[:, 1:], slots[:, 1:], 1, (r[:, :1], slots[:, :1]), causal=True)
    assert torch.equal(late, whole[:, 1:]) and float(late[0]) > 0.8 and float(late[1]) == 0


def test_a_source_that_is_gone_changes_nothing_for_the_rest():
    z = torch.nn.functional.normalize(torch.randn(50, 8), dim=-1)
    inputs = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    c = gate.nearest_of_each(z, inputs, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    rest = gate.nearest_of_each(z, inputs[2:], torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(c[:, 1:], rest)


def test_similarities_in_parts_are_those_of_the_whole(monkeypatch):
    z, inputs, slots = torch.randn(30, 4), torch.randn(7, 4), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    whole = gate.nearest_of_each(z, inputs, slots, 3), gate.nearest(z, inputs)
    monkeypatch.setattr(gate, "CHUNK", 40)
    parts = gate.nearest_of_each(z, inputs, slots, 3), gate.nearest(z, inputs)
    assert all(torch.allclose(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_source_keeps_what_several_rows_have_alike_and_public_rows_have_not():
    name, word, once = torch.eye(3)
    z, rows = torch.stack([name, word, name, word, once]), torch.tensor([0, 0, 1, 1, 1])
    public = gate.nearest(z, torch.stack([word]))
    kept = gate.kept_inputs(z, rows, public, most=2)
    assert torch.equal(kept, torch.stack([name, once]))  # the name once, and no word that public rows have
