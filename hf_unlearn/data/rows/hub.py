"""Rows from the Hub."""

from __future__ import annotations

import difflib

from .files import BUILDERS, is_path
from .named import EMBEDDED, FILES_OF


def looks_like_hub_id(name) -> bool:
    return not is_path(name) and name not in BUILDERS.values()


def from_hub(name: str, data_files=None, split: str | None = None):
    """
    Raises:
        FileNotFoundError: if it cannot be loaded, whatever the reason; the message says it.
    """
    from datasets import load_dataset

    try:
        return load_dataset(name, data_files=data_files, split=split or "train")
    except Exception as error:  # offline, unknown id, no such file: each has another type in `datasets`
        close = difflib.get_close_matches(str(name).lower(), [*EMBEDDED, *FILES_OF], 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise FileNotFoundError(
            f"Could not load {name!r} from the Hub ({type(error).__name__}: {error}). Fix: a Hub id that exists and a "
            f"network, an embedded data set ({', '.join(EMBEDDED)}), or local files by --data_files "
            f"(known by name: {', '.join(FILES_OF)}).{hint}"
        ) from error
