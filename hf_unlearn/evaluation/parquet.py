"""Parquet files that carry a digest of their content, which is checked on reading."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..utils.files import short
from .tables import METADATA

if TYPE_CHECKING:
    import pyarrow

DIGEST = b"hf_unlearn_digest"  # key of the schema's metadata
PREFIX = b"hf_unlearn:sha256:"  # what its value begins with: a flipped byte leaves one of them


def parquet_bytes(table: pyarrow.Table) -> bytes:
    """The table as a Parquet file, with its digest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {key: value for key, value in (table.schema.metadata or {}).items() if key != DIGEST}
    out = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**said, DIGEST: table_digest(table)}), out)
    return out.getvalue().to_pybytes()


def read_parquet(path: str | Path) -> pyarrow.Table:
    """
    The table in a file; one without a digest, as of an older version or of others, is taken as it is.

    Raises:
        ValueError: if it is no Parquet, or if its content is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = Path(path).read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
        said = dict(table.schema.metadata or {})
        written = said.pop(DIGEST, None)
        table = table.replace_schema_metadata(said or None)
        if written is None and DIGEST not in data and PREFIX not in data:
            return table
        good = written == table_digest(table)
    except Exception as error:  # Arrow and its columns raise of many kinds where bytes are wrong
        why = short(" ".join(str(error).split()))
        raise ValueError(f"{path} cannot be read: it is damaged, or no Parquet file ({why}).") from error
    if not good:
        raise ValueError(
            f"{path} is damaged: its content does not have the digest that was written with it. Restore it from a "
            "copy, or measure again."
        )
    return table


def table_digest(table: pyarrow.Table) -> bytes:
    """Of names, types, values and the table's description, however they are laid out in memory."""
    digest = hashlib.sha256(repr((table.schema.metadata or {}).get(METADATA)).encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"{field.name}:{_kind(field.type)}:{len(column)};".encode())
        _feed(digest, column.combine_chunks())
    return PREFIX + digest.hexdigest().encode()


def _kind(kind) -> str:
    """Name of a type; Parquet calls the items of lists otherwise."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return f"list<{_kind(kind.value_type)}>" if is_list else str(kind)


def _feed(digest, array) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes() if array.null_count else b"-")
    kind, array = array.type, array.drop_null()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(pc.list_value_length(array).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _feed(digest, array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [text.encode() for text in array.to_pylist()]
        digest.update(np.array([len(text) for text in texts], "<i8").tobytes() + b"".join(texts))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        digest.update(array.to_numpy(zero_copy_only=False).tobytes())
    else:
        digest.update(repr(array.to_pylist()).encode())
