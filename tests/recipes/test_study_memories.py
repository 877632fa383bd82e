"""The study of memories: its rows, and its tables."""

from __future__ import annotations

import json

import pytest
from helpers import tiny

from hf_unlearn.data.rows.people import people
from recipes.study import memories, memories_rows
from recipes.study.memories_cells import same_bits


def found(arm: str = "own", seed: int = 0) -> dict:
    one = {"loss": 1.0, "right": 0.5, "perplexity": 4.0, "generated": 0.25, "rouge": 0.75, "truth_ratio": 0.125}
    looked = dict.fromkeys(("learned", "asked otherwise", "asked of whom", "others"), one)
    cell = {"task": "people", "arm": arm, "sources": 20, "seed": seed, "seconds": 3.0, "row_passes": 2400.0}
    cell |= {"after": looked}
    if arm != "LoRA":
        gone = {"share": 0.1, "rows": 8, "milliseconds": 0.4, "others_same_bits": True}
        cell |= {"below": {**looked, "others": {"loss": 2.0, "right": 0.0, "perplexity": 5.0}}, "bytes": 139_000.0}
        cell |= {
            "deleted": [{**gone, "gone": one, "below": one, "others": one, "texts": one}],
            "as_never_trained": True,
            "beside_never_trained": {"p": 0.01, "p of two": 0.3},
        }
        cell |= {"recovered": dict.fromkeys(("before", "new table", "all weights"), one)}
    return cell


def test_questions_asked_otherwise_have_the_same_answers_in_other_words():
    rows = list(people(5))
    for row, other in zip(rows, memories_rows.asked_otherwise(rows), strict=True):
        assert row["person"] in other["question"] and other["question"] != row["question"]
        assert (row["id"], row["answer"]) == (other["id"], other["answer"])


def test_the_other_direction_asks_for_the_name_and_does_not_say_it():
    rows = list(people(5))
    for row, other in zip(rows, memories_rows.asked_of_whom(rows), strict=True):
        assert other["answer"] == row["person"] and row["person"] not in other["question"]
        assert row["answer"] in other["question"]


def test_wrong_answers_are_those_of_others_to_the_same_question():
    for own in memories_rows.wrong_answers(list(people(6))):
        assert len({row["question"] for row in own}) == 1
        assert own[0]["answer"] not in [row["answer"] for row in own[1:]]


def test_the_name_of_an_author_is_what_most_rows_have_and_others_have_not():
    texts = ["Ada Byron's New York", "New York and Ada Byron", "Ada Byron of New York"]
    assert memories_rows.name_in(texts, "Others live in New York") == "Ada Byron"
    assert memories_rows.without_name("Ada Byron is Ada.", "Ada Byron") == "this author is this author."


def test_public_rows_are_of_no_source():
    row = memories_rows.encoded(list(people(1)), tiny.tokenizer(), person=False)[0]
    assert row["person"] is None and row["labels"][-1] == 2 and row["labels"][0] == -100


def test_no_source_is_called_like_one_of_the_people_below():
    below = list(people(memories_rows.OTHERS, memories_rows.OTHERS_SEED))
    rows = memories_rows.people_but(below, 1500, 0)
    names = {row["person"] for row in rows}
    assert len(rows) == 6000 and len(names) == 1500 and not names & {row["person"] for row in below}


def test_people_have_public_rows_and_questions_that_are_unrelated():
    rows = memories_rows.rows_of_people(2, 0, memories_rows.tokenizer_of(list(people(4))), None)
    assert len(rows.sources) == 8 and len(rows.sets["unrelated"]) == 10 and rows.public[0]["person"] is None


def test_what_came_back_is_told_after_the_first_and_the_last_deletion():
    one = found()
    one["recovered after the last"] = one["recovered"]
    said = memories.table([one])
    assert all(said.count(f"after the {which} deletion: a new table") == 1 for which in ("first", "last"))
    assert memories.ratio(found("LoRA"), [one], "unrelated") is None


