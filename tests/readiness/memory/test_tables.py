"""Tables: what is read, what a deletion leaves."""

from __future__ import annotations

import pytest
import torch

from hf_unlearn.readiness.memory.choosing import PublicReads, own_entries
from hf_unlearn.readiness.memory.tables import Table, Tables, place_of, read


def table(entries, value, inputs=1):
    values = torch.full((len(entries), 2), float(value))
    return Table([torch.tensor(entries)], [values], torch.eye(3)[:inputs], torch.full((inputs,), 0.5))


def test_entries_of_a_source_are_found_and_others_count_nothing():
    tables = Tables(entries=10, layers=1)
    tables.put("a", table([1, 4], 1))
    tables.put("b", table([4, 7, 9], 10))
    joined = tables.joined(torch.device("cpu"))
    assert joined.keys[0].tolist() == [1, 4, 14, 17, 19] and joined.slots.tolist() == [0, 1]
    wanted, weights = torch.tensor([[4, 14, 3], [9, 19, 17]]), torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    assert read(weights, wanted, joined.keys[0], joined.values[0])[:, 0].tolist() == [1 + 20, 20 + 40]


def test_gradient_reaches_the_values_that_were_read_alone():
    values = torch.zeros(2, 3, requires_grad=True)
    read(torch.tensor([[0.5, 0.25]]), torch.tensor([[7, 8]]), torch.tensor([5, 7]), values).sum().backward()
    assert values.grad.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]


def test_a_dropped_source_leaves_what_was_never_put():
    both, one = Tables(10, 1), Tables(10, 1)
    both.put("a", table([1], 1, inputs=2))
    both.put("b", table([2], 2))
    one.put("b", table([2], 2))
    both.drop(["a"])
    left, never = (tables.joined(torch.device("cpu")) for tables in (both, one))
    assert left.sources == never.sources
    assert all(torch.equal(getattr(left, name), getattr(never, name)) for name in ("inputs", "slots"))
    assert torch.equal(left.keys[0], never.keys[0]) and torch.equal(left.values[0], never.values[0])


def test_an_unknown_source_is_told_and_nothing_is_dropped():
    tables = Tables(10, 1)
    tables.put("a", table([1], 1))
    with pytest.raises(KeyError, match="b"):
        tables.drop(["a", "b"])
    assert "a" in tables


def test_a_table_comes_back_from_its_tensors():
    before = table([3, 5], 2)
    after = Table.from_tensors(dict(before.tensors()))
    assert dict(after.tensors()).keys() == dict(before.tensors()).keys()
    assert all(torch.equal(a, dict(after.tensors())[name]) for name, a in before.tensors())


def test_nothing_is_found_in_an_empty_table():
    assert not place_of(torch.tensor([1, 2]), torch.zeros(0, dtype=torch.long))[1].any()


def test_entries_that_public_rows_read_are_passed_over():
    public = PublicReads.of([torch.tensor([1, 1, 2]), torch.tensor([1])])
    torch.testing.assert_close(public.idf(torch.tensor([1, 2, 5])), torch.log(torch.tensor([1.0, 1.5, 3.0])))
    numbers, weights = torch.tensor([[1, 2], [5, 1]]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert own_entries(numbers, weights, public, most=2).tolist() == [2, 5]  # 1 is in every public row
    assert own_entries(numbers, weights, public, most=1).tolist() == [5]


def test_without_public_rows_the_most_read_entries_are_owned():
    numbers, weights = torch.tensor([[1, 2], [5, 1]]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert own_entries(numbers, weights, PublicReads.of([]), most=1).tolist() == [1]


def test_a_source_that_is_dropped_leaves_nothing_in_what_is_read_and_the_others_their_places():
    tables, never = Tables(10, 1), Tables(10, 1)
    for source, entries, value in (("a", [1, 4], 1), ("b", [2, 4, 9], 5), ("c", [4, 7], 10)):
        tables.put(source, table(entries, value))
        if source != "b":
            never.put(source, table(entries, value))
    joined = tables.joined(torch.device("cpu"))
    tables.drop(["b"])
    assert tables.joined(torch.device("cpu")) is joined
    assert joined.keys[0].tolist() == [1, 4, 10, 11, 12, 24, 27] and joined.slots.tolist() == [0, 2]
    assert joined.values[0][:, 0].tolist() == [1, 1, 0, 0, 0, 10, 10] and len(joined.inputs) == 2
    weights = torch.tensor([[1.0, 2.0, 4.0]])
    left = read(weights, torch.tensor([[4, 14, 24]]), joined.keys[0], joined.values[0])
    fresh = never.joined(torch.device("cpu"))
    assert torch.equal(left, read(weights, torch.tensor([[4, 99, 14]]), fresh.keys[0], fresh.values[0]))


def test_tables_that_hold_none_any_more_say_nothing():
    tables = Tables(10, 1)
    tables.put("a", table([1], 1))
    tables.joined(torch.device("cpu"))
    tables.drop(["a"])
    assert tables.joined(torch.device("cpu")) is None and not len(tables)
