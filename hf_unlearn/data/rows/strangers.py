"""Files that are something else than their names say: a web page, a workbook, a pointer of Git LFS."""

from __future__ import annotations

import codecs
from pathlib import Path

from .packed import opened

BEGINNINGS = {  # first bytes -> (what it is, what to do)
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "Fetch that by `git lfs pull`."),
    b"<!doctype html": ("a web page", "Was it downloaded without a login, or from a page that shows the file?"),
    b"<html": ("a web page", "Was it downloaded without a login, or from a page that shows the file?"),
    b"<?xml": ("XML", "Save the rows as CSV or JSON."),
    b"PK\x03\x04": ("a zip archive or a workbook of Excel", "Unpack it, or save the table as CSV in UTF-8."),
    b"\xd0\xcf\x11\xe0": ("a workbook of Excel", "Save the table as CSV in UTF-8."),
    b"%PDF": ("a PDF", "Save the rows as CSV or JSON."),
}
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
CHUNK = 1 << 20


def stranger(path: Path, kind: str) -> str | None:
    """
    What a file is, where its first bytes say that it is not of its kind: "is a web page. …".

    Args:
        kind: json, csv or parquet, as its name says.
    """
    with opened(path, "rb") as file:
        start = file.read(64).removeprefix(codecs.BOM_UTF8)
    for first, (what, fix) in BEGINNINGS.items():
        if start.lower().startswith(first.lower()):
            return f"is {what}. {fix}"
    if start.startswith(PARQUET) and kind != "parquet":
        return "is a Parquet file. Give its name the ending .parquet."
    if start.startswith(GZIP) and kind == "json":
        return "is packed by gzip. Give its name the ending .gz."
    return None


def not_text(path: Path) -> str | None:
    """What is wrong with a file that is no text in UTF-8, which Arrow would tell only where the word is read."""
    decoder, decoded, seen = codecs.getincrementaldecoder("utf-8")(), 0, 0  # bytes
    with opened(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as wrong:
                return f"is no text in UTF-8 (byte {decoded + wrong.start}: {wrong.reason}); save it in that encoding."
            if not chunk:
                return None
            seen += len(chunk)
            decoded = seen - len(decoder.getstate()[0])  # less the beginning of a letter whose end is to come


def header_twice(path: Path) -> str | None:
    """What is wrong with the header of a CSV file that has a name twice, of which pandas would make another one."""
    import csv

    with opened(path) as file:
        names = next(csv.reader(file), [])
    twice = [name for name in dict.fromkeys(names) if name.strip() and names.count(name) > 1]
    return f"has {twice[0]!r} twice in its header: which of the two is meant? Rename one." if twice else None
