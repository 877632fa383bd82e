"""From images to the rows of an image classifier."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager

from .columns import check_columns, class_labels, name_rows, with_labels

LARGEST_SIDE = 224  # of the images of a new model, in pixels, where nothing else says it
LOOKED_AT = 256  # images whose heads are read, to see whether they have colours
ROUNDING = 1e-3  # so much beyond 0 … 1 a pixel may be


def build_image_processor(image_size, num_channels=3):
    """A `ViTImageProcessor` without torchvision for square images: resize, to 0..1, then (x - 0.5) / 0.5."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5] * num_channels,
        image_std=[0.5] * num_channels,
    )


@contextmanager
def naming_broken_images(dataset, column, num_channels=3):
    """
    Images are decoded within; where some cannot be, the rows are named, all at once.

    Raises:
        ValueError: if an image is broken, its file is not there, or it is none.
    """
    try:
        yield
    except Exception as error:  # of every type that Pillow and the file system raise
        broken = broken_images(dataset, column, num_channels)
        if not broken:
            raise
        rows = list(broken)
        raise ValueError(
            f"{len(rows)} rows have a broken image in column {column!r} ({name_rows(dataset, rows)}): "
            f"{broken[rows[0]]}. Take them out (the verbs do so by --skip_broken), or store the files again."
        ) from error


def broken_images(dataset, column, num_channels=3) -> dict[int, str]:
    """Row number -> why its image cannot be taken. A column of no images at all is told by [`channels_of`]."""
    from datasets import Image
    from PIL import Image as Pictures

    of_files = isinstance(dataset.features.get(column), Image)
    stored = dataset.cast_column(column, Image(decode=False)) if of_files else dataset
    if not of_files and len(stored) and isinstance(stored[0][column], (str, bytes, dict)):
        return {}
    found = {}
    for row, one in enumerate(stored[column]):
        try:
            if one is None:
                raise ValueError("there is none")
            if not of_files:
                _pixels(one, num_channels)
                continue
            with Pictures.open(one["path"] if one["bytes"] is None else io.BytesIO(one["bytes"])) as picture:
                picture.load()
                _pixels(picture, num_channels)
        except Exception as error:  # as above
            said = " ".join(str(error).split()).partition(" <_io")[0]
            path = one.get("path") if of_files and one else None  # of a whole path, the name says enough
            said = said.replace(str(path), os.path.basename(path)) if path else said
            found[row] = f"{said or 'no reason is given'} ({type(error).__name__})"
    return found


def channels_of(dataset, column) -> int:
    """Channels of the images: 3 where any has colours, else 1 (or what an array has). Some are looked at, evenly."""
    import numpy as np
    from datasets import Image

    with naming_broken_images(dataset, column):
        image = dataset[0][column]
        if image is None:
            raise ValueError(f"The first row has no image in column {column!r}.")
    if isinstance(image, (str, bytes, dict)):
        raise ValueError(
            f"Column {column!r} holds no images but such as {str(image)[:80]!r}. A path must be that of a file, from "
            f"{os.getcwd()!r}; or store the files' bytes, or lists of pixels, there."
        )
    if not hasattr(image, "getbands"):
        return 1 if np.ndim(image) == 2 else np.shape(image)[-1]
    if len(image.getbands()) > 1 or not isinstance(dataset.features[column], Image):
        return 1 if len(image.getbands()) == 1 else 3
    places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), LOOKED_AT)).astype(int))
    stored = dataset.cast_column(column, Image(decode=False))
    return 3 if any(_has_colours(stored[int(place)][column]) for place in places) else 1


def channels_taken(processor) -> int | None:
    """Channels that an image processor takes, by its means; None where these do not tell."""
    mean = getattr(processor, "image_mean", None)
    return len(mean) if isinstance(mean, (list, tuple)) and len(mean) in (1, 3) else None


