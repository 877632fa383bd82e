"""Splits, pairs, orders and collators: the only place that knows column names.

A schedule is a data set or an order computed by index arithmetic from (seed, index): no random numbers in
`__getitem__`, no epoch state, so that it shards, resumes and repeats exactly.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .objectives import IGNORE_INDEX
from .options import raise_problems

logger = logging.getLogger(__name__)

INPUT_COLUMNS = ("input_ids", "pixel_values", "input_values", "input_features", "labels")
FLAG = "is_forget"  # (B,) bool: forget rows of a paired batch, revocable rows of a training batch
FORGET_INDEX = "forget_index"  # (B,) int64: place of a forget row in the forget set, -1 for retain rows
REFERENCE = "reference_nll"  # (N,) the sum of a forget row's losses before the request, in nats
FIRST_IDS = 5  # how many ids an error message names


# ---- splits ---------------------------------------------------------------------------------------------------------


def _first(ids: Sequence, limit: int = FIRST_IDS) -> str:
    shown = ", ".join(map(str, ids[:limit]))
    return shown + (f", … ({len(ids)} in all)" if len(ids) > limit else "")


def row_ids(dataset, id_column: str = "id") -> list:
    """The `id` column, or the row numbers where there is none."""
    return column_values(dataset, id_column) if id_column in _columns(dataset) else list(range(len(dataset)))


def _columns(dataset) -> list[str]:
    names = getattr(dataset, "column_names", None)
    if names is not None:
        return list(names)
    return list(dataset[0]) if len(dataset) and isinstance(dataset[0], Mapping) else []


def column_values(dataset, name: str) -> list:
    """A column as it is stored, whatever format or transform is set on the rows; also of a list of dicts."""
    if hasattr(dataset, "with_format"):
        return list(dataset.with_format(None)[name])
    return [dataset[i][name] for i in range(len(dataset))]


def _digest(value) -> bytes:
    if isinstance(value, (np.ndarray, np.number, np.bool_, bool, int, float)) or torch.is_tensor(value):
        value = np.asarray(value)  # 3, np.int64(3) and tensor(3) are the same content
        if value.dtype.kind in "OUS" and value.ndim:
            return b"[" + b",".join(_digest(v) for v in value.tolist()) + b"]"
        if value.dtype != object:
            if value.dtype.kind in "iub":  # a list of ints and an int32 array are the same content
                value = value.astype(np.int64)
            elif value.dtype.kind == "f":
                value = value.astype(np.float32)
            return f"{value.shape}".encode() + value.tobytes()
    if isinstance(value, (list, tuple)):
        try:
            return _digest(np.asarray(value))
        except ValueError:  # ragged
            return b"[" + b",".join(_digest(v) for v in value) + b"]"
    if isinstance(value, dict):
        return b"{" + b",".join(k.encode() + b":" + _digest(v) for k, v in sorted(value.items())) + b"}"
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL image
        return f"{value.mode}{value.size}".encode() + value.tobytes()
    return repr(value).encode()


def fingerprints(dataset, columns: Iterable[str]) -> list[bytes]:
    """Content hash of each row over `columns` (16 bytes each), in order."""
    columns = sorted(columns)
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None).select_columns(columns)
        if not any("Image" in str(f) or "Audio" in str(f) for f in dataset.features.values()):
            dataset = dataset.with_format("numpy")
    rows = (dataset[i] for i in range(len(dataset)))
    return [hashlib.blake2b(b"|".join(_digest(row[c]) for c in columns), digest_size=16).digest() for row in rows]


def find_duplicates(first, second, columns: Iterable[str] | None = None) -> list[tuple[int, int]]:
    """
    Pairs (i, j) such that row i of `first` has the same content as row j of `second`; for each j the first such i.

    Args:
        columns: what content means. Default: the model inputs and labels if there are any, else all but `id`.
    """
    shared = set(_columns(first)) & set(_columns(second))
    if columns is None:
        columns = [c for c in INPUT_COLUMNS if c in shared]
        if not set(columns) - {"labels"}:
            columns = sorted(shared - {"id"})
    seen: dict[bytes, int] = {}
    for i, key in enumerate(fingerprints(first, columns)):
        seen.setdefault(key, i)
    return [(seen[key], j) for j, key in enumerate(fingerprints(second, columns)) if key in seen]


def split(
    dataset,
    *,
    by: str,
    values: Sequence | None = None,
    fraction: float | None = None,
    column: str | None = None,
    group: str | None = None,
    seed: int = 0,
    unseen: float | Sequence = 0.1,
    duplicates: str = "move",
):
    """
    Divides rows into `forget`, `retain` and `unseen` (a `datasets.DatasetDict`). Pure in its arguments: the same call
    at training time and at request time keeps the same rows unseen.

    Args:
        by: `"id"` (values are row ids), `"class"` (values of the label column), `"column"` (values of `column`) or
            `"random"` (a `fraction` of the rows). With `fraction` instead of `values`, a seeded draw of distinct
            values (of classes, of authors, of ids).
        column: the column that `by` reads; default `id` for "id", `label` or `labels` for "class".
        group: unseen rows are drawn as whole groups of this column (all rows of a person); default `column` for
            `by="column"`, since rows of one person tell about each other; else single rows.
        unseen: share of the rows to keep out of training, drawn before the forget rows of "class" and "random", and
            from the rows that are not forgotten for "id" and "column". The draw depends on the other arguments: for
            another request to the same model, give the ids of the rows that were kept out instead.
        duplicates: rows of retain or unseen with the same content as a forget row are named in a warning and moved
            to forget (`"move"`), are an error (`"error"`), or stay (`"keep"`). Unseen rows with the same content as a
            retain row go to retain.

    Raises:
        ArgumentError: with all problems at once: no such column, id or value; no rows left for one of the three.
    """
    names = _columns(dataset)
    n = len(dataset)
    problems = []
    if by not in ("id", "class", "column", "random"):
        problems.append(f"`by` is {by!r}; it must be 'id', 'class', 'column' or 'random'.")
    if column is None:
        column = {"id": "id", "class": "label" if "label" in names else "labels"}.get(by)
    if by == "column" and column is None:
        problems.append("`by='column'` needs `column`, the name of the column that holds the values.")
    for name in {column, group} - {None}:
        if name not in names:
            problems.append(f"There is no column {name!r}; the rows have {', '.join(map(repr, names))}.")
    if by == "random" and values is not None:
        problems.append("`by='random'` takes `fraction`, not `values`.")
    if (values is None) == (fraction is None):
        problems.append("Give either `values` or `fraction`.")
    if fraction is not None and not 0 < fraction < 1:
        problems.append(f"`fraction` is {fraction!r}; it must be above 0 and below 1.")
    if isinstance(unseen, (int, float)) and not 0 < unseen < 1:
        problems.append(f"`unseen` is {unseen!r}; it must be above 0 and below 1: τ is measured on unseen rows.")
    if duplicates not in ("move", "error", "keep"):
        problems.append(f"`duplicates` is {duplicates!r}; it must be 'move', 'error' or 'keep'.")
    raise_problems(problems)

    rng = np.random.default_rng([seed, 1])
    keys = None if by == "random" else column_values(dataset, column)
    if by == "random":
        wanted = None
    elif values is None:
        distinct = sorted(set(keys), key=str)
        chosen = rng.permutation(len(distinct))[: max(1, round(fraction * len(distinct)))]
        wanted = {distinct[i] for i in chosen}
    else:
        wanted = _as_values(values, keys, dataset, column)
        missing = [v for v in wanted if v not in set(keys)]
        if missing:
            raise_problems([f"Not in the column {column!r}: {_first(missing)}."])
        wanted = set(wanted)

    is_forget = np.zeros(n, bool) if wanted is None else np.array([k in wanted for k in keys])
    drawn_first = by in ("class", "random")
    free = np.arange(n) if drawn_first else np.flatnonzero(~is_forget)
    group = group or (column if by == "column" else None)
    order = np.random.default_rng([seed, 2])
    if not isinstance(unseen, (int, float)):  # ids of the rows that were kept out of training
        known = set(map(str, unseen))
        is_unseen = np.array([str(i) in known for i in row_ids(dataset)])
        if by != "random" and (
            asked := [i for i, f, u in zip(row_ids(dataset), is_forget, is_unseen, strict=True) if f and u]
        ):
            raise_problems([f"{len(asked)} row(s) to forget were kept out of training, ids {_first(asked)}."])
    elif group is None:
        is_unseen = np.zeros(n, bool)
        is_unseen[order.permutation(free)[: max(1, round(unseen * len(free)))]] = True
    else:
        of = np.array([str(v) for v in column_values(dataset, group)])
        groups = np.unique(of[free])
        is_unseen = np.isin(of, order.permutation(groups)[: max(1, round(unseen * len(groups)))]) & (~is_forget)
    if by == "random":
        rest = np.flatnonzero(~is_unseen)
        is_forget[rng.permutation(rest)[: max(1, round(fraction * n))]] = True
    is_forget &= ~is_unseen

    parts = {"forget": is_forget, "retain": ~is_forget & ~is_unseen, "unseen": is_unseen}
    if duplicates != "keep":
        parts = _settle_duplicates(dataset, parts, duplicates, {column, group} if by == "column" else {group})
    raise_problems([f"No rows are left for {name!r}." for name, mask in parts.items() if not mask.any()])

    from datasets import DatasetDict

    return DatasetDict({name: dataset.select(np.flatnonzero(mask)) for name, mask in parts.items()})


def _as_values(values, keys, dataset, column) -> list:
    """Values as the column stores them: class names become class numbers, "3" becomes 3."""
    if isinstance(values, (str, int)):
        values = [values]
    feature = getattr(dataset, "features", {}).get(column)
    known = set(keys)
    by_text = {str(k): k for k in known}
    found = []
    for value in values:
        if value in known:
            found.append(value)
        elif hasattr(feature, "str2int") and value in feature.names:
            found.append(feature.str2int(value))
        else:
            found.append(by_text.get(str(value), value))
    return found


def _settle_duplicates(dataset, parts, duplicates, labels_of_groups):
    columns = [c for c in INPUT_COLUMNS if c in _columns(dataset)]
    if not set(columns) - {"labels"}:  # rows not yet encoded: all that is content
        columns = [c for c in _columns(dataset) if c not in {"id", *labels_of_groups}]
    prints = fingerprints(dataset, columns)
    ids = row_ids(dataset)
    parts = {name: mask.copy() for name, mask in parts.items()}
    forget = {prints[i] for i in np.flatnonzero(parts["forget"])}
    twins = [i for i in np.flatnonzero(~parts["forget"]) if prints[i] in forget]
    if twins:
        named = _first([ids[i] for i in twins])
        text = f"{len(twins)} row(s) outside the forget set have the content of a forget row, ids {named}"
        if duplicates == "error":
            raise_problems([f"{text}. Forget them too (`duplicates='move'`) or take them out of the data."])
        logger.warning("%s; they are moved to the forget set.", text)
        for mask in parts.values():
            mask[twins] = False
        parts["forget"][twins] = True
    retain = {prints[i] for i in np.flatnonzero(parts["retain"])}
    leaked = [i for i in np.flatnonzero(parts["unseen"]) if prints[i] in retain]
    if leaked:
        logger.warning(
            "%d unseen row(s) have the content of a retain row, ids %s; they are moved to retain.",
            len(leaked),
            _first([ids[i] for i in leaked]),
        )
        parts["unseen"][leaked] = False
        parts["retain"][leaked] = True
    return parts


# ---- checks ---------------------------------------------------------------------------------------------------------


def label_problems(name: str, dataset) -> list[str]:
    """Rows that carry no label at all, missing labels, and attention masks with holes; the rows' first ids."""
    columns = _columns(dataset)
    if "labels" not in columns and "label" not in columns:
        return [f"The {name} rows have no `labels` column; they have {', '.join(map(repr, columns))}."]
    problems, ids = [], row_ids(dataset)
    labels = column_values(dataset, "labels" if "labels" in columns else "label")
    empty = []
    for i, row in enumerate(labels):
        row = np.atleast_1d(np.asarray(row))
        row = row[1:] if row.size > 1 else row  # position 0 of a language model's row is never predicted
        if not (row != IGNORE_INDEX).any():
            empty.append(ids[i])
    if empty:
        problems.append(
            f"{len(empty)} {name} row(s) have all labels at {IGNORE_INDEX} and teach nothing, ids {_first(empty)}."
        )
    if "attention_mask" in columns:
        holes = []
        for i, mask in enumerate(column_values(dataset, "attention_mask")):
            on = np.flatnonzero(np.asarray(mask))
            if on.size and on[-1] - on[0] + 1 != on.size:
                holes.append(ids[i])
        if holes:
            problems.append(
                f"{len(holes)} {name} row(s) have holes in `attention_mask`, ids {_first(holes)}: a mask made by "
                "`input_ids != pad` where pad is also the end-of-text token. Use the tokenizer's mask."
            )
    return problems


