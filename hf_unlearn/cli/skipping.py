"""--skip_broken: rows whose image or sound cannot be read are counted and left out, the same ones by every verb."""

from __future__ import annotations

import logging

from ..utils.checks import ArgumentError, Wrong
from .arguments import DataArguments

logger = logging.getLogger(__name__)

_FOUND: dict[tuple, dict[str, str]] = {}  # what was read -> id of each broken row -> why; a verb reads its rows twice


def without_broken(data: DataArguments, rows, split: str | None = None):
    """
    The rows that can be read, of images and sounds; all, where they are not to be skipped.

    Raises:
        ArgumentError: if none is left.
    """
    column = column_of(data)
    if not data.skip_broken or column not in rows.column_names:
        return rows
    key = (*_key(data), split)
    if key not in _FOUND:
        broken, ids = _broken(data, rows, column), rows["id"]
        _FOUND[key] = {str(ids[i]): why for i, why in broken.items()}
        if broken:
            first = next(iter(_FOUND[key].items()))
            logger.warning("%d of %d rows cannot be read and are left out (--skip_broken), such as %s: %s.",
                           len(broken), len(rows), *first)  # fmt: skip
    gone = _FOUND[key]
    kept = [i for i, one in enumerate(rows["id"]) if str(one) not in gone]
    if not kept:
        raise ArgumentError([Wrong("skip_broken", f"leaves no row: none of the {len(rows)} can be read.")])
    return rows.select(kept) if gone else rows


def skipped(data: DataArguments) -> int:
    """How many rows were left out."""
    return sum(len(found) for key, found in _FOUND.items() if key[:-1] == _key(data))


def column_of(data: DataArguments) -> str | None:
    """The column that holds the files; None of other tasks."""
    columns = {"image_classification": data.image_column, "audio_classification": data.audio_column}
    return columns.get(data.task)


def _key(data: DataArguments) -> tuple:
    return data.dataset_name, data.data_files, data.dataset_config, data.dataset_revision, data.limit, column_of(data)


def _broken(data: DataArguments, rows, column: str) -> dict[int, str]:
    from ..data.encode import images, sound

    return (images.broken_images if data.task == "image_classification" else sound.broken_sounds)(rows, column)
