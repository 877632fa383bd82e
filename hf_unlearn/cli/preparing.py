"""From data arguments to encoded rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .arguments import DataArguments, ModelArguments
from .parsing import fail, gather, problems_in

PROCESSING = "preprocessor_config.json"


@dataclass
class Prepared:
    """Encoded rows by split, and what a model of them needs."""

    splits: dict
    processing_class: object
    labels: list[str] | None
    image_size: int | None = None
    num_channels: int | None = None


def prepare(data: DataArguments, model: ModelArguments, processing_from: str | None = None) -> Prepared:
    """
    Reads, splits and encodes the rows.

    Args:
        processing_from: folder or hub id of the tokenizer, image processor or feature extractor; None: made from the
            data.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the rows, at once.
    """
    from .. import split
    from . import sources

    rows, test = gather(
        lambda: sources.load_rows(data.dataset_name, data.data_files),
        lambda: sources.load_rows(data.dataset_name, data.data_files, data.test_split) if data.test_split else None,
    )
    if data.limit:
        rows = rows.select(range(min(data.limit, len(rows))))
        test = test and test.select(range(min(data.limit, len(test))))
    if data.test_fraction and test is None:
        halves = rows.train_test_split(test_size=data.test_fraction, seed=data.split_seed)
        rows, test = halves["train"], halves["test"]
    column = data.forget_column
    if data.forget_by == "class" and column is None:
        column = data.label_column

    try:
        parts = split(
            rows,
            by=data.forget_by,
            values=data.forget_values,
            fraction=data.forget_fraction,
            column=column,
            group=data.unseen_group,
            seed=data.split_seed,
            unseen=data.unseen,
        )
    except ValueError as error:  # beside it, what is wrong with the rows themselves
        problems = problems_in(error)
        gather(lambda: fail(problems), lambda: _encode(data, model, rows, {"retain": rows}, processing_from))
    if test is not None:
        parts["test"] = test
    return _encode(data, model, rows, parts, processing_from)


def _encode(data, model, rows, parts, processing_from) -> Prepared:
    from . import building, encoding, sound

    if data.task not in building.TASKS:
        raise ValueError(f"`--task` is {data.task!r}; it must be one of {', '.join(building.TASKS)}.")
    inputs = {
        "causal_lm": data.question_column,
        "sequence_classification": data.text_column,
        "image_classification": data.image_column,
        "audio_classification": data.audio_column,
    }
    answers = data.answer_column if data.task == "causal_lm" else data.label_column
    for part in parts.values():
        wanted = (inputs[data.task], answers)
        if missing := [column for column in wanted if column not in part.column_names]:
            raise ValueError(
                f"There is no column {', '.join(map(repr, missing))}; the rows have "
                f"{', '.join(map(repr, part.column_names))}."
            )
    if data.task == "image_classification":
        processor, names = None, None
        if processing_from and Path(processing_from, PROCESSING).is_file():
            from transformers import AutoImageProcessor

            processor = AutoImageProcessor.from_pretrained(processing_from)
        encoded = {}
        for name in ("retain", *(n for n in parts if n != "retain")):
            encoded[name] = encoding.encode_images(
                parts[name],
                processor,
                data.image_column,
                data.label_column,
                num_channels=_channels(rows[0][data.image_column]),
                names=names or _class_names(rows, data.label_column),
            )
            names = encoded[name].features["labels"].names
        shape = encoded["retain"].features["pixel_values"].shape
        processor = processor or encoding.build_image_processor(shape[-1], shape[0])
        return Prepared(encoded, processor, names, image_size=shape[-1], num_channels=shape[0])

    if data.task == "audio_classification":
        extractor, names = _feature_extractor(data, model, processing_from), _class_names(rows, data.label_column)
        encoded = {
            name: sound.encode_sounds(
                part, extractor, data.audio_column, data.label_column, data.max_seconds, names=names
            )
            for name, part in parts.items()
        }
        return Prepared(encoded, extractor, names)

    if processing_from:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(processing_from)
    else:
        columns = [data.text_column] if data.task != "causal_lm" else [data.question_column, data.answer_column]
        texts = [text for column in columns for text in rows[column]]
        tokenizer = encoding.build_tokenizer(texts, model.vocab_size)
    if data.task == "causal_lm":
        encoded = {
            name: encoding.encode_qa(part, tokenizer, data.question_column, data.answer_column, data.max_length)
            for name, part in parts.items()
        }
        return Prepared(encoded, tokenizer, None)
    names = _class_names(rows, data.label_column)
    encoded = {
        name: encoding.encode_text_classification(
            part, tokenizer, data.text_column, data.label_column, data.max_length, names=names
        )
        for name, part in parts.items()
    }
    return Prepared(encoded, tokenizer, names)


def _class_names(rows, column: str) -> list[str]:
    """Class names in the order of their numbers, from all rows, so that a forgotten class keeps its number."""
    feature = rows.features[column]
    return list(feature.names) if hasattr(feature, "names") else [str(v) for v in sorted(set(rows[column]))]


def _feature_extractor(data, model, processing_from):
    """The model's own, or one for a new model."""
    from . import building, sound

    if processing_from and Path(processing_from).is_dir() and not Path(processing_from, PROCESSING).is_file():
        raise ValueError(f"There is no {PROCESSING} in {processing_from}: sounds need the model's feature extractor.")
    if processing_from:
        from transformers import AutoFeatureExtractor

        return AutoFeatureExtractor.from_pretrained(processing_from)
    settings = building.model_settings(model.model_type, model.config_overrides)
    return sound.build_feature_extractor(model.model_type, settings, data.sampling_rate, data.max_seconds)


def _channels(image) -> int:
    if hasattr(image, "getbands"):
        return 1 if len(image.getbands()) == 1 else 3
    import numpy as np

    return 1 if np.ndim(image) == 2 else np.shape(image)[-1]
