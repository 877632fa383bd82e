"""From the data's flags to encoded rows by split."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..utils.checks import ArgumentError, Wrong, gather, problems_of
from . import request, skipping
from .arguments import DataArguments, ModelArguments
from .loading import files_of, said_of

logger = logging.getLogger(__name__)

PROCESSING = "preprocessor_config.json"
TOKENIZER, CHANNELS, CLASSES = "the tokenizer", "the number of colour channels", "the list of classes"
FLAGS = {  # argument of `split` -> flag that it comes from
    "by": "forget_by",
    "values": "forget_values",
    "fraction": "forget_fraction",
    "column": "forget_column",
    "group": "unseen_group",
    "seed": "split_seed",
    "unseen": "unseen",
    "deleted": "deleted",
    "where": "forget_where",
}
READING = {  # argument of `load_rows` -> flag that it comes from
    "name": "dataset_name",
    "data_files": "data_files",
    "config": "dataset_config",
    "revision": "dataset_revision",
}


@dataclass
class Prepared:
    """Encoded rows by split, and what a model of them needs."""

    splits: dict
    processing_class: object
    labels: list[str] | None
    image_size: int | None = None
    num_channels: int | None = None
    request: dict = field(default_factory=dict)  # what was asked for, by `hf_unlearn.data.asked`
    made_from_rows: tuple[str, ...] = ()  # what was made from all rows, also those that may be asked for

    @property
    def several_labels(self) -> bool:
        """Whether a row has several labels, each of them there or not."""
        return self.labels is not None and not hasattr(self.splits["retain"].features["labels"], "names")


def prepare(
    data: DataArguments,
    model: ModelArguments,
    processing_from: str | None = None,
    stable_alone: bool = False,
    tell: Callable[[dict, Any], None] | None = None,
) -> Prepared:
    """
    Reads, splits and encodes the rows.

    Args:
        processing_from: folder or hub id of the tokenizer, image processor or feature extractor; None: made from the
            data.
        stable_alone: what is made from the data, a tokenizer say, is made from the rows that stay, as an exact deletion
            of the others needs it. The names of classes that no column declares are those of all rows in any case.
        tell: is told what was asked for and the forget rows, as soon as they are found.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns, or else with the
            rows.
    """
    from ..data.label_lists import inner_feature

    rows, parts = rows_by_split(data)
    asked = request_of(data, rows, parts["forget"])
    if tell is not None:
        tell(asked, parts["forget"])
    encoders = {"image_classification": _encode_images, "audio_classification": _encode_sounds}
    encode = encoders.get(data.task, _encode_texts)
    known = parts["retain"] if stable_alone else rows
    prepared = gather(lambda: encode(data, model, rows, known, parts, processing_from))[0]
    made = () if stable_alone else prepared.made_from_rows
    if prepared.labels is not None and not hasattr(inner_feature(rows, data.label_column), "names"):
        made += (CLASSES,)
    return replace(prepared, request=asked, made_from_rows=made)


def prepare_unsplit(data: DataArguments, model: ModelArguments, processing_from: str) -> Prepared:
    """
    Reads and encodes all rows that are there, for a model that has its tokenizer or processor and its classes already:
    as `splits["retain"]`.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the columns, or else with the rows.
    """
    rows, _ = _read(replace(data, test_split=None, test_fraction=0.0))
    gather(lambda: _check_columns(data, rows))
    encoders = {"image_classification": _encode_images, "audio_classification": _encode_sounds}
    encode = encoders.get(data.task, _encode_texts)
    labels = None if data.task == "causal_lm" else _labels_of(processing_from, model)
    return gather(lambda: encode(data, model, rows, rows, {"retain": rows}, processing_from, labels))[0]


def _labels_of(where: str, model: ModelArguments) -> list[str] | None:
    """Class names of a saved model in the order of their numbers; None of an adapter, which has no config."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(where, **files_of(model, where))
        return [name for _, name in sorted(found.id2label.items())]
    except (OSError, ValueError):
        return None


