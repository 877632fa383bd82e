"""Files of text that may be packed by gzip: `rows.jsonl.gz` is read as `rows.jsonl` is."""

from __future__ import annotations

import gzip
from pathlib import Path

PACKED = ".gz"


def plain_name(name: str) -> str:
    """The name that a file has once it is unpacked."""
    return name[: -len(PACKED)] if name.lower().endswith(PACKED) else name


def opened(path: Path, mode: str = "rt"):
    """A file of text in UTF-8, to be read; EOFError, OSError or zlib.error where what is packed is damaged."""
    encoding = None if "b" in mode else "utf-8"
    return (gzip.open if path.name.lower().endswith(PACKED) else open)(path, mode, encoding=encoding)