def split_problems(forget, retain, unseen) -> list[str]:
    """All that is wrong with three sets of rows: empty, no labels, shared ids, shared content."""
    sets = {"forget": forget, "retain": retain, "unseen": unseen}
    problems = []
    for name, rows in sets.items():
        if rows is None or not hasattr(rows, "__len__"):
            problems.append(f"`{name}_dataset` is {type(rows).__name__}; it must be a data set with a length.")
        elif len(rows) == 0:
            problems.append(f"The {name} set is empty.")
        else:
            problems += label_problems(name, rows)
    if any(rows is None or not hasattr(rows, "__len__") or len(rows) == 0 for rows in sets.values()):
        return problems
    for a, b, fix in (
        ("forget", "retain", "A row cannot be forgotten and kept: take it out of one of them, or let `split` move it."),
        ("forget", "unseen", "Unseen rows must never have been trained on: τ would be too low and nothing forgotten."),
        ("retain", "unseen", "Unseen rows must never have been trained on: τ would be too low and nothing forgotten."),
    ):
        ids_a, ids_b = row_ids(sets[a]), row_ids(sets[b])
        shared = []
        if "id" in _columns(sets[a]) and "id" in _columns(sets[b]):
            known = set(ids_a)
            shared = [i for i in ids_b if i in known]
            if shared:
                problems.append(f"{len(shared)} id(s) are in {a} and in {b}: {_first(shared)}. {fix}")
        if not shared and (pairs := find_duplicates(sets[a], sets[b])):
            named = [f"{ids_a[i]} = {ids_b[j]}" for i, j in pairs]
            problems.append(
                f"{len(pairs)} {b} row(s) have the content of a {a} row ({a} = {b}): {_first(named)}. {fix}"
            )
    return problems