def request_of(data: DataArguments, rows, forget) -> dict:
    """What was asked for, by `hf_unlearn.data.asked`, and of which data set."""
    from ..data.asked import asked

    name = data.dataset_name
    name = Path(name).name if Path(name).exists() else name  # of a file: nobody needs to know whose folder it is in
    found = {"dataset": name, **asked(rows, forget, **request.named(data))}
    return {**found, "skipped": skipping.skipped(data)} if data.skip_broken else found


def check_rows(data: DataArguments) -> None:
    """
    What can be said of the rows without encoding them, to stand beside flags that are wrong; of rows that would first
    have to be downloaded, nothing.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns.
    """
    from ..data.rows.by_name import are_here

    if are_here(data.dataset_name, data.data_files):
        rows_by_split(data)


def rows_by_split(data: DataArguments) -> tuple:
    """
    All rows of the training and of the request, and the same by split, with `test` where there are such rows.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns.
    """
    from .. import split

    rows, test = _read(data)

    def by_split():
        content = [column for column in said_by(data) if column in rows.column_names] or None
        how = {"group": data.unseen_group, "seed": data.split_seed, "content": content, "deleted": data.deleted or ()}
        try:
            return split(rows, **request.named(data), **how, unseen=data.unseen_ids or data.unseen)
        except ValueError as error:
            way = request.way_of(data)
            flags = {**FLAGS, "values": way} if way in ("forget_ids", "forget_where") else FLAGS
            flags = {**flags, "unseen": "unseen_ids"} if data.unseen_ids else flags
            raise ArgumentError([by_flags(problem, flags) for problem in problems_of(error)]) from error

    parts, *_ = gather(
        by_split,
        *(lambda part=part: _check_columns(data, part) for part in (rows, test) if part is not None),
    )
    if test is None:
        return rows, parts
    if not data.test_fraction:  # else they are of the same rows, and others
        check_test(data, rows, test)
    return rows, {**parts, "test": test}


def check_test(data: DataArguments, rows, test) -> None:
    """
    What can be said of rows from a split of their own that accuracy is measured on; those that are trained on, too, are
    told in a warning.

    Raises:
        ArgumentError: if their labels are numbers where the training rows have words.
    """
    from datasets import ClassLabel

    from ..data.encode.columns import label_values
    from ..data.label_lists import holds_lists

    several = data.task != "causal_lm" and any(holds_lists(part, data.label_column) for part in (rows, test))
    if data.task != "causal_lm" and not several and not isinstance(rows.features[data.label_column], ClassLabel):
        words, numbers = (set(map(type, label_values(part, data.label_column))) for part in (rows, test))
        if str in words and int in numbers:
            said = f"is {data.test_split!r}, whose {data.label_column!r} holds numbers where the training has words: "
            raise ArgumentError([Wrong("test_split", said + "which number means which class? Give both the words.")])
    if data.task in ("causal_lm", "sequence_classification"):
        columns = said_by(data)
        said = [list(zip(*(map(str, part[name][:]) for name in columns), strict=True)) for part in (rows, test)]
        trained = set(said[0])
        if both := sum(row in trained for row in said[1]):
            logger.warning(
                "%d of the %d test rows are rows of the training, too, word for word: accuracy on those says nothing "
                "of rows that no model saw. Name other rows by --test_split, or hold some out by --test_fraction.",
                both,
                len(test),
            )


def _check_columns(data: DataArguments, rows) -> None:
    said = said_by(data)
    wanted = said if data.task == "causal_lm" or not said else (*said, data.label_column)
    if missing := [column for column in wanted if column not in rows.column_names]:
        raise ValueError(
            f"There is no column {', '.join(map(repr, missing))}; the rows have "
            f"{', '.join(map(repr, rows.column_names))}. {_named_by(data, missing)}"
        )


def _named_by(data: DataArguments, missing: list[str]) -> str:
    """Which flags say that the columns have other names."""
    names = ("question", "answer", "text", "image", "audio", "label")
    flags = [f"--{name}_column" for name in names if getattr(data, f"{name}_column") in missing]
    return f"If yours has another name, say it by {' and '.join(flags)}." if flags else ""


