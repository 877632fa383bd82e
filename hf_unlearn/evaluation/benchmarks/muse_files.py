"""Where the rows of MUSE are: a folder a part with a file a split, or a configuration a part on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.rows.files import is_path
from .files import checked, listed, plain_stem, rows_in, tables_in

LAYOUT: dict[str, dict[str, tuple[str, ...]]] = {  # part -> split -> names of its file, the first that is there counts
    "verbmem": {"forget": ("forget",)},
    "knowmem": {
        "forget": ("forget_qa",),
        "forget_examples": ("forget_qa_icl",),
        "retain": ("retain_qa", "retain2_qa"),
        "retain_examples": ("retain_qa_icl", "retain2_qa_icl"),
    },
    "privleak": {"forget": ("forget",), "holdout": ("holdout",)},
    "raw": {"forget": ("forget",), "retain": ("retain2", "retain", "retain1"), "holdout": ("holdout",)},
}
DEFAULT_PARTS = ("verbmem", "knowmem", "privleak")
COLUMNS = {
    "verbmem": ("prompt", "gt"),
    "knowmem": ("question", "answer"),
    "privleak": ("text",),
    "raw": ("text",),
}
NEEDS = {"verbmem": ("forget",), "knowmem": ("forget",), "privleak": ("forget", "holdout"), "raw": ()}  # splits


def read(where: Any, parts: Sequence[str], must: bool) -> dict[str, dict[str, Any]]:
    """
    Part -> split -> rows, checked; of parts that are not there nothing, unless they `must` be.

    Raises:
        ValueError, FileNotFoundError: as of `read_muse`.
    """
    if isinstance(where, Mapping):
        found = _given(where, parts)
        where = "`benchmarks['muse']`"
    elif (folder := Path(where).expanduser()).exists():
        found = _in_folder(folder, parts)
    elif is_path(where):
        raise FileNotFoundError(f"There is no folder {str(where)!r} (looked in {str(Path.cwd())!r}).")
    else:
        found = _on_the_hub(str(where), parts)
    missing = [part for part in parts if not found.get(part)]
    if len(missing) == len(parts) or (must and missing):
        raise ValueError(f"{where} has no {' and no '.join(missing)}. {_expected(missing)}")
    for part in found:
        if lacks := [LAYOUT[part][split][0] for split in NEEDS[part] if split not in found[part]]:
            raise ValueError(f"{where} has {part}, but without {' and '.join(lacks)}. {_expected([part])}")
    return found


def _expected(parts: Sequence[str]) -> str:
    kinds = [f"{part}/ with {', '.join(names[0] for names in LAYOUT[part].values())}" for part in parts]
    return f"Expected is {'; '.join(kinds)} (.json, .jsonl, .csv or .parquet; texts also as .txt)."


def _given(where: Mapping[str, Any], parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    from ...data.given import as_dataset

    if strange := [part for part in where if part not in LAYOUT]:
        raise ValueError(f"`benchmarks['muse']` has {strange[0]!r}: expected parts among {', '.join(LAYOUT)}.")
    found: dict[str, dict[str, Any]] = {}
    for part, splits in where.items():
        if strange := [split for split in splits if split not in LAYOUT[part]]:
            raise ValueError(f"{part} of `benchmarks['muse']` has {strange[0]!r}: expected {', '.join(LAYOUT[part])}.")
        for split, rows in splits.items():
            rows, problems = as_dataset(rows, f"benchmarks['muse'][{part!r}][{split!r}]")
            if problems:
                raise ValueError(" ".join(problems))
            if part in parts:
                found.setdefault(part, {})[split] = checked(rows, f"{part}/{split}", *COLUMNS[part])
    return found


def _in_folder(folder: Path, parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    if folder.is_file():
        raise ValueError(f"{folder} is a file: MUSE is a folder with a folder a part. {_expected(parts)}")
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        if not (folder / part).is_dir():
            continue
        there = tables_in(folder / part, *((".txt",) if COLUMNS[part] == ("text",) else ()))
        for split, names in LAYOUT[part].items():
            if files := next((own for name in names if (own := _of(there, name))), None):
                if len(files) > 1:
                    raise ValueError(f"{folder / part} holds {split!r} several times: {listed(files)}. Leave one.")
                found.setdefault(part, {})[split] = rows_in(files[0], *COLUMNS[part])
        if part not in found and there:
            raise ValueError(f"{folder / part} holds {listed(there)}. {_expected([part])}")
    return found


def _of(files: Sequence[Path], name: str) -> list[Path]:
    """The files of a split: `forget.json`, or `forget-00000-of-00001.parquet` as on the hub."""
    return [path for path in files if re.fullmatch(rf"{name}(-\d+-of-\d+)?", plain_stem(path))]


def _on_the_hub(name: str, parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    from ...data.rows.by_name import load_rows

    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for split, names in LAYOUT[part].items():
            for one in names:
                try:
                    rows = load_rows(name, config=part, split=one)
                except FileNotFoundError:
                    raise
                except ValueError:  # no such configuration or split
                    continue
                found.setdefault(part, {})[split] = checked(rows, f"{name}, {part}/{one}", *COLUMNS[part])
                break
    return found
