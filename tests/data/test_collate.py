"""From rows to batches: padding, labels, flags, and what is asked of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import bert, image_rows, lm, lm_list, text_class_rows, tokenizer, vit
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from hf_unlearn import ArgumentError, collect, default_collator, split
from hf_unlearn.data import batch, order
from hf_unlearn.data.batch import select_rows
from hf_unlearn.data.collate import FlagCollator, check_labels, signature_columns
from hf_unlearn.data.columns import FLAG, FORGET_INDEX
from hf_unlearn.data.limits import limits_of
from hf_unlearn.data.order import PairedDataset


@pytest.mark.parametrize("side", ["right", "left"])
def test_language_rows_are_padded_on_the_tokenizers_side(side):
    rows = lm_list(4)
    rows[0].pop("attention_mask"), rows[1].pop("attention_mask")
    batch = default_collator(lm(), tokenizer(side))(rows[:2])
    width = max(len(row["input_ids"]) for row in rows[:2])
    for i, row in enumerate(rows[:2]):
        n = len(row["input_ids"])
        real = slice(0, n) if side == "right" else slice(width - n, width)
        assert batch["input_ids"][i, real].tolist() == row["input_ids"]
        assert batch["labels"][i, real].tolist() == row["labels"]
        assert batch["attention_mask"][i].sum() == n and batch["attention_mask"][i, real].all()
        assert (batch["labels"][i] != -100).sum() == sum(y != -100 for y in row["labels"])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_a_mask_of_its_own_is_kept_where_pad_is_a_token_of_the_text():
    row = {"input_ids": [5, 0, 6], "attention_mask": [1, 1, 1], "labels": [5, 0, 6]}
    longer = {"input_ids": [5, 6, 7, 8], "attention_mask": [1] * 4, "labels": [5, 6, 7, 8]}
    batch = default_collator(lm(), tokenizer())([row, longer])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist()[0] == [5, 0, 6, -100]


def test_classifier_and_image_rows():
    batch = default_collator(bert(), tokenizer())(list(text_class_rows(3)))
    assert batch["labels"].tolist() == [0, 1, 2] and batch["input_ids"].shape[0] == 3 and "id" not in batch
    renamed = [{("label" if k == "labels" else k): v for k, v in row.items()} for row in text_class_rows(3)]
    assert default_collator(bert(), tokenizer())(renamed)["labels"].tolist() == [0, 1, 2]
    named = [{**row, "label": word} for row, word in zip(text_class_rows(3), "abc", strict=True)]  # beside `labels`
    assert set(default_collator(bert(), tokenizer())(named)) == set(default_collator(bert(), tokenizer())(renamed))
    named = [{**row, "label": word} for row, word in zip(image_rows(3), "abc", strict=True)]
    assert default_collator(vit())(named)["labels"].tolist() == [0, 1, 2]
    batch = default_collator(vit())(list(image_rows(3)))
    assert batch["pixel_values"].shape == (3, 1, 8, 8) and batch["labels"].tolist() == [0, 1, 2]
    assert set(batch) == {"pixel_values", "labels"}


def test_flags_of_pairs_and_of_revocable_rows():
    collator = FlagCollator(default_collator(lm(), tokenizer()), None, "revocable")
    rows = lm_list(9)
    batch = collator(rows[3:6])
    assert batch[FLAG].tolist() == [False, True, False] and batch[FLAG].dtype == torch.bool
    batch = collator([(rows[0], rows[6], 5), (rows[1], rows[7], 2)])
    assert batch[FLAG].tolist() == [True, True, False, False]
    assert batch[FORGET_INDEX].tolist() == [5, 2, -1, -1]
    for i, row in enumerate((rows[0], rows[1], rows[6], rows[7])):
        assert batch["input_ids"][i, : len(row["input_ids"])].tolist() == row["input_ids"]
    plain = collator([{k: v for k, v in row.items() if k != "revocable"} for row in rows[:2]])
    assert FLAG not in plain


def test_a_users_collator_does_not_see_the_flag_and_with_names_only_those():
    seen = []

    def mine(rows):
        seen.extend(rows)
        return {"labels": torch.zeros(len(rows))}

    FlagCollator(mine, None, "revocable")(lm_list(1))
    FlagCollator(mine, {"labels"}, "revocable")(lm_list(1))
    assert set(seen[0]) == {"id", "input_ids", "attention_mask", "labels"} and set(seen[1]) == {"labels"}


def test_select_rows_cuts_what_has_a_row_each_and_drops_the_flags():
    mask = torch.tensor([True, False, True])
    batch = {"x": torch.arange(6).view(3, 2), "table": torch.zeros(4, 2), "k": 3}
    batch |= {FLAG: mask, FORGET_INDEX: mask.long()}
    part = select_rows(batch, mask)
    assert set(part) == {"x", "table", "k"}
    assert part["x"].tolist() == [[0, 1], [4, 5]] and len(part["table"]) == 4 and part["k"] == 3


def test_labels_are_counted_without_the_place_that_is_never_predicted():
    assert int(batch.count_labels(torch.tensor([[5, 1, -100], [-100, 2, 3]]))) == 3
    assert int(batch.count_labels(torch.tensor([5, -100, 1]))) == 2


def test_another_request_keeps_the_rows_unseen_that_were_kept_out():
    rows = Dataset.from_list([{"id": i, "who": i // 4, "text": f"row {i}"} for i in range(80)])
    first = split(rows, by="column", column="who", values=list(range(10)), unseen=0.2)
    out = first["unseen"]["id"]
    again = split(rows, by="column", column="who", values=[3], unseen=out)
    assert list(again["unseen"]["id"]) == list(out)
    assert set(again["forget"]["id"]) == {12, 13, 14, 15}
    trained = set(first["forget"]["id"]) | set(first["retain"]["id"])
    assert set(again["forget"]["id"]) | set(again["retain"]["id"]) == trained
    with pytest.raises(ArgumentError, match="4 row.s. to forget were kept out of training"):
        split(rows, by="column", column="who", values=[first["unseen"]["who"][0]], unseen=out)


def test_rows_with_the_same_content_are_twins_whoever_they_belong_to():
    rows = [{"id": i, "who": i % 5, "text": f"row {i}"} for i in range(40)] + [{"id": 99, "who": 4, "text": "row 0"}]
    parts = split(Dataset.from_list(rows), by="column", column="who", values=[0], unseen=0.25)
    assert 99 in parts["forget"]["id"]


@pytest.mark.parametrize("make", [list, Dataset.from_list], ids=["list", "arrow"])
def test_pairs_read_as_a_batch_are_the_pairs_read_one_by_one(make):
    forget, retain = ([{"id": i} for i in range(start, start + n)] for start, n in ((0, 5), (100, 7)))
    pairs = PairedDataset(make(forget), make(retain), 3, 42)
    places = [14, 0, 3, 7, 7]
    wanted = [(forget[f], retain[r], f) for f, r in map(pairs.indices, places)]
    assert pairs.__getitems__(places) == wanted == [pairs[i] for i in places]
    with pytest.raises(IndexError):
        pairs.__getitems__([0, 15])


def test_drawn_requests_use_each_row_once_before_any_twice_and_depend_on_nothing_else():
    pool = np.array([3, 5, 8, 13, 21, 34, 55])
    turns = [order.draw_request(pool, 3, 1, turn) for turn in range(7)]
    drawn = np.concatenate(turns).reshape(3, 7)
    assert all(sorted(part) == pool.tolist() for part in drawn) and not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(order.draw_request(pool, 3, 1, 4), turns[4])
    assert sorted(order.draw_request(pool, 9, 1, 4)) == pool.tolist()
    assert not np.array_equal(order.draw_request(pool, 3, 2, 0), turns[0])


def test_drawn_groups_are_whole_until_there_are_rows_enough_and_never_all():
    codes = np.repeat(np.arange(5), [4, 1, 6, 2, 3])
    for turn in range(20):
        rows, chosen = order.draw_groups(codes, 5, 0, turn)
        assert len(rows) == min(5, np.isin(codes, chosen).sum()) and len(set(rows)) == len(rows)
        assert np.isin(codes[rows], chosen).all() and len(chosen) < 5
        assert np.isin(codes, chosen[:-1]).sum() < 5  # none too many
    everything, chosen = order.draw_groups(codes, 100, 0, 0)
    assert len(chosen) == 4 and len(everything) == np.isin(codes, chosen).sum()


def test_a_collator_that_joins_rows_is_refused_by_name():
    from transformers import DataCollatorWithFlattening

    rows = [{k: v for k, v in row.items() if k in ("input_ids", "labels")} for row in lm_list(4)]
    with pytest.raises(ValueError, match=r"DataCollatorWithFlattening\) has made `labels` of shape \(1, .* of 2 rows"):
        FlagCollator(DataCollatorWithFlattening(), None, "revocable")([{**row, "revocable": True} for row in rows[:2]])
    with pytest.raises(ValueError, match="of 4 rows; .* a line for each row"):
        FlagCollator(DataCollatorWithFlattening(), None)([(rows[0], rows[1], 0), (rows[2], rows[3], 1)])


@pytest.mark.parametrize("kind", ["text", "image"])
def test_names_of_classes_beside_their_numbers_do_not_reach_the_batch(kind):
    rows = text_class_rows(4).to_list() if kind == "text" else image_rows(4).to_list()
    model, tokens = (bert(), tokenizer()) if kind == "text" else (vit(), None)
    named = [{**row, "label": f"class {row['labels']}"} for row in rows]
    batch = default_collator(model, tokens)(named)
    assert batch["labels"].tolist() == [row["labels"] for row in rows] and "label" not in batch


def as_a_tuple(rows):
    return tuple(default_collator(lm(), tokenizer())(rows).values())


def as_arrays(rows):
    return {name: value.numpy() for name, value in default_collator(lm(), tokenizer())(rows).items()}


@pytest.mark.parametrize("make, what", [(as_a_tuple, "a batch of type tuple"), (as_arrays, "`labels` of type ndarray")])
def test_a_collator_that_makes_no_tensors_by_name_is_named(make, what):
    said = f"`data_collator` \\({make.__name__}\\) has made {what}; it must make a dict of PyTorch tensors"
    with pytest.raises(ValueError, match=said):
        FlagCollator(make, None)(lm_list(2))
    with pytest.raises(ValueError, match=said):
        collect(lm(), lm_list(2), make)


def test_a_compiled_model_takes_the_columns_of_the_model_inside():
    compiled = torch.nn.Module()  # as `torch.compile` makes one, whose import takes seconds
    compiled._orig_mod, compiled.forward = lm(), lambda *args, **kwargs: None
    assert signature_columns(compiled) == signature_columns(lm())
    assert limits_of(compiled) == limits_of(lm())


def test_a_batch_of_a_loader_of_ones_own_must_say_which_rows_are_to_be_forgotten():
    batch = default_collator(lm(), tokenizer())(lm_list(2))
    check_labels(batch, None)
    with pytest.raises(ValueError, match="no 'is_forget'. A data loader of your own must read the trainer's"):
        check_labels(batch, None, flagged=True)
    check_labels({**batch, FLAG: torch.tensor([True, False])}, None, flagged=True)


def sounds(lengths) -> list[dict]:
    return [{"input_values": [float(i)] * n, "label": i} for i, n in enumerate(lengths)]


def test_sounds_of_unlike_lengths_are_padded_by_the_feature_extractor_and_others_stacked():
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    for processing_class in (extractor, Wav2Vec2Processor(extractor, tokenizer())):
        collate = default_collator(AudioClassifier(), processing_class)
        batch = collate(sounds([3, 5]))
        assert batch["input_values"].tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
        assert batch["labels"].tolist() == [0, 1]
        assert set(collate(sounds([5, 5]))) == {"input_values", "labels"}
    without = default_collator(AudioClassifier(), Wav2Vec2FeatureExtractor(return_attention_mask=False))
    assert set(without(sounds([3, 5]))) == {"input_values", "labels"}


class AudioClassifier(torch.nn.Module):
    def forward(self, input_values, attention_mask=None, labels=None):
        raise NotImplementedError
