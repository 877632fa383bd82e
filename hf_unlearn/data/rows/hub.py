"""Rows from the Hub."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable

from .files import BUILDERS, is_path, split_name
from .named import EMBEDDED, FILES_OF

SHOWN = 20  # names that a message lists


def looks_like_hub_id(name) -> bool:
    return not is_path(name) and name not in BUILDERS.values()


def from_hub(
    name: str, data_files=None, split: str | None = None, config: str | None = None, revision: str | None = None
):
    """
    A split of a data set on the Hub, as a `datasets.Dataset`.

    Raises:
        FileNotFoundError: if it cannot be loaded; the message says why, as far as the Hub tells.
        ValueError: if it has no such configuration or split, or has several and none was named.
    """
    from datasets import load_dataset

    try:
        return load_dataset(name, config, data_files=data_files, split=split or "train", revision=revision)
    except Exception as error:  # offline, unknown id, no such file: each has another type in `datasets`
        if data_files is None and (said := _not_there(name, split_name(split)[0], config, revision)):
            raise ValueError(said) from error
        raise FileNotFoundError(_why(name, data_files, revision, error)) from error


def _not_there(name: str, split: str, config: str | None, revision: str | None) -> str | None:
    """What is wrong where the Hub has the data set, but no such configuration of it or no such split."""
    from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset_builder

    configs = _answer(lambda: get_dataset_config_names(name, revision=revision))
    if not configs:
        return None
    if config is not None and config not in configs:
        return f"{name!r} has no configuration {config!r}; {_named(config, configs)} Name one of them by `config`."
    if config is None and _answer(lambda: load_dataset_builder(name, revision=revision)) is None and len(configs) > 1:
        return f"{name!r} has several configurations: {_list(configs)}. Name one of them by `config`."
    splits = _answer(lambda: get_dataset_split_names(name, config, revision=revision))
    if splits and split not in splits:
        of = f" in its configuration {config!r}" if config else ""
        return f"{name!r} has no split {split!r}{of}; {_named(split, splits)} Name one of them by `split`."
    return None


def _answer(ask: Callable):
    """What the Hub says, or None: the error that was there first is the one to be told."""
    try:
        return ask()
    except Exception:  # as many types as above
        return None


def _named(wanted: str, there: list[str]) -> str:
    """ "it has 'a', 'b'. Did you mean 'a'?" """
    close = difflib.get_close_matches(wanted, there, 1)
    return f"it has {_list(there)}.{f' Did you mean {close[0]!r}?' if close else ''}"


def _list(names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _why(name: str, data_files, revision: str | None, error: Exception) -> str:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    said = " ".join(str(error).split())
    if isinstance(error.__cause__, RevisionNotFoundError):
        return f"{name!r} has no revision {revision!r} on the Hub. Name a branch, a tag or a commit by `revision`."
    if isinstance(error.__cause__, GatedRepoError):
        return f"{name!r} is gated: ask for access on its page, log in (`hf auth login`), and try again. ({said})"
    if "scripts are no longer supported" in said:
        return (
            f"{name!r} is a loading script, which `datasets` runs no more. If its page has a branch with Parquet "
            "files, name that by `revision='refs/convert/parquet'`; else give local files by `data_files`."
        )
    close = difflib.get_close_matches(str(name).lower(), [*EMBEDDED, *FILES_OF], 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    files = f", with its files {data_files!r}," if data_files else ""
    here = f"There is no file or folder {str(data_files or name)!r} in {os.getcwd()!r}. "
    login = " (for a private one, log in by `hf auth login`)" if isinstance(error, DatasetNotFoundError) else ""
    return (
        f"{here}Could not load {name!r}{files} from the Hub, either ({type(error).__name__}: {said}). Name a Hub id "
        f"that exists{login}, with a network; an embedded data set ({', '.join(EMBEDDED)}); or local files by "
        f"`data_files` (known by name: {', '.join(FILES_OF)}).{hint}"
    )