def reference_problems(forget) -> list[str]:
    """What is wrong with the forget rows' column of losses before the request, where they have one."""
    if not hasattr(forget, "__len__") or REFERENCE not in _columns(forget):
        return []
    ids = row_ids(forget)
    wrong = [i for i, x in zip(ids, column_values(forget, REFERENCE), strict=True) if not _is_loss(x)]
    if not wrong:
        return []
    return [
        f"The column {REFERENCE!r} must hold the sum of each forget row's losses before the request, in nats, a finite "
        f"number of at least 0; {len(wrong)} row(s) do not, ids {_first(wrong)}."
    ]


def _is_loss(value) -> bool:
    try:
        return math.isfinite(value) and value >= 0
    except TypeError:  # no number
        return False


def reference_losses(forget) -> list[float] | None:
    """The forget rows' column of losses before the request; None if they have none."""
    return list(map(float, column_values(forget, REFERENCE))) if REFERENCE in _columns(forget) else None


def revocable_problems(dataset, revocable: str | None) -> list[str]:
    """What is wrong with the training rows and with the column that names the revocable ones."""
    if dataset is None or not hasattr(dataset, "__len__"):
        return [f"`train_dataset` is {type(dataset).__name__}; readiness needs a data set with a length."]
    if len(dataset) == 0:
        return ["`train_dataset` is empty."]
    problems = label_problems("training", dataset)
    if revocable is None:
        return problems
    columns = _columns(dataset)
    if revocable not in columns:
        return problems + [
            f"`revocable` is {revocable!r}, but there is no such column; the rows have "
            f"{', '.join(map(repr, columns))}. Add a boolean column, or pass `revocable=None`: any row may be asked "
            "for."
        ]
    flags = column_values(dataset, revocable)
    wrong = [f for f in flags if not isinstance(f, (bool, np.bool_))]
    if wrong:
        problems.append(f"The column {revocable!r} must hold booleans; {len(wrong)} rows do not, e.g. {wrong[0]!r}.")
    elif not any(flags):
        problems.append(f"No row is revocable: the column {revocable!r} is False everywhere.")
    elif all(flags):
        problems.append(
            f"Every row is revocable; nothing is left to keep. Pass `revocable=None` instead of {revocable!r}."
        )
    return problems


