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
        read: reads them again, with further options of `load_dataset`.
        file: for the warning.
    """
    holes = [name for name in rows.column_names if rows.data.column(name).null_count]
    if not holes:
        return rows
    from datasets import Features, Value, concatenate_datasets

    as_words = Features({**rows.features, **{name: Value("string") for name in holes}})
    literal = read(keep_default_na=False, na_values=[""], features=as_words)
    kept, told = [], []
    for name in holes:
        pairs = list(zip(rows.with_format(None)[name], literal.with_format(None)[name], strict=True))
        words = [word for value, word in pairs if value is None and word is not None]
        if not words:
            continue
        of_words = getattr(rows.features[name], "dtype", "") in ("string", "large_string")
        if of_words or all(value is None for value, _ in pairs):
            kept.append(name)
        how = "are kept as words" if name in kept else "among numbers are taken for no value"
        shown = ", ".join(list(dict.fromkeys(words))[:SHOWN])
        told.append(f"in column {name!r} {len(words)} value(s) {shown} {how}")
    if told:
        logger.warning("%s: %s. An empty place stands for no value.", file, "; ".join(told))
    if not kept:
        return rows
    parts = [rows.remove_columns(kept)] if len(kept) < len(rows.column_names) else []
    return concatenate_datasets([*parts, literal.select_columns(kept)], axis=1).select_columns(rows.column_names)
