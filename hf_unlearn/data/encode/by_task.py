"""Rows of any kind as a model of a task takes them: `encode`, which the verbs go by, too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ...utils.checks import Wrong, gather, number, one_of, raise_problems, shown, whole
from ..given import as_dataset
from ..limits import positions_of
from . import documents, images, length, sound, text
from .columns import all_class_names, check_columns
from .language import tokenized
from .pairs import check_prompt
from .shapes import COLUMNS, NEEDED, Shape, shape_of, unread

logger = logging.getLogger(__name__)

TASK_COLUMNS = {  # task -> usual names of the columns that it reads
    "causal_lm": COLUMNS,
    "sequence_classification": ("text", "label"),
    "image_classification": ("image", "label"),
    "audio_classification": ("audio", "label"),
}


@dataclass(frozen=True)
class Reading:
    """
    How rows are read: the arguments of [`encode`].

    Args:
        columns: usual name -> name in these rows, of those that differ.
        max_length: tokens of a row at most; a `Length` that another run has found, or None.
        positions: of the model.
    """

    task: str = "causal_lm"
    columns: Mapping[str, str] = field(default_factory=dict)
    max_length: int | length.Length | None = None
    positions: int | None = None
    prompt: str | None = None
    stride: int | None = None
    names: Sequence[str] | None = None
    image_size: int | None = None
    num_channels: int | None = None
    max_seconds: float = 1.0

    def column(self, name: str) -> str:
        return self.columns.get(name, name)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the arguments, whatever the rows."""
        found = one_of("task", self.task, TASK_COLUMNS)
        if not found:
            known = TASK_COLUMNS[self.task]
            listed = ", ".join(f"{name}_column" for name in known)
            found = [
                Wrong(f"{name}_column", f"names no column of task {self.task}, whose rows have {listed}.")
                for name in self.columns
                if name not in known
            ]
        for name in ("max_length", "stride"):
            if isinstance(value := getattr(self, name), (int, float)):
                found += whole(name, value, low=1)
        return found + check_prompt(self.prompt) + number("max_seconds", self.max_seconds, low=0, open_low=True)