def column_codes(dataset, name: str) -> tuple[dict, np.ndarray] | list[str]:
    """(value -> number, number (N,) of each row) of a column that names groups, or what is wrong with it."""
    columns = _columns(dataset)
    if name not in columns:
        listed = ", ".join(map(repr, columns))
        return [f"`request_group` is {name!r}, but there is no such column; the rows have {listed}."]
    values = column_values(dataset, name)
    wrong = [value for value in values if not isinstance(value, (str, int, np.integer, np.bool_))]
    if wrong:
        return [f"The column {name!r} of `request_group` must hold text or whole numbers; it holds {wrong[0]!r}."]
    codes = {value: i for i, value in enumerate(dict.fromkeys(values))}
    if len(codes) < 2:
        return [f"The column {name!r} of `request_group` has one value; a request for it would leave no rows."]
    return codes, np.array([codes[value] for value in values])


# ---- orders ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def permutation(n: int, *key: int) -> np.ndarray:
    """The permutation of range(n) that belongs to `key` (seed, pass, …); a pure function of its arguments."""
    return np.random.default_rng(key).permutation(n)


def spread_order(flags: np.ndarray | None, n: int, seed: int, epoch: int) -> np.ndarray:
    """
    Order of one epoch: a permutation of range(n) with the flagged rows spread evenly over it.

    Place p is a flagged one where floor((p + 1)·R/n) > floor(p·R/n), R of n rows being flagged, so each window of b
    places holds floor or ceil of b·R/n of them, whatever the batch size and the number of processes.
    """
    if flags is None or not flags.any():
        return permutation(n, seed, epoch, 0)
    flagged, others = np.flatnonzero(flags), np.flatnonzero(~flags)
    places = np.arange(n, dtype=np.int64)
    here = ((places + 1) * len(flagged)) // n > (places * len(flagged)) // n
    order = np.empty(n, dtype=np.int64)
    order[here] = flagged[permutation(len(flagged), seed, epoch, 1)]
    order[~here] = others[permutation(len(others), seed, epoch, 2)]
    return order


