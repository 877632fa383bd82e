"""What is wrong with the rows of one set, told by their ids, before a model runs on them."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from ..objectives.row_nll import IGNORE_INDEX
from . import packed_rows
from .columns import IMAGE_LIKE, INPUT_COLUMNS, LABELS, column_names, first_ids, hidden_column, row_ids
from .limits import Limits
from .read_once import Large, batches, read_once
from .stored import Flat, kind_of_value

logger = logging.getLogger(__name__)

PER_TOKEN = ("attention_mask", "token_type_ids", "position_ids")  # as long as `input_ids`
CAST = "cast them: `rows = rows.cast_column({0!r}, Value('int64'))`"
FIXES = {  # kind of value that is no whole number -> what to do, of labels
    "text": "map names to numbers before you split, so that a number means one class in all sets: "
    "`rows = rows.class_encode_column({0!r})`.",
    "bool": "where these are two classes, " + CAST + ".",
    "float": "regression cannot be unlearned; where they are classes, " + CAST + ".",
    "none": "take these rows out: `rows = rows.filter(lambda row: row[{0!r}] is not None)`.",
    "other": "a label is one whole number a row, one a token, or of several labels a row a list of 0.0 and 1.0.",
}
SEVERAL_WANTED = "a list with 0.0 or 1.0 for each of the model's labels"
UNPADDED = dict.fromkeys(  # columns of sounds -> what to do where rows have unlike lengths
    IMAGE_LIKE[1:],
    "pass the feature extractor as `processing_class`, which pads them, or a `data_collator` that does.",
)
KINDS = {
    "text": "text",
    "bool": "true or false",
    "float": "numbers with a point",
    "none": "None",
    "other": "no numbers",
}


class Found:
    """Rows by what is wrong with them: what, and the fix -> (their places, an example)."""

    def __init__(self):
        self.of: dict[tuple[str, str], tuple[list[int], str]] = {}
        self.padded: list[int] = []  # rows with labels where their mask is 0, which is a warning and no problem

    def add(self, places: np.ndarray | list[int], what: str, fix: str = "", example: str = "") -> None:
        if len(places):
            self.of.setdefault((what, fix), ([], example))[0].extend(int(place) for place in places)

    def sentences(self, name: str, ids: list) -> list[str]:
        """One for each kind of problem: how many rows of the set have it, and the ids of the first."""
        told = []
        for (what, fix), (places, example) in self.of.items():
            places = sorted(set(places))
            such = f" such as {example}" if example else ""
            end = f": {fix}" if fix else "."
            told.append(f"{len(places)} {name} row(s) {what}{such}, ids {first_ids([ids[i] for i in places])}{end}")
        return told


def row_problems(
    name: str, rows: Any, limits: Limits | None = None, plain: bool = True, warn: bool = True
) -> list[str]:
    """
    All that is wrong with the rows of one set, which is not empty.

    Args:
        name: of the set, for the sentences.
        limits: what the model takes.
        plain: the default collator makes the batches, so that the columns are those that the model gets. A collator of
            one's own, or a transform of the rows, may make others of them.
        warn: also tell, in the log, of labels on padding, which need not be wrong. False: that was told.
    """
    limits = limits or Limits()
    own_collator, plain = not plain, plain and not has_transform(rows)
    rows = read_once(rows)
    columns = column_names(rows)
    found = Found()
    found.add(getattr(rows, "unlike", []), f"have other keys than the first row ({', '.join(map(repr, columns))})")
    ids, problems = ids_of(name, rows)
    if found.of:
        return found.sentences(name, ids) + problems
    if plain and (raw := not_encoded(name, rows, columns, limits)):
        return [raw, *problems]
    label = next((c for c in LABELS if c in columns), None)
    if label is None and not own_collator:  # a collator of one's own may make them of the tokens
        lm = ". The labels of a language model are its tokens: " if limits.causal_lm and "input_ids" in columns else "."
        fix = '`rows = rows.map(lambda row: {"labels": row["input_ids"]})`.' if lm != "." else ""
        listed = ", ".join(map(repr, columns))
        return [f"The {name} rows have no `labels` column; they have {listed}{lm}{fix}", *problems]
    if not own_collator and not any(column in rows[0] for column in LABELS):
        return [f"The {name} {problem}" for problem in hidden_column(rows, label)] + problems
    wanted = {label, "input_ids", *PER_TOKEN, *(IMAGE_LIKE if plain else ())} & set(columns)
    shapes: dict[str, np.ndarray] = {}
    for start, part in batches(rows, wanted):
        check = _Batch(found, start, part, limits, plain)
        check.all(label)
        for column, own in check.shapes.items():
            shapes.setdefault(column, own[:1])
            if limits.pads == (column, np.ndim(rows[0][column])):
                continue
            what = f"have `{column}` of another shape than the first row"
            found.add(np.flatnonzero(own != shapes[column]) + start, what, UNPADDED.get(column, ""))
    if found.padded and warn:
        logger.warning(
            "%d %s row(s) have labels where `attention_mask` is 0, ids %s: the loss counts the padding, too. Where "
            "that is not meant, set these labels to %d.",
            len(found.padded),
            name,
            first_ids([ids[i] for i in found.padded]),
            IGNORE_INDEX,
        )
    return found.sentences(name, ids) + problems


def has_transform(rows: Any) -> bool:
    """Whether rows are changed when they are read (`with_transform`)."""
    return getattr(rows, "format", None) is not None and rows.format.get("type") == "custom"


def transform_problems(name: str, rows: Any, limits: Limits) -> list[str]:
    """Whether a transform of the rows needs a column that `remove_unused_columns=True` takes from it."""
    unused = [c for c in column_names(rows) if c not in (limits.arguments or ()) and c not in LABELS]
    if not has_transform(rows) or limits.arguments is None or not unused:
        return []
    try:
        _ = rows.select([0]).remove_columns(unused)[0]
    except KeyError as error:
        return [
            f"The transform of the {name} rows reads the column {error}, which `remove_unused_columns` takes out, "
            "since the model does not name it. Pass `remove_unused_columns=False`."
        ]
    return []


def ids_of(name: str, rows: Any) -> tuple[list, list[str]]:
    """Ids of the rows, their numbers where they have none that can be used; and what is wrong with those."""
    numbers = list(range(len(rows)))
    if "id" not in column_names(rows):
        return numbers, []
    ids, allowed = row_ids(rows), (str, int, np.integer)
    wrong = [i for i, value in enumerate(ids) if value == "" or not isinstance(value, allowed)]
    if not wrong:
        return ids, []
    value = ids[wrong[0]]
    empty = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    return numbers, [
        f"{len(wrong)} {name} row(s) have {'no `id`' if empty else 'an `id` such as ' + repr(value)}, row numbers "
        f"{first_ids(wrong)}: an id is text or a whole number, and stands for one row."
    ]


def not_encoded(name: str, rows: Any, columns: list[str], limits: Limits) -> str | None:
    """What to do with rows that hold none of the model's inputs, such as text that is not tokenized."""
    inputs = limits.arguments or {*INPUT_COLUMNS, "inputs_embeds", "bbox"}
    if not columns or set(columns) & (inputs - {*LABELS, *PER_TOKEN}):
        return None
    first, features = rows[0], getattr(rows, "features", None) or {}
    pictures = [c for c in columns if "Image" in type(features.get(c)).__name__ or hasattr(first[c], "mode")]
    texts = [c for c in columns if isinstance(first[c], str) and c not in ("id", *LABELS)]
    texts = sorted(texts, key=lambda c: c != "text")  # a column of that name first
    arguments = limits.arguments or {"pixel_values"}  # not known: what the rows hold tells
    if pictures and "pixel_values" in arguments and "input_ids" not in arguments:
        return (
            f"The {name} rows hold images ({pictures[0]!r}) that are not prepared. Run the image processor first: `"
            f'rows = rows.map(lambda row: {{"pixel_values": processor(row[{pictures[0]!r}])["pixel_values"][0]}})`.'
        )
    if texts and "input_ids" in (limits.arguments or {"input_ids"}):
        line = f"`rows = rows.map(lambda row: tokenizer(row[{texts[0]!r}], truncation=True))`"
        lm = limits.causal_lm or (limits.causal_lm is None and not set(columns) & set(LABELS))
        labels = ', then `rows = rows.map(lambda row: {"labels": row["input_ids"]})`' if lm else ""
        return (
            f"The {name} rows hold text ({', '.join(map(repr, texts))}) that is not tokenized. Tokenize first: {line}"
            f"{labels}."
        )
    if limits.arguments is None:
        return None
    return (
        f"The {name} rows have none of the model's inputs; they have {', '.join(map(repr, columns))}, the model takes "
        f"{', '.join(sorted(limits.arguments)[:12])}."
    )


