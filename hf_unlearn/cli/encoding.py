"""From rows to what a model takes."""

from __future__ import annotations

import json

PROMPT = "Question: {question}\nAnswer:"


def build_tokenizer(texts, vocab_size=2000):
    """Train a byte-level BPE tokenizer: every text can be encoded and decoded without loss, there is no unknown token.

    Args:
        texts: iterable of strings to learn the merges from.
        vocab_size: tokens in all, at least 259 (256 bytes and three special tokens); small texts give fewer than asked
            for.

    Returns:
        `PreTrainedTokenizerFast` with distinct `<pad>` (0), `<s>` (1, bos and cls) and `</s>` (2, eos and sep). Called
        on a text it gives `<s> ... </s>`; `save_pretrained` and `AutoTokenizer.from_pretrained` keep all of it.

    Raises:
        TypeError: `texts` is a single string.
        ValueError: `texts` is empty, or `vocab_size` is below 259.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if isinstance(texts, str):
        raise TypeError("`texts` must be an iterable of strings, got one string.")
    texts = list(texts)
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if not texts or not vocab_size >= len(special) + len(alphabet):
        raise ValueError(
            f"A byte-level tokenizer needs at least one text and `vocab_size` >= {len(special) + len(alphabet)}; "
            f"got {len(texts)} texts, vocab_size={vocab_size}."
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def encode_qa(dataset, tokenizer, question_column="question", answer_column="answer", max_length=256, prompt=PROMPT):
    """Question-answer rows for a causal language model: the question is context, the answer is what is learnt.

    A row becomes `<bos> Question: ... \\nAnswer:` with label -100, followed by ` answer <eos>` with its own ids as
    labels (the model shifts them). Rows are not padded here; the collator does that.

    Args:
        dataset: `datasets.Dataset` with the two columns.
        max_length: tokens in all; a longer row loses the end of its answer.
        prompt: text with the placeholder `{question}`.

    Returns:
        The data set with all its columns and `input_ids`, `attention_mask`, `labels` (lists of int of one length a
        row).

    Raises:
        ValueError: a column is missing, an answer is empty, the tokenizer has no eos token, or truncation to
            `max_length` leaves rows without any label (their ids are listed).
    """
    check_columns(dataset, question_column, answer_column)
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no eos token; an answer could not end. Fix: set `tokenizer.eos_token`.")
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def encode(batch):
        out = {"input_ids": [], "attention_mask": [], "labels": []}
        questions = [prompt.format(question=question) for question in batch[question_column]]
        contexts = tokenizer(questions, add_special_tokens=False)["input_ids"]
        answers = [" " + answer.strip() for answer in batch[answer_column]]
        answers = tokenizer(answers, add_special_tokens=False)["input_ids"]
        for context, answer in zip(contexts, answers, strict=True):
            context, answer = start + context, answer + [tokenizer.eos_token_id]
            out["input_ids"].append((context + answer)[:max_length])
            out["labels"].append(([-100] * len(context) + answer)[:max_length])
            out["attention_mask"].append([1] * len(out["input_ids"][-1]))
        return out

    empty = [i for i, answer in enumerate(dataset[answer_column]) if not (answer or "").strip()]
    if empty:
        raise ValueError(f"{len(empty)} rows have no answer in column {answer_column!r}: {name_rows(dataset, empty)}.")
    encoded = _tokenize(dataset, encode)
    # Labels follow the context without a gap, so the last one tells whether a row has any.
    lost = [i for i, labels in enumerate(encoded["labels"]) if labels[-1] == -100]
    if lost:
        raise ValueError(
            f"{len(lost)} rows have no label left after truncation to max_length={max_length}: "
            f"{name_rows(dataset, lost)}. Fix: a larger `max_length`, or leave these rows out."
        )
    return encoded


def encode_text_classification(
    dataset, tokenizer, text_column="text", label_column="label", max_length=128, names=None
):
    """Texts with one class each for a sequence classifier.

    Args:
        dataset: `datasets.Dataset`; the label column holds class names (str), ints from 0, or is a ClassLabel.
        max_length: longer texts are cut at the end.
        names: class names in the model's order. Give the training set's to the test set, so that a number means one
            class: `names=train.features["labels"].names`. Default: the ClassLabel's, else the sorted names found.

    Returns:
        The data set with all its columns and `input_ids`, `attention_mask`, and `labels` (ClassLabel, ints; its
        `.names` are the class names).

    Raises:
        ValueError: a column is missing, or a label is not among `names`.
    """
    from datasets import ClassLabel

    check_columns(dataset, text_column, label_column)
    names, labels = class_labels(dataset, label_column, names)

    def encode(batch):
        out = tokenizer(batch[text_column], truncation=True, max_length=max_length)
        return {"input_ids": out["input_ids"], "attention_mask": out["attention_mask"]}

    encoded = _tokenize(dataset, encode)
    return encoded.add_column("labels", labels, feature=ClassLabel(names=names))


def build_image_processor(image_size, num_channels=3):
    """A `ViTImageProcessor` without torchvision for square images: resize, to 0..1, then (x - 0.5) / 0.5."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5] * num_channels,
        image_std=[0.5] * num_channels,
    )