def draw_request(pool: np.ndarray, k: int, seed: int, turn: int) -> np.ndarray:
    """
    The `turn`-th simulated request: k of the row numbers in `pool` (all, where there are fewer). From turn to turn each
    row is drawn once before any is drawn twice; a pure function of its arguments.
    """
    n = len(pool)
    if k >= n:
        return pool[permutation(n, seed, turn, 6)]
    places = np.arange(turn * k, (turn + 1) * k)
    rounds = {r: permutation(n, seed, int(r), 6) for r in np.unique(places // n)}
    return pool[[rounds[p // n][p % n] for p in places]]


def draw_groups(codes: np.ndarray, k: int, seed: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    The `turn`-th simulated request for whole groups: random groups until they have k rows, never all of them.

    Args:
        codes: group (N,) of each row, 0 … G - 1.

    Returns:
        `(row numbers (k,) at most, chosen groups)`; a pure function of its arguments.
    """
    sizes = np.bincount(codes)
    order = permutation(len(sizes), seed, turn, 7)[: max(1, len(sizes) - 1)]
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), k)) + 1]
    rows = np.flatnonzero(np.isin(codes, chosen))
    return rows[permutation(len(rows), seed, turn, 8)][:k], chosen


class SpreadSampler(Sampler[int]):
    """
    [`spread_order`] as a sampler. The epoch comes from `epoch`, a function, and not from `set_epoch`, which does not
    reach a sampler on every path of a resumed run.
    """

    def __init__(self, flags: np.ndarray | None, n: int, seed: int, epoch: Callable[[], int]):
        self.flags, self.n, self.seed, self.epoch = flags, n, seed, epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self):
        return iter(spread_order(self.flags, self.n, self.seed, self.epoch()).tolist())


class PairedDataset(Dataset):
    """
    The schedule of a request as a data set: item i is `(forget row, retain row, place of the forget row)`.

    Pass e visits every forget row once, in the order of (seed, e). The retain rows go on across forget passes: each
    is seen once before any is seen twice. Read it in sequence.

    Args:
        passes: forget passes; the length is passes · |forget|.
    """

    def __init__(self, forget, retain, passes: int, seed: int):
        self.forget, self.retain, self.passes, self.seed = forget, retain, passes, seed

    def __len__(self) -> int:
        return self.passes * len(self.forget)

    def indices(self, i: int) -> tuple[int, int]:
        """(index of the forget row, index of the retain row) of item i."""
        forget_pass, place = divmod(i, len(self.forget))
        retain_pass, retain_place = divmod(i, len(self.retain))
        return (
            int(permutation(len(self.forget), self.seed, forget_pass, 3)[place]),
            int(permutation(len(self.retain), self.seed, retain_pass, 4)[retain_place]),
        )

    def __getitem__(self, i: int):
        return self.__getitems__([i])[0]

    def __getitems__(self, items: list[int]) -> list[tuple]:
        """A batch at once, as a loader asks for it: reading rows one by one costs a data set several times as much."""
        if wrong := [i for i in items if not 0 <= i < len(self)]:
            raise IndexError(wrong[0])
        places = [self.indices(i) for i in items]
        forget = _rows_at(self.forget, [f for f, _ in places])
        retain = _rows_at(self.retain, [r for _, r in places])
        return [(f, r, place) for f, r, (place, _) in zip(forget, retain, places, strict=True)]


def _rows_at(rows, places: list[int]) -> list:
    return rows.__getitems__(places) if hasattr(rows, "__getitems__") else [rows[i] for i in places]


# ---- collators ------------------------------------------------------------------------------------------------------


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


def _padding_side_mask(rows: list[dict]) -> list[dict]:
    return [row if "attention_mask" in row else {**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]


def default_collator(model, processing_class=None) -> Callable[[list[dict]], dict]:
    """
    The collator for a model's kind of rows: token rows are padded by `processing_class` (labels with -100 for a
    language model), all others are stacked. What the model's forward does not name is dropped.
    """
    from transformers import PreTrainedTokenizerBase, default_data_collator

    names = signature_columns(model)

    def collate(rows: list[dict]) -> dict:
        rows = [{k: v for k, v in row.items() if k in names} for row in rows]
        if "input_ids" not in rows[0] or not isinstance(processing_class, PreTrainedTokenizerBase):
            return default_data_collator(rows)
        rows = _padding_side_mask(rows)
        if np.ndim(rows[0].get("labels", 0)) == 1:
            return _PadLabels(processing_class)(rows)
        label = "labels" if "labels" in rows[0] else "label"
        batch = dict(
            processing_class.pad([{k: v for k, v in row.items() if k != label} for row in rows], return_tensors="pt")
        )
        if label in rows[0]:
            batch["labels"] = torch.tensor([int(row[label]) for row in rows])
        return batch

    return collate


def signature_columns(model) -> set[str]:
    """Names that the forward of a model takes, and the usual label names; looks through adapters and wrappers."""
    while hasattr(model, "module"):
        model = model.module
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return set(inspect.signature(model.forward).parameters) | {"label", "labels", "label_ids"}


class FlagCollator:
    """
    Wraps a collator. Rows with the column `flag` (bool), and pairs `(forget row, retain row, place)` of a
    [`PairedDataset`], become one flat batch with `is_forget (B,)`: forget rows first, then retain rows.

    Args:
        codes: value of the column -> number, where it names groups: `is_forget` then holds these numbers.
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
        if isinstance(rows[0], tuple):
            places = [place for _, _, place in rows] + [-1] * len(rows)
            batch = self._collate([f for f, _, _ in rows] + [r for _, r, _ in rows])
            batch[FORGET_INDEX] = torch.tensor(places)
            batch[FLAG] = batch[FORGET_INDEX] >= 0
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
        return dict(self.collator(rows))


def select_rows(batch: dict, mask: torch.Tensor) -> dict:
    """The rows of a flat batch where mask (B,) is True, without the flags. Tensors of another length are kept whole."""
    n = len(mask)
    return {
        k: v[mask] if torch.is_tensor(v) and v.dim() and len(v) == n else v
        for k, v in batch.items()
        if k not in (FLAG, FORGET_INDEX)
    }


def count_labels(labels: torch.Tensor) -> torch.Tensor:
    """Labels that a batch teaches, (): (B, T) of a causal language model without position 0, or (B,)."""
    return (labels[:, 1:] if labels.dim() == 2 else labels).ne(IGNORE_INDEX).sum()
