"""From rows to batches: padding, and which rows of a batch are forget rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import numpy as np
import torch

from ..objectives.row_nll import IGNORE_INDEX
from .columns import ALTERNATES, FLAG, FORGET_INDEX, INPUT_COLUMNS, RETAIN_INDEX
from .limits import bare_model, sound_padder

OTHER_LABELS = ("label", "label_ids")  # what the stock collators take where there are no `labels`
LABEL_NAMES = ("labels", *OTHER_LABELS)


class _PadLabels:
    """Pads language-model rows with the tokenizer and their labels with -100, on the tokenizer's side."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict]) -> dict:
        labels = [list(row["labels"]) for row in rows]
        batch = self.tokenizer.pad(
            [{k: v for k, v in row.items() if k != "labels"} for row in rows], return_tensors="pt"
        )
        width = batch["input_ids"].shape[1]
        left = self.tokenizer.padding_side == "left"
        fill = [[IGNORE_INDEX] * (width - len(y)) for y in labels]
        batch["labels"] = torch.tensor([f + y if left else y + f for y, f in zip(labels, fill, strict=True)])
        return dict(batch)


def _stacked(collator: Callable, rows: list[dict]) -> dict:
    """
    Raises:
        ValueError: where token rows of unlike lengths would have to be padded.
    """
    try:
        return collator(rows)
    except ValueError as error:
        if len({len(row["input_ids"]) for row in rows if "input_ids" in row}) < 2:
            raise
        raise ValueError(
            "The rows have unlike lengths and nothing pads them: pass the tokenizer as `processing_class`, or a "
            "`data_collator` that pads."
        ) from error


def _padded_sounds(padder, rows: list[dict]) -> dict:
    """Sounds as the feature extractor pads them, with its mask where the model was trained with one; and labels."""
    from transformers import default_data_collator

    parts = {True: [], False: []}
    for row in rows:
        for of_labels, part in parts.items():
            part.append({k: v for k, v in row.items() if (k in LABEL_NAMES) == of_labels})
    return {**padder.pad(parts[False], return_tensors="pt"), **default_data_collator(parts[True])}