def encode_images(
    dataset,
    processor=None,
    image_column="image",
    label_column="label",
    image_size=None,
    num_channels=3,
    names=None,
    batch_size=256,
):
    """Images with one class each for an image classifier.

    An image may be a PIL image (an Image column), or an array or nested list of shape (H, W) or (H, W, C): integers
    count 0..255, floats 0..1. Without a processor: convert to `num_channels`, resize (bilinear) where the size
    differs, then (x - 0.5) / 0.5. Rows are read, converted and written `batch_size` at a time; a data set that lies on
    disk stays there.

    Args:
        processor: an image processor from `AutoImageProcessor`, or None.
        image_size: side in pixels; default: the processor's own, else that of the first image.
        num_channels: 1 or 3.
        names: class names in the model's order, as in `encode_text_classification`.

    Returns:
        The data set without the image column, with `pixel_values` (num_channels, image_size, image_size) float32 and
        `labels` (ClassLabel, ints). All other columns stay.

    Raises:
        ValueError: a column is missing, a label is not among `names`, `num_channels` is neither 1 nor 3, or something
            is not an image.
    """
    import numpy as np
    from datasets import Array3D, ClassLabel

    check_columns(dataset, image_column, label_column)
    if num_channels not in (1, 3):
        raise ValueError(f"`num_channels` must be 1 or 3, got {num_channels}.")
    if not len(dataset):
        raise ValueError("The data set has no rows; there is no image to encode.")
    names, labels = class_labels(dataset, label_column, names)
    size = image_size

    def convert(image):  # -> (C, H, W) float32
        pixels = _pixels(image, num_channels)
        if pixels.shape[:2] != (size, size):
            pixels = _resize(pixels, size)
        return ((pixels - 0.5) / 0.5).transpose(2, 0, 1).astype(np.float32)

    def process(images):
        arrays = [np.rint(_pixels(image, num_channels) * 255).astype(np.uint8) for image in images]
        more = {} if image_size is None else {"size": {"height": image_size, "width": image_size}}
        out = processor(arrays, return_tensors="np", input_data_format="channels_last", **more)
        return np.asarray(out["pixel_values"], dtype=np.float32)

    first = dataset[0][image_column]
    if processor is not None:
        shape = process([first]).shape[1:]
    else:
        size = size or _pixels(first, num_channels).shape[0]
        shape = convert(first).shape

    def encode(batch):
        images = batch[image_column]
        return {
            "pixel_values": process(images) if processor is not None else np.stack([convert(image) for image in images])
        }

    features = dataset.features.copy()
    del features[image_column]
    features.pop("labels", None)
    features["pixel_values"] = Array3D(shape=tuple(shape), dtype="float32")
    encoded = dataset.map(
        encode,
        batched=True,
        batch_size=batch_size,
        writer_batch_size=batch_size,
        features=features,
        remove_columns=[c for c in dataset.column_names if c == image_column or c == "labels"],
        desc="Preparing images",
    )
    return encoded.add_column("labels", labels, feature=ClassLabel(names=names))


def _pixels(image, num_channels):
    """Any image -> (H, W, num_channels) float32 in 0..1."""
    import numpy as np

    if hasattr(image, "convert"):  # PIL
        pixels = np.asarray(image.convert("L" if num_channels == 1 else "RGB"))
    else:
        try:
            pixels = np.asarray(image)
        except ValueError:
            pixels = np.asarray(None)
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3):
        raise ValueError(
            f"Not an image: a value of type {type(image).__name__} and shape {pixels.shape}; expected a PIL "
            "image or an array of shape (H, W) or (H, W, C)."
        )
    pixels = pixels.astype(np.float32) / (1 if pixels.dtype.kind == "f" else 255)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == num_channels:
        return pixels
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"Not an image: {pixels.shape[2]} channels in the last dimension, expected 1 or 3.")
    if num_channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of ITU-R BT.601, as PIL has them
    return (pixels @ luma)[:, :, None]


def _resize(pixels, size):
    import numpy as np
    from PIL import Image

    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[:, :, c])).resize((size, size), Image.Resampling.BILINEAR)
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


def class_labels(dataset, column, names):
    """Class names and the rows' class numbers, from a column of names, of numbers, or a ClassLabel."""
    from datasets import ClassLabel

    feature, values = dataset.features[column], list(dataset[column])
    if isinstance(feature, ClassLabel):
        own = feature.names
        values = [None if value is None or value < 0 else own[value] for value in values]
    elif values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        own = [str(i) for i in range(max(values) + 1)]
        if names is not None and not set(map(str, values)) <= set(names):  # numbers that count the given names
            values = [names[value] if 0 <= value < len(names) else value for value in values]
        values = [str(value) if isinstance(value, int) else value for value in values]
    else:
        own = sorted({str(value) for value in values if value is not None})
        values = [None if value is None else str(value) for value in values]
    names = list(own if names is None else names)
    number = {name: i for i, name in enumerate(names)}
    wrong = [i for i, value in enumerate(values) if value not in number]
    if wrong:
        shown = sorted({repr(values[i]) for i in wrong})[:5]
        raise ValueError(
            f"{len(wrong)} rows have a label in column {column!r} that is not a known class: {', '.join(shown)} "
            f"({name_rows(dataset, wrong)}); the {len(names)} classes are {json.dumps(names[:20])}."
        )
    return names, [number[value] for value in values]


def _tokenize(dataset, function):
    gone = [c for c in ("input_ids", "attention_mask", "labels") if c in dataset.column_names]
    return dataset.map(function, batched=True, desc="Tokenizing", remove_columns=gone)


def check_columns(dataset, *columns):
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}; it has {dataset.column_names}.")


def name_rows(dataset, rows, most=5):
    """For error messages: id p001-town, id p002-job and 7 more."""
    ids = dataset["id"] if "id" in dataset.column_names else range(len(dataset))
    shown = ", ".join(f"id {ids[i]}" for i in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")