def said_by(data: DataArguments) -> tuple[str, ...]:
    """The columns that hold what a row says."""
    return {
        "causal_lm": (data.question_column, data.answer_column),
        "sequence_classification": (data.text_column,),
        "image_classification": (data.image_column,),
        "audio_classification": (data.audio_column,),
    }.get(data.task, ())


def by_flags(problem: str, flags: dict[str, str] = FLAGS) -> str:
    """A problem of `split` or `load_rows` with the flags in the place of its arguments."""
    for argument, flag in flags.items():
        problem = problem.replace(f"`{argument}`", f"`--{flag}`")
        problem = re.sub(rf"`{argument}='(\w+)'`", rf"`--{flag} \1`", problem)
    return problem


def _read(data: DataArguments):
    """Rows to train on and to forget, and rows to test on or None."""
    from ..data.rows.by_name import load_rows
    from ..data.rows.files import with_images

    def load(split: str | None, flag: str):
        try:
            where = (data.dataset_name, data.data_files, split)
            return load_rows(*where, config=data.dataset_config, revision=data.dataset_revision)
        except (ValueError, OSError) as error:
            flags = {**READING, "split": flag}
            raise ArgumentError([by_flags(problem, flags) for problem in problems_of(error)]) from error

    rows, test = gather(
        lambda: load(data.dataset_split, "dataset_split"),
        lambda: load(data.test_split, "test_split") if data.test_split else None,
    )
    if data.task == "image_classification":
        rows, test = (part and with_images(part, data.image_column, paths=True) for part in (rows, test))
    if data.task != "causal_lm":
        rows, test = (part and _with_label_lists(data, part) for part in (rows, test))
    if data.limit is not None:
        rows = rows.select(range(min(data.limit, len(rows))))
        test = test and test.select(range(min(data.limit, len(test))))
    splits = ((rows, data.dataset_split), (test, data.test_split))
    rows, test = (part and skipping.without_broken(data, part, name) for part, name in splits)
    if data.test_fraction and test is None:
        if not 0 < math.ceil(len(rows) * data.test_fraction) < len(rows):
            raise ArgumentError(
                [f"`--test_fraction` is {data.test_fraction:g}: of {len(rows)} rows it leaves none to train on."]
            )
        halves = rows.train_test_split(test_size=data.test_fraction, seed=data.split_seed)
        rows, test = halves["train"], halves["test"]
    return rows, test


def _with_label_lists(data: DataArguments, rows):
    """The rows with a list of labels each, where columns or words of several labels say so."""
    from ..data import label_lists

    if data.label_columns:
        return label_lists.from_columns(rows, data.label_columns, data.label_column)
    return label_lists.from_words(rows, data.label_column, data.label_separator)


def _encode_images(
    data: DataArguments, model: ModelArguments, rows, known, parts: dict, processing_from: str | None, names=None
) -> Prepared:
    from ..data.encode import images
    from .model import model_settings

    processor, encoded, names = None, {}, names or _class_names(rows, data.label_column)
    if processing_from:
        from transformers import AutoImageProcessor

        processor = _loaded(AutoImageProcessor, processing_from, "image processor", model)
    asked = model_settings(model.model_type, model.config_overrides) if model.model_type and not processor else {}
    with images.naming_broken_images(rows, data.image_column):  # those of all parts at once
        for name in ("retain", *(n for n in parts if n != "retain")):
            encoded[name] = images.encode_images(
                parts[name],
                processor,
                data.image_column,
                data.label_column,
                image_size=asked.get("image_size"),
                num_channels=images.channels_of(known, data.image_column),
                names=names,
            )
    channels, size = encoded["retain"].features["pixel_values"].shape[::2]
    made = () if processor else (CHANNELS,)
    processor = processor or images.build_image_processor(size, channels)
    return Prepared(encoded, processor, names, image_size=size, num_channels=channels, made_from_rows=made)


