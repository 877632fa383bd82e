"""From rows by split to what a model takes: what the flags say of it, by `hf_unlearn.encode`'s own functions."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import DataArguments, ModelArguments
from .from_flags import with_breaks
from .loading import files_of, said_of

if TYPE_CHECKING:
    from ..data.encode.by_task import Reading

logger = logging.getLogger(__name__)

PROCESSING = "preprocessor_config.json"
RECORDED = {"max_length": int, "stride": int, "prompt": str, "max_seconds": (int, float)}  # with a model, of its rows
TOKENIZER, CHANNELS, CLASSES = "the tokenizer", "the number of colour channels", "the list of classes"


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
    again: Callable[..., Any] | None = None  # other rows, and perhaps another tokenizer -> rows encoded likewise
    recipe: dict = field(default_factory=dict)  # what other rows need to be made likewise: some of `RECORDED`
    beside: dict = field(default_factory=dict)  # rows of no part of the request that are measured, too, by split
    said: str | None = None  # of the length of text rows, and what it cuts

    @property
    def several_labels(self) -> bool:
        """Whether a row has several labels, each of them there or not."""
        return self.labels is not None and not hasattr(self.splits["retain"].features["labels"], "names")


def reading_of(data: DataArguments, recipe: Mapping[str, Any]) -> Reading:
    """How the flags say that rows are read; `recipe`: what a record says of those of a model, where no flag does."""
    from ..data.encode.by_task import TASK_COLUMNS, Reading
    from ..data.encode.length import Length

    length = data.max_length
    if length is None and "max_length" in recipe:
        length = Length(recipe["max_length"], "recorded")
    seconds_said = "max_seconds" in {*data.given, *data.changed()}
    return Reading(
        task=data.task,
        columns=named_columns(data, TASK_COLUMNS.get(data.task, ())),
        max_length=length,
        prompt=with_breaks(data.prompt) if data.prompt is not None else recipe.get("prompt"),
        stride=data.stride or recipe.get("stride"),
        max_seconds=data.max_seconds if seconds_said else recipe.get("max_seconds", data.max_seconds),
    )


def named_columns(data: DataArguments, names: Iterable[str]) -> dict[str, str]:
    """Usual name -> name of the column, of those that somebody has named, be it as usual."""
    said = {*data.given, *data.changed()}
    return {name: getattr(data, f"{name}_column") for name in names if f"{name}_column" in said}


def recorded(sources: Iterable[str | None]) -> dict[str, Any]:
    """
    How the rows of models were made, by the first record that tells: some of `RECORDED`. A warning tells where another
    record says otherwise.

    Args:
        sources: folders or hub ids of the models.
    """
    found = {source: own for source in sources if source and (own := _recorded_by(source))}
    first = next(iter(found.values()), {})
    if other := [source for source, own in found.items() if own != first]:
        logger.warning(
            "The rows of %s were made otherwise (%s) than those of %s (%s); all are read as the latter. Say which is "
            "meant by %s.",
            *(other[0], _words(found[other[0]]), next(iter(found)), _words(first)),
            " and ".join(f"--{name}" for name in RECORDED if found[other[0]].get(name) != first.get(name)),
        )
    return first


def _recorded_by(source: str) -> dict[str, Any]:
    from ..trainers import records
    from ..utils.files import read_json

    for name in (records.READINESS, records.UNLEARNING):
        try:
            path = records.find_file(str(Path(source).expanduser()) if Path(source).exists() else source, name)
            found = path and read_json(path)
        except ValueError:  # no answer, or a damaged file, which is told where the model is loaded
            continue
        own = found.get(records.ENCODING) if isinstance(found, dict) else None
        own = own if isinstance(own, dict) else {}
        own = {name: own[name] for name, kind in RECORDED.items() if isinstance(own.get(name), kind)}
        if own := {name: value for name, value in own.items() if isinstance(value, str) or value > 0}:
            return own
    return {}


def _words(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in recipe.items())


def shape_by_flags(data: DataArguments, rows):
    """
    The [`hf_unlearn.data.encode.shapes.Shape`] of rows for a language model.

    Raises:
        ValueError: as of `shape_of`, with the flags in the place of the arguments.
    """
    from ..data.encode.shapes import COLUMNS, shape_of

    try:
        return shape_of(rows.column_names, named_columns(data, COLUMNS))
    except ValueError as error:
        raise ValueError(re.sub(r"`(\w+_column)`", r"--\1", str(error))) from error


def encoded(
    reading: Reading, data: DataArguments, model: ModelArguments, rows, known, parts: dict, processing_from: str | None
) -> Prepared:
    """The parts, encoded, with what they were encoded by; `known`: rows that a tokenizer may be made from."""
    from ..data.encode import by_task
    from ..data.encode.columns import all_class_names

    if data.task != "causal_lm" and reading.names is None:
        reading = replace(reading, names=all_class_names(rows, data.label_column))
    kinds = {"image_classification": _of_images, "audio_classification": _of_sounds}
    reading, processor, within, made = kinds.get(data.task, _of_texts)(
        reading, data, model, rows, known, processing_from
    )
    with within:
        found = by_task.encode_parts(parts, processor, reading)
    prepared = Prepared(found.parts, processor, found.names, made_from_rows=made)
    prepared = replace(prepared, again=found.again, recipe=found.recipe, said=found.said)
    if data.task != "image_classification":
        return prepared
    from ..data.encode import images

    channels, size = found.parts["retain"].features["pixel_values"].shape[::2]
    processor = processor or images.build_image_processor(size, channels)
    return replace(prepared, processing_class=processor, image_size=size, num_channels=channels)


def _of_images(reading, data: DataArguments, model: ModelArguments, rows, known, processing_from: str | None) -> tuple:
    """`(how they are read, the processor, what names broken rows, what was made from rows)`; as those below."""
    from ..data.encode import images
    from .model import model_settings

    processor, asked = None, {}
    if processing_from:
        from transformers import AutoImageProcessor

        processor = _loaded(AutoImageProcessor, processing_from, "image processor", model)
    elif model.model_type:
        asked = model_settings(model.model_type, model.config_overrides)
    within = images.naming_broken_images(rows, data.image_column)  # those of all parts at once
    with within:
        of_rows = images.channels_of(known, data.image_column)
    channels = asked.get("num_channels") or images.channels_taken(processor)
    reading = replace(reading, image_size=asked.get("image_size"), num_channels=channels or of_rows)
    within = images.naming_broken_images(rows, data.image_column)
    return reading, processor, within, () if processor or channels else (CHANNELS,)


def _of_sounds(reading, data: DataArguments, model: ModelArguments, rows, known, processing_from: str | None) -> tuple:
    from ..data.encode import sound

    extractor = _feature_extractor(data, model, processing_from)
    return reading, extractor, sound.naming_broken_sounds(rows, data.audio_column, extractor.sampling_rate), ()


def _of_texts(reading, data: DataArguments, model: ModelArguments, rows, known, processing_from: str | None) -> tuple:
    from ..data.encode import shapes, text

    if processing_from:
        from transformers import AutoTokenizer

        tokenizer = _loaded(AutoTokenizer, processing_from, "tokenizer", model)
    else:
        classifies = data.task != "causal_lm"
        shape = shapes.Shape("text", {"text": data.text_column}) if classifies else shape_by_flags(data, rows)
        shapes.check_content(rows, shape)
        tokenizer = text.build_tokenizer(shapes.texts_of(known, shape), model.vocab_size, append_eos=classifies)
    reading = replace(reading, positions=_positions(model, processing_from))
    return reading, tokenizer, nullcontext(), () if processing_from else (TOKENIZER,)


def _positions(model: ModelArguments, where: str | None) -> int | None:
    """Tokens of a row at most: of the model that is named, or of the new one; None where nothing tells."""
    from transformers import AutoConfig

    from ..data.limits import positions_of
    from .model import model_settings

    if where:
        return positions_of(where, **files_of(model, where))
    if not model.model_type:
        return None
    return positions_of(
        AutoConfig.for_model(model.model_type, **model_settings(model.model_type, model.config_overrides))
    )


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