@dataclass
class Encoded:
    """
    Rows as a model takes them.

    Args:
        names: of the classes, in the order of their numbers; None of a language model.
        again: other rows -> the same of them, by the same processing class or by another one.
        recipe: what other rows need to be made likewise, and rows cannot tell: `max_length`, `stride`, `prompt` of
            text, `max_seconds` of sounds.
        said: which length rows have and what it cuts, in a few words; None of images and sounds.
    """

    parts: dict[str, Any]
    names: list[str] | None
    again: Callable[..., Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    said: str | None = None
    cuts: bool = False


def encode(
    rows,
    processing_class,
    *,
    task: str = "causal_lm",
    max_length: int | None = None,
    model=None,
    prompt: str | None = None,
    stride: int | None = None,
    names: Sequence[str] | None = None,
    image_size: int | None = None,
    num_channels: int | None = None,
    max_seconds: float = 1.0,
    **columns: str,
):
    """
    Rows as a model takes them; the verbs make theirs by the same function. Of a language model the columns that are
    there decide, as in TRL:

        messages              a chat, by the tokenizer's chat template; the assistant's turns are learnt; the same:
                              conversations
        prompt, completion    two texts, or two lists of messages; the completion is learnt
        question, answer      a chat of one turn where the tokenizer has a chat template, else by `prompt`
        instruction, output   the same, with what is in `input` behind the instruction
        text                  documents, cut into windows; a window has the id of its document, where there are several
                              with "#1", "#2", … behind it, and the column `document`

    Args:
        rows: a `Dataset`, or what makes one (a list of dicts, a dict of columns, a DataFrame), or a `DatasetDict` such
            as [`hf_unlearn.split`] gives, whose parts are made alike.
        processing_class: the model's tokenizer, image processor or feature extractor; of images None is enough.
        task: "causal_lm", "sequence_classification", "image_classification" or "audio_classification".
        max_length: tokens of a row at most. Default: the 99th percentile of the rows that nobody may ask for (the part
            `retain`, else all), rounded up to a multiple of 8, at most what model and tokenizer take, and of documents
            1,024. A warning says what is cut; pass that number where rows are to be made again.
        model: a model, its folder or its name: its positions bound the default.
        prompt: template with the place `{question}`, for question and answer and for instructions, instead of the chat
            template. Default where there is none: "Question: {question}\\nAnswer:".
        stride: of documents, tokens from the beginning of a window to that of the next; what two windows share is
            learnt in the first. Default: `max_length`.
        names: class names in the model's order; default: those of all parts, in order.
        image_size, num_channels: of images, in pixels, and 1 or 3; default: the processor's, else what the images have.
        max_seconds: of sounds; longer ones are cut, shorter ones padded.
        columns: names that differ from those above, as `question_column="prompt"`, `label_column="intent"`.

    Returns:
        The same kind of set, with all its columns but pictures and sounds, and with what the model takes:
        `input_ids`, `attention_mask` and `labels` (lists of int, -100 where nothing is learnt) of text, of unlike
        lengths, which [`hf_unlearn.default_collator`] pads; `pixel_values` or `input_values` and `labels` of others.

    Raises:
        ArgumentError: with all arguments that are wrong.
        ValueError: if a column is missing, a row holds no text, no label or a broken file, a chat cannot be read, or a
            row that is cut loses all its labels. The message names the rows.

    Example:

        >>> from hf_unlearn import encode, load_rows, split
        >>> from hf_unlearn.data.encode.text import build_tokenizer
        >>> rows = load_rows("people", split="train[:40]")
        >>> parts = split(rows, where={"person": rows["person"][0]})
        >>> made = encode(parts, build_tokenizer(rows["question"], 300), max_length=96)
        >>> made["forget"].column_names
        ['id', 'person', 'question', 'answer', 'input_ids', 'attention_mask', 'labels']
    """
    strange = [name for name in columns if not name.endswith("_column")]
    raise_problems([Wrong(name, "is no argument of `encode`; a column is named as `text_column`.") for name in strange])
    reading = Reading(
        task,
        {name.removesuffix("_column"): column for name, column in columns.items()},
        max_length,
        None if model is None else positions_of(model),
        *(prompt, stride, names, image_size, num_channels, max_seconds),
    )
    raise_problems(reading.problems + _strange_class(task, processing_class))
    several = isinstance(rows, Mapping) and all(hasattr(part, "column_names") for part in rows.values())
    if several:
        parts = dict(rows)
    else:
        parts, problems = as_dataset(rows, "rows")
        raise_problems(problems)
        parts = {"rows": parts}
    raise_problems([f"`rows` has no rows in {name!r}." for name, part in parts.items() if not len(part)])
    found = encode_parts(parts, processing_class, reading)
    if found.said:
        (logger.warning if found.cuts else logger.info)("Rows have %s.", found.said)
    if not several:
        return found.parts["rows"]
    from datasets import DatasetDict

    return DatasetDict(found.parts)


def _strange_class(task: str, given: Any) -> list[str]:
    """What is wrong with a processing class that is none, or one of another kind of rows."""
    of_text = task in ("causal_lm", "sequence_classification")
    if given is None and task == "image_classification":
        return []
    if callable(given) and hasattr(given, "num_special_tokens_to_add") == of_text:
        return []
    wanted = {"image_classification": "AutoImageProcessor", "audio_classification": "AutoFeatureExtractor"}
    inner = ", perhaps its own `tokenizer`" if of_text and hasattr(given, "tokenizer") else ""
    fix = f"{wanted.get(task, 'AutoTokenizer')}.from_pretrained({shown(given) if isinstance(given, str) else '…'})"
    got = shown(given) if given is None or isinstance(given, str) else f"a {type(given).__name__}"
    return [Wrong("processing_class", f"is {got}, and task {task} takes what `{fix}` gives{inner}.")]


def encode_parts(parts: Mapping[str, Any], processing_class, reading: Reading) -> Encoded:
    """
    The parts of a split, made alike.

    Raises:
        ValueError: as of [`encode`].
    """
    if reading.task == "causal_lm":
        return _language(parts, processing_class, reading)
    if reading.names is None:
        from datasets import concatenate_datasets

        label = reading.column("label")
        labels = concatenate_datasets([part.select_columns(label) for part in parts.values()])
        reading = replace(reading, names=all_class_names(labels, label))
    kinds = {"sequence_classification": _texts, "image_classification": _images, "audio_classification": _sounds}
    return kinds[reading.task](parts, processing_class, reading)


def _each(parts: Mapping[str, Any], make: Callable) -> dict[str, Any]:
    """`make` of each part; what is wrong with any of them is told at once."""
    return dict(zip(parts, gather(*(partial(make, part) for part in parts.values())), strict=True))


def kept_of(parts: Mapping[str, Any]) -> Any:
    """The rows that nobody may ask for, where a split says which; else the first part."""
    return parts.get("retain", next(iter(parts.values())))


def _length(reading: Reading, lengths, tokenizer, of_documents: bool = False) -> length.Length:
    given = reading.max_length
    if isinstance(given, length.Length):
        return given
    if given is not None:
        return length.Length(int(given), "given")
    return length.length_for(lengths, reading.positions, tokenizer, of_documents)


def _language(parts: Mapping[str, Any], tokenizer, reading: Reading, shape: Shape | None = None) -> Encoded:
    if shape is None:
        shape = shape_of(kept_of(parts).column_names, reading.columns)
        raise_problems(_unread(reading, shape) + _unnamed(parts, shape))
        if said := unread(kept_of(parts).column_names, shape):
            logger.warning("%s", said)
    for part in parts.values():
        check_columns(part, *shape.columns.values())
    wholes = _each(parts, lambda part: tokenized(part, tokenizer, shape, reading.prompt))
    lengths = length.lengths_of(kept_of(wholes))
    found = _length(reading, lengths, tokenizer, shape.holds_documents)
    if shape.holds_documents:
        column = shape.of("text")
        made = {
            name: documents.in_windows(part, tokenizer, column, found.tokens, reading.stride)
            for name, part in wholes.items()
        }
        counts = (sum(map(len, wholes.values())), sum(map(len, made.values())))
        said, cuts = length.windows_sentence(*counts, found), False
    else:
        length.check_labels_left(wholes, found)
        said = length.cut_sentence(wholes.values(), found)
        made = {name: length.cut(part, found.tokens) for name, part in wholes.items()}
        cuts = any(made[name] is not part for name, part in wholes.items())
    recipe: dict[str, Any] = {"max_length": found.tokens}
    recipe |= {name: value for name in ("stride", "prompt") if (value := getattr(reading, name))}
    fixed = replace(reading, max_length=found)

    def again(rows, other=None):
        return _language({"rows": rows}, other or tokenizer, fixed, shape).parts["rows"]

    return Encoded(made, None, again, recipe, said, cuts)


def _unread(reading: Reading, shape: Shape) -> list[str]:
    """What was given for rows of another shape."""
    held = f"and these rows hold {' and '.join(NEEDED[shape.kind])}. Leave it out."
    found = []
    if reading.stride and not shape.holds_documents:
        found.append(Wrong("stride", f"is {reading.stride}, which is of documents, {held}"))
    if reading.prompt is not None and shape.kind not in ("question", "instruction"):
        found.append(Wrong("prompt", f"is {shown(reading.prompt)}, which is of questions and instructions, {held}"))
    return found


def _unnamed(parts: Mapping[str, Any], shape: Shape) -> list[str]:
    """Documents in parts without ids: numbers of rows would be the same in each part."""
    if not shape.holds_documents or len(parts) < 2 or all("id" in part.column_names for part in parts.values()):
        return []
    fix = "add one before the split: `rows = rows.add_column('id', list(map(str, range(len(rows)))))`."
    return [f"The documents have no column `id`, by which their windows are known and a request names them: {fix}"]


def _texts(parts: Mapping[str, Any], tokenizer, reading: Reading) -> Encoded:
    columns = reading.column("text"), reading.column("label")

    def made_of(rows, most: int | None = None, by=None):
        return text.encode_text_classification(rows, by or tokenizer, *columns, max_length=most, names=reading.names)

    wholes = _each(parts, made_of)
    found = _length(reading, length.lengths_of(kept_of(wholes)), tokenizer)
    said = length.cut_sentence(wholes.values(), found, with_labels=False)
    long = [name for name, part in wholes.items() if (length.lengths_of(part) > found.tokens).any()]
    made = wholes | {name: made_of(parts[name], found.tokens) for name in long}

    def again(rows, other=None):
        return made_of(rows, found.tokens, other)

    return Encoded(made, list(reading.names), again, {"max_length": found.tokens}, said, bool(long))


def _images(parts: Mapping[str, Any], processor, reading: Reading) -> Encoded:
    columns = reading.column("image"), reading.column("label")
    first = kept_of(parts)
    of_rows = images.channels_of(first, columns[0])  # asked in any case: it tells what is no image
    channels = reading.num_channels or images.channels_taken(processor) or of_rows
    made_of = partial(images.encode_images, image_column=columns[0], label_column=columns[1], num_channels=channels)
    made_of = partial(made_of, image_size=reading.image_size, names=reading.names)
    one = made_of(first, processor)
    if processor is None:  # all have the size of the first image
        made_of = partial(made_of, image_size=one.features["pixel_values"].shape[-1])
    made = _each(parts, lambda part: one if part is first else made_of(part, processor))
    return Encoded(made, list(reading.names), lambda rows, other=None: made_of(rows, other or processor))


def _sounds(parts: Mapping[str, Any], extractor, reading: Reading) -> Encoded:
    columns = (reading.column("audio"), reading.column("label"), reading.max_seconds)

    def made_of(rows, by=None):
        return sound.encode_sounds(rows, by or extractor, *columns, names=reading.names)

    made = _each(parts, made_of)
    return Encoded(made, list(reading.names), made_of, {"max_seconds": reading.max_seconds})
