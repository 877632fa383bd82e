"""Binary files of a JSON header and a body, under one digest of both."""

from __future__ import annotations

import json

from .files import read_sealed, replace_sealed


def write(path, magic: bytes, header: dict, body: bytes) -> None:
    """Whole or not at all. The file: `magic`, length of the header (4 bytes), header, body, SHA-256 of all that."""
    head = json.dumps(header).encode()
    replace_sealed(path, magic + len(head).to_bytes(4, "little") + head + body)


def read(path, magic: bytes, schema: int) -> tuple[dict, memoryview]:
    """
    `(header, body)`.

    Raises:
        ValueError: if the file is damaged, of another kind, or of a schema that this version does not read.
    """
    content = read_sealed(path)
    if not content.startswith(magic):
        raise ValueError(f"{path} is a file of another kind: it does not begin with {magic.decode().strip()!r}.")
    start = len(magic) + 4
    end = start + int.from_bytes(content[len(magic) : start], "little")
    header = json.loads(content[start:end])
    if header["schema"] != schema:
        raise ValueError(f"{path} has schema {header['schema']!r}; this version reads {schema}.")
    return header, memoryview(content)[end:]