def _encode_sounds(
    data: DataArguments, model: ModelArguments, rows, known, parts: dict, processing_from: str | None, names=None
) -> Prepared:
    from ..data.encode import sound

    extractor = _feature_extractor(data, model, processing_from)
    names = names or _class_names(rows, data.label_column)
    columns = (data.audio_column, data.label_column, data.max_seconds)
    with sound.naming_broken_sounds(rows, data.audio_column, extractor.sampling_rate):  # those of all parts at once
        encoded = {name: sound.encode_sounds(part, extractor, *columns, names=names) for name, part in parts.items()}
    return Prepared(encoded, extractor, names)


def _encode_texts(
    data: DataArguments, model: ModelArguments, rows, known, parts: dict, processing_from: str | None, names=None
) -> Prepared:
    from ..data.encode import text
    from ..data.encode.columns import check_texts

    if processing_from:
        from transformers import AutoTokenizer

        tokenizer = _loaded(AutoTokenizer, processing_from, "tokenizer", model)
    else:
        classifies = data.task != "causal_lm"
        columns = [data.text_column] if classifies else [data.question_column, data.answer_column]
        check_texts(rows, *columns)
        texts = [one for column in columns for one in known[column]]
        tokenizer = text.build_tokenizer(texts, model.vocab_size, append_eos=classifies)
    names = None if data.task == "causal_lm" else names or _class_names(rows, data.label_column)
    encode = text_encoder(data, tokenizer, names)
    made = () if processing_from else (TOKENIZER,)
    return Prepared({name: encode(part) for name, part in parts.items()}, tokenizer, names, made_from_rows=made)


def text_encoder(data: DataArguments, tokenizer, names: list[str] | None):
    """Rows of text -> encoded rows; `names`: of the classes, None for a language model."""
    from ..data.encode import text

    if names is None:
        columns = (data.question_column, data.answer_column, data.max_length)
        return lambda rows: text.encode_qa(rows, tokenizer, *columns)
    columns = (data.text_column, data.label_column, data.max_length)
    return lambda rows: text.encode_text_classification(rows, tokenizer, *columns, names=names)


def _class_names(rows, column: str) -> list[str]:
    """
    Class names in the order of their numbers, from all rows, so that a forgotten class keeps its number.

    Raises:
        ValueError: if there are fewer than two.
    """
    from ..data.encode.columns import class_names
    from ..data.label_lists import holds_lists

    names, several = class_names(rows, column), holds_lists(rows, column)
    if several and not any(rows[column]):
        raise ValueError(f"No row has any label in column {column!r}.")
    if len(names) < 2 and not several:
        labelled = sum(value is not None for value in rows[column])
        raise ValueError(
            f"All {labelled} rows{' with a label' * (labelled < len(rows))} have one class in column {column!r}: "
            f"{', '.join(names) or 'none at all'}; a classifier needs two. Where --limit cuts rows that are sorted by "
            "class, raise it."
        )
    return names


def _feature_extractor(data: DataArguments, model: ModelArguments, processing_from: str | None):
    """The model's own, or one for a new model."""
    from ..data.encode import sound
    from .model import model_settings

    if processing_from:
        from transformers import AutoFeatureExtractor

        return _loaded(AutoFeatureExtractor, processing_from, "feature extractor", model)
    settings = model_settings(model.model_type, model.config_overrides)
    return sound.build_feature_extractor(model.model_type, settings, data.sampling_rate, data.max_seconds)


def _loaded(auto, where: str, what: str, model: ModelArguments):
    """
    The tokenizer, image processor or feature extractor of a model.

    Raises:
        ValueError: if there is none, or its files are broken.
    """
    if what != "tokenizer" and Path(where).is_dir() and not Path(where, PROCESSING).is_file():
        raise ValueError(
            f"There is no {PROCESSING} in {where}: the rows need the model's {what}. Save it there "
            "(`save_pretrained`), or take a folder that has one."
        )
    try:
        return auto.from_pretrained(where, **files_of(model, where))
    except Exception as error:  # a broken file is another type in each library
        said = said_of(error)
        here = f"in {where!r}" if Path(where).is_dir() else f"of {where!r}, which is no folder here,"
        raise ValueError(f"The {what} {here} cannot be loaded ({type(error).__name__}): {said}") from error