class _Batch:
    """The checks of some rows at a time; what is wrong goes into `found`."""

    def __init__(self, found: Found, start: int, part: dict[str, Any], limits: Limits, plain: bool):
        self.found, self.start, self.part, self.limits, self.plain = found, start, part, limits, plain
        self.shapes: dict[str, np.ndarray] = {}  # column of pictures or sounds -> shape of each row, as a hash

    def add(self, places, what: str, fix: str = "", example: str = "") -> None:
        self.found.add(np.asarray(places, np.int64) + self.start, what, fix, example)

    def all(self, label: str | None) -> None:
        inputs = self.tokens()
        if inputs is not None:
            for column in PER_TOKEN:
                self.mask(column, inputs)
        if label is not None:
            self.labels(label, inputs)
        for column in IMAGE_LIKE:
            if column in self.part:
                self.picture(column)

    def flat(self, column: str, fixes: dict[str, str], kinds: tuple[str, ...] = ("whole",)) -> Flat | None:
        """
        The column laid flat, if all its values are of these kinds; what is not is told, but where others than the
        default collator make something else of it.
        """
        array = self.part[column]
        if not self.plain:
            flat = None if isinstance(array, list) else Flat(array)
            return flat if flat is not None and flat.kind in kinds and not len(flat.missing) else None
        if isinstance(array, list):  # values of unlike types, or such as Arrow has no type for
            found = [kind_of_value(value) for value in array]
            for kind in dict.fromkeys(found):
                if kind not in kinds:
                    self.wrong_kind(column, kind, [i for i, own in enumerate(found) if own == kind], fixes)
            if set(found) <= set(kinds):
                odd = [i for i, value in enumerate(array) if np.ndim(value) != np.ndim(array[0])]
                self.add(odd or range(len(array)), f"have `{column}` of another shape or type than the first row")
            return None
        flat = Flat(array)
        self.wrong_kind(column, "none", flat.missing, fixes)
        if flat.kind == "none" or (flat.kind not in kinds and self.only_whole(flat, kinds)):
            return None if flat.kind == "none" else flat
        if flat.kind in kinds:
            return flat
        values, owner = flat.numbers()
        if (
            flat.kind == "float" and (broken := values != np.round(values)).any()
        ):  # whole ones beside them are floats, too
            values, owner = values[broken], owner[broken]
        example = repr(values[0].item() if hasattr(values[0], "item") else values[0])[:40] if len(values) else ""
        self.wrong_kind(column, flat.kind, np.unique(owner), fixes, example)
        return None

    @staticmethod
    def only_whole(flat: Flat, kinds: tuple[str, ...]) -> bool:
        """Whether floats are there only since a None stands among whole numbers, which makes floats of them."""
        if flat.kind != "float" or "whole" not in kinds or not len(flat.missing):
            return False
        values = flat.numbers()[0]
        return bool((values == np.round(values)).all())

    def wrong_kind(self, column: str, kind: str, places, fixes: dict[str, str], example: str = "") -> None:
        fix = fixes.get(kind, fixes["other"]).format(column)
        self.add(places, f"have {KINDS.get(kind, kind)} in `{column}`", fix, example)

    def tokens(self) -> Flat | None:
        if "input_ids" not in self.part:
            return None
        fix = "the tokenizer's `input_ids` are whole numbers."
        text = "tokenize first: `rows = rows.map(lambda row: tokenizer(row[…], truncation=True))`."
        flat = self.flat("input_ids", {"other": fix, "text": text})
        if flat is None:
            return None
        if flat.depth != 1 and self.plain:
            self.add(range(flat.n), "have `input_ids` that are not one list of tokens", "a row is one text, unpacked.")
            return None
        self.add(np.flatnonzero(flat.lengths == 0), "have no token", "take them out.")
        values, owner = flat.numbers()
        highest = self.limits.tokens
        bad = (values < 0) | (values >= highest) if highest else values < 0
        allowed = f"0 … {highest - 1}" if highest else "0 …"
        if bad.any():
            fix = "use the model's own tokenizer, or `model.resize_token_embeddings(len(tokenizer))`."
            self.add(
                np.unique(owner[bad]),
                f"have tokens outside {allowed}, which the model knows,",
                fix,
                f"{values[bad][0]:g}",
            )
        if flat.depth == 1 and (most := self.limits.positions):
            long = np.flatnonzero(flat.lengths > most)
            fix = f"cut them: `tokenizer(…, truncation=True, max_length={most})`."
            self.add(long, f"are longer than the {most} positions that the model has", fix)
        return flat

    def mask(self, column: str, inputs: Flat) -> None:
        """`attention_mask` and its like: as long as the inputs, and the mask without holes and with a token."""
        if column not in self.part:
            return
        flat = self.flat(column, {"other": "use the tokenizer's own."}, ("whole", "bool", "float"))
        if flat is None or flat.depth != 1 or inputs.depth != 1:
            return
        self.same_length(column, flat, inputs)
        values, owner = flat.numbers()
        if column == "attention_mask" and not len(flat.missing) and (values == 1).all():
            return
        values = values.astype(np.float64)
        limits = self.limits
        most = {"attention_mask": 2, "token_type_ids": limits.types, "position_ids": limits.position_ids}[column]
        bad = (values < 0) | (values >= most if most else False) | (values != np.round(values))
        if bad.any():
            allowed = f"0 … {most - 1}" if most else "0 …"
            fix = "use the tokenizer's own, or leave the column out."
            self.add(np.unique(owner[bad]), f"have `{column}` outside {allowed}", fix, f"{values[bad][0]:g}")
        if column == "position_ids" and not bad.any():
            self.add(packed_rows.of_several_texts(values, owner), packed_rows.SAID, packed_rows.FIX)
        if column != "attention_mask":
            return
        places = (
            np.arange(len(owner)) - (np.cumsum(flat.lengths) - flat.lengths)[owner] if not len(flat.missing) else None
        )
        if places is None:
            return
        on, n = values != 0, flat.n
        count = np.bincount(owner[on], minlength=n)
        self.add(
            np.flatnonzero((count == 0) & (flat.lengths > 0)),
            "have an `attention_mask` of zeros alone",
            "take them out.",
        )
        first, last = np.full(n, len(owner) + 1), np.full(n, -1)
        np.minimum.at(first, owner[on], places[on])
        np.maximum.at(last, owner[on], places[on])
        self.add(
            np.flatnonzero((count > 0) & (last - first + 1 != count)),
            "have holes in `attention_mask`",
            "a mask made by `input_ids != pad` where pad is also the end-of-text token. Use the tokenizer's mask.",
        )

    def same_length(self, column: str, flat: Flat, inputs: Flat) -> None:
        unlike = np.flatnonzero(flat.lengths != inputs.lengths)
        if len(unlike):
            i = unlike[0]
            example = f"{flat.lengths[i]} beside {inputs.lengths[i]} tokens"
            self.add(
                unlike, f"have `{column}` of another length than `input_ids`,", "one value for each token.", example
            )

    def labels(self, column: str, inputs: Flat | None) -> None:
        if self.several(column):
            return
        flat = self.flat(column, FIXES)
        if flat is None:
            return
        values, owner = flat.numbers()
        per_token = flat.depth == 1
        counted = values != IGNORE_INDEX
        kind = (self.limits.causal_lm, self.limits.several)
        if self.plain and kind[0] is not None and (kind[0] != per_token or kind == (False, True)):
            one = SEVERAL_WANTED if self.limits.several else "one whole number a row"
            wanted = "a list with one for each token" if self.limits.causal_lm else one
            self.add(range(flat.n), f"have labels of another kind than the model takes: `{column}` is to be {wanted}")
            return
        if per_token and inputs is not None and inputs.depth == 1 and self.plain:
            self.same_length(column, flat, inputs)
            self.padding(flat, counted)
        if per_token and (inputs is not None or self.limits.causal_lm):  # the first token of a row is never predicted
            starts = (np.cumsum(flat.lengths) - flat.lengths)[flat.lengths > 0]
            if len(flat.owner) == len(counted):
                counted[starts] = False
        without = np.bincount(owner[counted], minlength=flat.n) == 0
        without[flat.missing] = False
        empty = np.flatnonzero(without)
        one = "; the first token of a row is never predicted" if per_token else ""
        self.add(empty, f"have all labels at {IGNORE_INDEX} and teach nothing{one}")
        most, what = (self.limits.label_tokens, "tokens") if per_token else (self.limits.classes, "classes")
        most = most if most and most > 1 else None
        bad = (values != IGNORE_INDEX) & ((values < 0) | (values >= most if most else False))
        if bad.any():
            allowed = f"0 … {most - 1}, the model's {what}," if most else "0 …"
            fix = "mend them, or load the model with more `num_labels`."
            if per_token:
                fix = f"what is not to be learnt has the label {IGNORE_INDEX}."
            elif (values[bad] == -1).all():
                fix = "-1 often stands for rows whose class is not known; take them out."
            self.add(np.unique(owner[bad]), f"have labels outside {allowed}", fix, f"{values[bad][0]:g}")

    def several(self, column: str) -> bool:
        """Whether the labels are those of a classifier of several labels a row; what is wrong with them is told."""
        array, limits = self.part[column], self.limits
        flat = None if isinstance(array, list) or limits.causal_lm else Flat(array)
        if flat is None or flat.depth != 1 or flat.kind not in ("float", "whole", "bool"):
            return False
        values, owner = flat.numbers()
        if flat.kind != "float" and not limits.several:  # tokens, or there or not?
            fits = (flat.lengths == limits.classes).all() and np.isin(values, (0, 1)).all()
            if limits.causal_lm is not False or not fits:
                return False
        if limits.several is False:
            fix = "a model of several labels a row is loaded with `problem_type='multi_label_classification'`."
            self.add(range(flat.n), f"have a list in `{column}`, and the model one class a row", fix)
            return True
        if self.plain and flat.kind != "float":
            fix = f"cast them: `rows = rows.cast_column({column!r}, List(Value('float32')))`."
            self.add(range(flat.n), f"have no numbers with a point in `{column}`, which the sigmoid's loss takes", fix)
            return True
        self.add(flat.missing, f"have None in `{column}`", f"it is to be {SEVERAL_WANTED}.")
        if limits.classes:
            unlike = np.flatnonzero(flat.lengths != limits.classes)
            fix = "a row has a 0.0 or 1.0 for each of them; load the model with `num_labels` of that number."
            example = f"{flat.lengths[unlike[0]]}" if len(unlike) else ""
            said = f"have another number of labels in `{column}` than the model's {limits.classes}"
            self.add(unlike, said, fix, example)
        elif self.plain:
            unlike = np.flatnonzero(flat.lengths != flat.lengths[0])
            self.add(unlike, f"have `{column}` of another length than the first row")
        bad = ~np.isin(values, (0, 1, IGNORE_INDEX))
        if bad.any():
            fix = f"a label is there, 1.0, or not, 0.0; {IGNORE_INDEX} where that is not known."
            self.add(np.unique(owner[bad]), f"have values in `{column}` other than 0 and 1", fix, f"{values[bad][0]:g}")
        there = np.setdiff1d(np.arange(flat.n), flat.missing)
        empty = np.setdiff1d(there, owner[values != IGNORE_INDEX])
        self.add(empty, f"have all labels at {IGNORE_INDEX} and teach nothing")
        return True

    def padding(self, labels: Flat, counted: np.ndarray) -> None:
        """Keeps the rows whose labels stand on padding: copies of padded `input_ids`."""
        mask = self.part.get("attention_mask")
        mask = None if mask is None or isinstance(mask, list) else Flat(mask)
        if mask is None or mask.depth != 1 or mask.kind not in ("whole", "bool") or len(mask.missing):
            return
        if len(labels.missing) or not np.array_equal(mask.lengths, labels.lengths):
            return
        values, owner = mask.numbers()
        self.found.padded += (np.unique(owner[counted & (values == 0)]) + self.start).tolist()

    def picture(self, column: str) -> None:
        fixes = {"other": "they are the processor's arrays: `processor(image)[…][0]`."}
        values = self.part[column]
        if isinstance(values, Large):
            self.wrong_kind(column, "none", values.missing, fixes)
            wrong = sorted(set(values.kinds) - {"whole", "float", "none"})
            for kind in wrong:
                self.wrong_kind(column, kind, [i for i, own in enumerate(values.kinds) if own == kind], fixes)
            if not wrong and not values.missing:
                self.shapes[column] = values.shapes
            return
        flat = self.flat(column, fixes, ("whole", "float"))
        if flat is not None and not len(flat.missing):
            self.shapes[column] = flat.shapes