def _padding_side_mask(rows: list[dict]) -> list[dict]:
    return [row if "attention_mask" in row else {**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]


def default_collator(model, processing_class=None) -> Callable[[list[dict]], dict]:
    """
    The collator for a model's kind of rows: token rows are padded by `processing_class` (labels with -100 for a
    language model), sounds of unlike lengths by a feature extractor or the one in a processor, all others are stacked.
    Of several labels a row, lists of 0 and 1, `labels` is (B, C) float32.
    What the model's forward does not name is dropped.
    """
    from transformers import PreTrainedTokenizerBase, default_data_collator

    names, padder = signature_columns(model), sound_padder(processing_class)

    def collate(rows: list[dict]) -> dict:
        numbered = "labels" in rows[0]  # beside them, `label` may hold the classes' names
        rows = [{k: v for k, v in row.items() if k in names and not (numbered and k in OTHER_LABELS)} for row in rows]
        if padder is not None and len({len(row.get(padder.model_input_names[0], ())) for row in rows}) > 1:
            batch = _padded_sounds(padder, rows)
            return {name: values for name, values in batch.items() if name in names}
        if "input_ids" not in rows[0] or not isinstance(processing_class, PreTrainedTokenizerBase):
            return _stacked(default_data_collator, rows)
        rows = _padding_side_mask(rows)
        if np.ndim(rows[0].get("labels", 0)) == 1 and not _with_a_point(rows[0]["labels"]):
            return _PadLabels(processing_class)(rows)
        label = "labels" if "labels" in rows[0] else "label"
        batch = dict(
            processing_class.pad([{k: v for k, v in row.items() if k != label} for row in rows], return_tensors="pt")
        )
        if label in rows[0]:
            several = np.ndim(rows[0][label]) == 1  # labels a row, each of them there or not
            own = np.stack([np.asarray(row[label], np.float32) for row in rows]) if several else None
            batch["labels"] = torch.from_numpy(own) if several else torch.tensor([int(row[label]) for row in rows])
        return batch

    return collate


def _with_a_point(labels) -> bool:
    """Whether a row's labels are numbers with a point, of several labels a row, and no token ids."""
    return torch.is_floating_point(labels) if torch.is_tensor(labels) else np.asarray(labels).dtype.kind == "f"


def signature_columns(model) -> set[str]:
    """Names that the forward of a model takes, and the usual label names; looks through adapters and wrappers."""
    return set(inspect.signature(bare_model(model).forward).parameters) | {"label", "labels", "label_ids"}


def made_by(collator: Callable, rows: list[dict]) -> Mapping:
    """
    The batch that a collator makes of some rows.

    Raises:
        ValueError: if it is no dict, or its labels are no tensor.
    """
    batch = collator(rows)
    labels = batch.get("labels") if isinstance(batch, Mapping) else batch
    if labels is None or (torch.is_tensor(labels) and labels is not batch):
        return batch
    what = "a batch" if labels is batch else "`labels`"
    raise ValueError(
        f"`data_collator` ({_named(collator)}) has made {what} of type {type(labels).__name__}; it must make a dict of "
        "PyTorch tensors, such as `hf_unlearn.default_collator(model, processing_class)` makes."
    )


def _named(collator: Callable) -> str:
    return getattr(collator, "__name__", type(collator).__name__)


def check_labels(batch: Mapping, collator: Callable, flagged: bool = False) -> None:
    """
    For a batch that is to be learnt from.

    Args:
        flagged: it is to say which part each row plays.

    Raises:
        ValueError: if it holds no labels, or does not say that.
    """
    if flagged and FLAG not in batch:
        raise ValueError(
            f"A batch does not say which rows are to be forgotten: it holds {', '.join(map(repr, batch))} and no "
            f"{FLAG!r}. A data loader of your own must read the trainer's `train_dataset` with its `data_collator`, "
            "both as the trainer has made them."
        )
    if "labels" not in batch:
        name = _named(getattr(collator, "collator", collator))
        raise ValueError(
            f"`data_collator` ({name}) has made a batch without `labels`; it holds {', '.join(map(repr, batch))}. Give "
            "the rows a column `labels`, or pass a collator that makes labels, such as `DataCollatorForLanguageModeling"
            "(tokenizer, mlm=False)` for a language model."
        )


class FlagCollator:
    """
    Wraps a collator. Rows with the column `flag` (bool), and pairs `(forget row, retain row, place)` of a
    [`PairedDataset`], become one flat batch with `is_forget (B,)`: forget rows first, then retain rows.

    Args:
        codes: value of the column -> number, where it names groups: `is_forget` then holds these numbers.

    Raises:
        ValueError: if the collator makes a batch of another number of rows.
    """

    def __init__(
        self,
        collator: Callable[[list[dict]], dict],
        names: set[str] | None,
        flag: str | None = None,
        codes: Mapping | None = None,
    ):
        self.collator, self.names, self.flag, self.codes = collator, names, flag, codes

    def __call__(self, rows: list) -> dict:
        if isinstance(rows[0], list):  # a micro-batch at once, of a [`ReplaySchedule`]
            (rows,) = rows
        if isinstance(rows[0], tuple):
            forget, retain, places, *more = zip(*rows, strict=True)
            batch = self._collate([*forget, *retain])
            batch[FORGET_INDEX] = torch.tensor([*places, *[-1] * len(rows)])
            batch[FLAG] = batch[FORGET_INDEX] >= 0
            if more:  # of a numbered data set
                batch[RETAIN_INDEX] = torch.tensor([*[-1] * len(rows), *more[0]])
                if more[1][0] is not None:
                    batch[ALTERNATES] = self._collate(list(more[1]))
            return batch
        flags = None
        if self.flag and self.flag in rows[0]:
            flags = [row[self.flag] for row in rows]
            if self.codes is not None:  # -1: of no group that was trained on
                flags = [self.codes.get(getattr(f, "item", lambda f=f: f)(), -1) for f in flags]
            else:
                flags = [bool(f) for f in flags]
        batch = self._collate(rows)
        if flags is not None:
            batch[FLAG] = torch.tensor(flags)
        return batch

    def _collate(self, rows: list[dict]) -> dict:
        if self.names is not None:
            rows = [{k: v for k, v in row.items() if k in self.names} for row in rows]
        elif self.flag and self.flag not in INPUT_COLUMNS:
            rows = [{k: v for k, v in row.items() if k != self.flag} for row in rows]
        batch = dict(made_by(self.collator, rows))
        labels = batch.get("labels")
        if torch.is_tensor(labels) and (labels.dim() == 0 or len(labels) != len(rows)):
            raise ValueError(
                f"`data_collator` ({_named(self.collator)}) has made `labels` of shape {tuple(labels.shape)} of "
                f"{len(rows)} rows; these trainers take a batch with a line for each row. Use a collator that pads "
                "rows, such as `hf_unlearn.default_collator(model, processing_class)`, and not one that joins them."
            )
        return batch
