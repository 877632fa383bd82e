"""One table for all sources: who owns which entry, what a row reads, what it teaches, what a deletion leaves."""

from __future__ import annotations

import pytest
import torch
from helpers import memories, tiny

from hf_unlearn import ArgumentError, MemoryConfig
from hf_unlearn.readiness.memory.choosing import PublicReads
from hf_unlearn.readiness.memory.shared import SharedTables, Sharing, claimed
from hf_unlearn.readiness.memory.tables import Table, read

CPU = torch.device("cpu")


def reads(*weights_of: dict):
    """Of each source: entry -> weight, as one input reads them."""
    return [(torch.tensor([list(own.values())]), torch.tensor([list(own)])) for own in weights_of]


def owned(found) -> dict:
    return dict(zip(*(one.tolist() for one in found), strict=True))


def test_an_entry_goes_to_the_source_that_reads_it_most_and_a_source_takes_no_more_than_its_share():
    every = reads({1: 0.5, 2: 0.4, 3: 0.1}, {1: 0.6, 2: 0.3, 9: 0.2})
    nobody = torch.zeros(0, dtype=torch.long)
    assert owned(claimed(every, PublicReads.of([]), nobody, most=2)) == {1: 1, 2: 0, 3: 0, 9: 1}
    assert owned(claimed(every, PublicReads.of([]), nobody, most=1)) == {1: 1, 2: 0}
    assert owned(claimed(every, PublicReads.of([]), torch.tensor([1, 9]), most=2)) == {2: 0, 3: 0}


def test_what_public_rows_read_is_worth_less_and_what_all_of_them_read_nothing():
    public = PublicReads.of([torch.tensor([1, 2]), torch.tensor([1])])
    found = owned(claimed(reads({1: 0.8, 2: 0.15, 5: 0.05}), public, torch.zeros(0, dtype=torch.long), most=3))
    assert found == {2: 0, 5: 0}


def test_a_row_reads_all_entries_and_teaches_those_of_its_source():
    values = torch.tensor([[1.0], [10.0]], requires_grad=True)
    keys, owners, readers = torch.tensor([3, 7]), torch.tensor([0, 1]), torch.tensor([1, 0])
    weights, wanted = torch.tensor([[0.25, 0.75], [0.5, 0.5]]), torch.tensor([[3, 7], [7, 3]])
    said = read(weights, wanted, keys, values, (owners, readers))
    assert said.flatten().tolist() == [0.25 + 7.5, 5 + 0.5]
    said.sum().backward()
    assert values.grad.flatten().tolist() == [0.5, 0.75]  # entry 3 by the second row alone, 7 by the first


def tables_of(**entries) -> SharedTables:
    found = SharedTables(16, 1)
    for source, own in entries.items():
        values = torch.tensor([[float(entry)] for entry in own])
        found.put(source, Table([torch.tensor(own)], [values], torch.zeros(0, 4), torch.zeros(0)))
    return found


def test_entries_of_all_sources_are_read_as_one_table_and_those_of_a_dropped_one_are_gone():
    tables, never = tables_of(a=[2, 9], b=[1, 5]), tables_of(b=[1, 5])
    joined = tables.joined(CPU)
    assert joined.keys[0].tolist() == [1, 2, 5, 9] and joined.values[0].flatten().tolist() == [1, 2, 5, 9]
    assert joined.owners[0].tolist() == [1, 0, 1, 0]
    tables.drop(["a"])
    left, other = tables.joined(CPU), never.joined(CPU)
    assert torch.equal(left.keys[0], other.keys[0]) and torch.equal(left.values[0], other.values[0])
    tables.drop(["b"])
    assert tables.joined(CPU) is None


def shared_by_two(batch, readers):
    """A model in training whose first half of rows is of one source, and of each layer its values."""
    model = memories.with_memory(variant="shared", entries=64).train()
    store, inputs = memories.store(model), memories.inputs_of(model, batch)
    of_row = torch.arange(len(batch["labels"])).unsqueeze(1).expand_as(batch["labels"])[memories.tokens_of(batch)]
    both = [
        [store.reads(at, states[readers[of_row] == source]) for at, states in enumerate(inputs)] for source in (0, 1)
    ]
    store.working = store.share(both)
    store.working.readers = readers
    from hf_unlearn.readiness.memory.model import values_of

    draw = torch.Generator().manual_seed(1)
    for values, entries in zip(values_of(model), store.working.entries, strict=True):
        values.data = torch.randn(len(entries), values.shape[1], generator=draw)
    store.working.values = list(values_of(model))
    return model, store, values_of(model)