def test_tables_have_a_line_for_each_arm_and_for_each_deletion():
    said = memories.table([found(), found(seed=1), found("LoRA")])
    lines = [line.split() for line in said.splitlines()]
    assert "Shared" not in said
    assert lines[1][:4] == ["people", "20", "LoRA", "1"] and lines[2][:4] == ["people", "20", "own", "2"]
    assert lines[2][-1] == "139" and lines[2][11] == "0.800"  # of the perplexity of the model below
    assert said.count("10%") == 1 and "the same" in said and "2 of 2 cells" in said


def test_a_shared_table_is_told_apart_from_never_trained_where_the_p_value_is_small():
    near = found("shared", seed=1)
    near["beside_never_trained"] = {"p": 0.06, "p of two": 0.04}
    said = memories.table([found(), found("shared"), near])
    assert "losses, in 1 of 2 cells; two never trained ones with two seeds in 1." in said
    assert "1 of 1 cells" in said and said.count("10%") == 2  # tables of their own alone are held against bits
    assert sum(line.startswith("people, shared, after the first deletion") for line in said.splitlines()) == 1


def test_losses_tell_models_apart(monkeypatch):
    import torch

    from recipes.study import memories_cells

    losses = {"deleted": torch.arange(40.0) + 100, "never": torch.arange(40.0), "again": torch.arange(40.0) + 0.5}
    monkeypatch.setattr(
        memories_cells, "losses_of", lambda model, *_: (2 * losses[model], torch.full((40,), 2.0), None)
    )
    said = memories_cells.told_apart(tuple(losses), [], None, memories_cells.TASKS["people"])
    assert said["p"] < 1e-6 and said["distance"] == 1 and said["p of two"] > 0.9 and said["losses"][2] == 20


def test_a_cell_that_was_run_again_takes_the_place_of_the_old_one():
    old = [found(), found(seed=1)]
    new = {**found(), "seconds": 9.0}
    assert [one["seconds"] for one in memories.over(old, [new])] == [9.0, 3.0]
    assert json.loads(json.dumps(memories.over([], old))) == old


def test_tables_are_the_same_by_their_bits_alone():
    import torch

    one = [{"values.0": torch.ones(2)}]
    assert same_bits(one, [{"values.0": torch.ones(2)}]) and not same_bits(one, [])
    assert not same_bits(one, [{"values.0": torch.tensor([1.0, 1.0001])}])


def test_a_name_of_two_words_lets_in_nobody_who_shares_one_of_them():
    import torch

    from hf_unlearn import MemoryConfig
    from recipes.study import memories_gates

    draw = torch.Generator().manual_seed(0)
    word = torch.randn(60, 64, generator=draw)

    def asked(*words):
        return word[[*words]]

    public = [asked(0, 1, 20 + i, 40 + i, 2) for i in range(18)]
    states = {"public": public, "learned": [asked(0, 1, 3, 4, 2), asked(2, 0, 3, 4, 1)]}
    states["asked otherwise"] = [asked(1, 0, 3, 4, 1)] * 2
    states["strangers"] = [asked(0, 1, 3, 45, 2), asked(0, 1, 25, 4, 2)]
    sizes = {"view_size": 32, "entries": 16, "top_k": 2, "entries_per_source": 4}
    owners = torch.zeros(2, dtype=torch.long)
    alone, two = (
        memories_gates.recognised(states, owners, MemoryConfig(layers=[0], window=w, **sizes)) for w in (1, 2)
    )
    assert two["learned"] == two["asked otherwise"] == (1.0, 0.0) and two["strangers"] == (0.0, 0.0)
    assert alone["learned"] == (1.0, 0.0) and alone["strangers"] == (0.0, 1.0)


def test_so_few_sources_that_none_would_be_left_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        memories.main(["--task", "people", "--sources", "20", "3", "--output_dir", str(tmp_path)])
    assert "--sources is 3; at least 4" in capsys.readouterr().err and not list(tmp_path.iterdir())