def _has_colours(stored) -> bool:
    """By the file's head alone; of one that is broken, no."""
    from PIL import Image as Pictures

    try:
        with Pictures.open(stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])) as picture:
            return len(picture.getbands()) > 1
    except Exception:  # told where it is decoded
        return False


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
    """Images with one class each, or with several labels, for an image classifier.

    An image may be a PIL image (an Image column), or an array or nested list of shape (H, W) or (H, W, C): integers
    count 0..255, floats 0..1. Without a processor: that of [`build_image_processor`], which resizes to squares. Rows
    are read, converted and written `batch_size` at a time; a data set that lies on disk stays there.

    Args:
        processor: an image processor from `AutoImageProcessor`, or None.
        image_size: side in pixels; default: the processor's own, else the height of the first image, at most 224.
        num_channels: 1 or 3.
        names: class names in the model's order, as in `encode_text_classification`.

    Returns:
        The data set without the image column, with `pixel_values` (num_channels, image_size, image_size) float32 and
        `labels`, as of `encode_text_classification`. All other columns stay.

    Raises:
        ValueError: a column is missing, a label is not among `names`, `num_channels` is neither 1 nor 3, or something
            is not an image or a broken one; its row is named.
    """
    check_columns(dataset, image_column, label_column)
    if num_channels not in (1, 3):
        raise ValueError(f"`num_channels` must be 1 or 3, got {num_channels}.")
    if not len(dataset):
        raise ValueError("The data set has no rows; there is no image to encode.")
    names, labels = class_labels(dataset, label_column, names)
    with naming_broken_images(dataset, image_column, num_channels):
        return _encoded(dataset, processor, image_column, image_size, num_channels, names, labels, batch_size)


def _encoded(dataset, processor, image_column, image_size, num_channels, names, labels, batch_size):
    from datasets import Array3D

    first = dataset[0][image_column]
    if processor is None:  # the one that goes with the model from now on: later the pixels are the same
        side = image_size or min(_pixels(first, num_channels).shape[0], LARGEST_SIDE)
        processor = build_image_processor(side, num_channels)
    pixel_values = _by_processor(processor, image_size, num_channels)
    gone = [c for c in dataset.column_names if c in (image_column, "labels")]
    features = dataset.features.copy()
    for column in gone:
        del features[column]
    features["pixel_values"] = Array3D(shape=pixel_values([first]).shape[1:], dtype="float32")
    encoded = dataset.map(
        lambda batch: {"pixel_values": pixel_values(batch[image_column])},
        batched=True,
        batch_size=batch_size,
        writer_batch_size=batch_size,
        features=features,
        remove_columns=gone,
        desc="Preparing images",
    )
    return with_labels(encoded, names, labels)


def _by_processor(processor, size: int | None, channels: int):
    """Images -> (n, C, H, W) float32."""
    import numpy as np

    more = {} if size is None else {"size": {"height": size, "width": size}}

    def pixel_values(images):
        arrays = [np.rint(_pixels(image, channels) * 255).astype(np.uint8) for image in images]
        out = processor(arrays, return_tensors="np", input_data_format="channels_last", **more)
        return np.asarray(out["pixel_values"], dtype=np.float32)

    return pixel_values


def _pixels(image, num_channels):
    """Any image -> (H, W, num_channels) float32 in 0..1."""
    import numpy as np

    if hasattr(image, "convert") and (image.mode == "I" or image.mode.startswith("I;16")):  # 16 bits a pixel
        pixels = np.asarray(image).astype(np.float32) / (2**16 - 1)  # Pillow itself would cut all above 255
    elif hasattr(image, "convert"):
        pixels = np.asarray(image if image.mode == "F" else image.convert("L" if num_channels == 1 else "RGB"))
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
    of_shares = pixels.dtype.kind == "f"
    low, high, most = pixels.min(initial=0), pixels.max(initial=0), 1 if of_shares else 255
    if not (low >= -ROUNDING and high <= most + ROUNDING):  # also NaN
        counts = "numbers with a point count 0 … 1" if of_shares else "whole numbers count 0 … 255"
        raise ValueError(f"Not an image: values from {low:g} to {high:g}; {counts}.")
    pixels = pixels.astype(np.float32) / most
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