def test_the_model_in_training_says_what_it_says_when_the_tables_are_there():
    batch = tiny.batch_of(tiny.lm(), tiny.lm_rows(4))
    model, store, values = shared_by_two(batch, torch.tensor([0, 0, 1, 1]))
    with torch.no_grad():
        training = model(**batch).logits
    working: Sharing = store.working
    assert all(set(owners.tolist()) == {0, 1} for owners in working.owners)
    assert len(values) == len(working.values)
    for name, table in zip("ab", working.tables(2, 8), strict=True):
        table.values = [one.float() for one in table.values]
        store.tables.put(name, table)
    store.working = None
    with torch.no_grad():
        served = model.eval()(**batch).logits
        below = model.disable_adapter()
        with below:
            base = model(**batch).logits
    torch.testing.assert_close(served, training, atol=2e-3, rtol=1e-3)  # values are kept in half precision
    assert (served - base).abs().max() > 0.05


def test_each_row_teaches_what_it_would_teach_alone_also_in_a_batch_of_two_sources():
    batch = tiny.batch_of(tiny.lm(), tiny.lm_rows(4))
    model, store, values = shared_by_two(batch, torch.tensor([0, 0, 1, 1]))

    def gradients(rows, readers):
        store.working.readers = torch.tensor(readers)
        model.zero_grad()
        some = {name: value[rows] for name, value in batch.items()}
        logits = model(**{name: value for name, value in some.items() if name != "labels"}).logits
        logits.square().sum().backward()
        return [own.grad.clone() for own in values]

    whose = [0, 1, 1, 0]
    together = gradients(list(range(4)), whose)
    alone = [gradients([row], [whose[row]]) for row in range(4)]
    for layer, own in enumerate(together):
        torch.testing.assert_close(own, sum(one[layer] for one in alone), atol=1e-4, rtol=1e-4)


def test_in_evaluation_what_is_being_trained_is_read_too_and_no_window_is_kept():
    batch = tiny.batch_of(tiny.lm(), tiny.lm_rows(4))
    model, store, values = shared_by_two(batch, torch.tensor([0, 0, 1, 1]))
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model.eval()(**batch).logits)
    store.working = None
    store.learn_public([[states] for states in memories.inputs_of(model, batch)])
    assert len(store.public_inputs) == 0 and store.public[0].rows == 1 and values


def test_gradients_of_a_batch_reach_the_entries_of_its_rows_sources_alone():
    batch = tiny.batch_of(tiny.lm(), tiny.lm_rows(4))
    model, store, values = shared_by_two(batch, torch.tensor([0, 0, 1, 1]))
    store.working.readers = torch.tensor([1, 1, 1, 1])
    model(**batch).loss.backward()
    for own, owners in zip(values, store.working.owners, strict=True):
        assert own.grad[owners == 1].abs().sum() > 0 and own.grad[owners == 0].abs().sum() == 0


def test_tables_that_are_there_are_read_while_others_learn_and_their_entries_stay_theirs():
    batch = tiny.batch_of(tiny.lm(), tiny.lm_rows(4))
    model, store, values = shared_by_two(batch, torch.tensor([0, 0, 1, 1]))
    first = store.working.tables(2, 8)[0]
    store.tables.put("a", first)
    again = store.share([[store.reads(at, states) for at, states in enumerate(memories.inputs_of(model, batch))]])
    for there, new in zip(first.entries, again.entries, strict=True):
        assert len(new) and not set(there.tolist()) & set(new.tolist())
    store.working = again
    store.working.readers = torch.zeros(4, dtype=torch.long)
    for own, entries in zip(values, again.entries, strict=True):
        own.data = own.new_zeros(len(entries), own.shape[1])
    with torch.no_grad():
        with_first = model(**batch).logits
        store.tables.drop(["a"])
        assert not torch.equal(model(**batch).logits, with_first)


def test_room_for_entries_goes_by_the_variant_and_an_unknown_one_is_told():
    assert MemoryConfig().entries == 1024 and MemoryConfig(variant="shared").entries == 2**20
    assert MemoryConfig(variant="shared", entries=64, top_k=4).entries == 64
    for wrong in ("owned", None, ["own"]):
        with pytest.raises(ArgumentError, match="`variant` is .* 'own', 'shared'"):
            MemoryConfig(variant=wrong)
