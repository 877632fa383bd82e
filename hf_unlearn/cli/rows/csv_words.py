"""Words of a CSV file that pandas, and so `datasets`, takes for no value: NA, None, null, nan and their like."""

from __future__ import annotations

import logging
from collections.abc import Callable

SHOWN = 5  # different words that a warning names

logger = logging.getLogger(__name__)


def kept_words(rows, read: Callable, file: str):
    """
    The rows with such words kept in columns of words, where they may be an answer or the name of a class; among numbers
    or true and false they stand for no value, as an empty place does everywhere. Both are told in a warning.

    Args:
        rows: as `datasets` reads them.
        read: reads them again, with further options of `pandas.read_csv`.
        file: for the warning.
    """
    holes = [name for name in rows.column_names if rows.data.column(name).null_count]
    if not holes:
        return rows
    literal = read(keep_default_na=False, na_values=[""])
    texts = [name for name in holes if getattr(literal.features[name], "dtype", "") in ("string", "large_string")]
    kept, told = [], []
    for name in texts:
        pairs = zip(rows.with_format(None)[name], literal.with_format(None)[name], strict=True)
        words = [word for value, word in pairs if value is None and word is not None]
        if not words:
            continue
        is_text = getattr(rows.features[name], "dtype", "") in ("string", "large_string", "null")
        if is_text or len(words) + literal.data.column(name).null_count == len(rows):  # nothing but such words
            kept.append(name)
        how = "are kept as words" if name in kept else "among numbers are taken for no value"
        shown = ", ".join(list(dict.fromkeys(words))[:SHOWN])
        told.append(f"in column {name!r} {len(words)} value(s) {shown} {how}")
    if told:
        logger.warning("%s: %s. An empty place stands for no value.", file, "; ".join(told))
    if not kept:
        return rows
    from datasets import concatenate_datasets

    both = concatenate_datasets([rows.remove_columns(kept), literal.select_columns(kept)], axis=1)
    return both.select_columns(rows.column_names)
