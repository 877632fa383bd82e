"""The gate: who speaks at an input, and who is silent."""

from __future__ import annotations

import torch

from hf_unlearn.readiness.memory import gate


def gates_at(z, inputs, slots, sources, public=None, beta=50.0, floor=0.4):
    c = gate.nearest_of_each(z, inputs, slots, sources)
    none = torch.zeros(0, z.shape[1])
    return gate.gates(c, gate.nearest(z, none if public is None else public), beta, floor)


def test_a_source_speaks_at_its_own_inputs_alone():
    z = torch.eye(4)[:3]  # like an input of source 0, of source 1, of none
    g, slots = gates_at(z, torch.eye(4)[[0, 1, 1]], torch.tensor([0, 1, 1]), 2)
    said = torch.zeros(3, 2).scatter(1, slots, g)
    torch.testing.assert_close(said, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), atol=1e-3, rtol=0)


def test_an_input_that_is_like_public_ones_opens_no_source():
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0.6, 0.0]]), dim=-1)
    inputs, slots = torch.eye(3)[[1]], torch.tensor([0])
    assert float(gates_at(z, inputs, slots, 1)[0]) > 0.9
    assert float(gates_at(z, inputs, slots, 1, public=torch.eye(3)[[0]])[0]) == 0


def test_two_sources_with_one_input_share_it():
    g, _ = gates_at(torch.eye(2)[:1], torch.eye(2)[[0, 0]], torch.tensor([0, 1]), 2)
    torch.testing.assert_close(g, torch.full((1, 2), 0.5), atol=1e-3, rtol=0)


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
