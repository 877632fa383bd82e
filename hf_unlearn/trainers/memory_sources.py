"""
Whose rows a memory's training set holds, and what is kept of that: `memory.rows`.

The file has a line for each row: the digest of its id and the number of its source; and the sources' digests, by which
their tables are named. Digests are BLAKE2b keyed by the owner's salt ([`records`]): who has the salt can tell whose
table is whose, and nobody else can.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass

import numpy as np

from ..data.columns import column_names, column_values, first_ids, row_ids
from ..data.duplicates import contents
from ..data.keys import as_bytes
from ..utils import sealed
from ..utils.checks import ArgumentError, Wrong, shown
from . import records

logger = logging.getLogger(__name__)

FILE = "memory.rows"
MAGIC = b"hf_unlearn memory\n"
SIZE = 16  # bytes of a digest


def keyed(kind: str, value, salt: str) -> bytes:
    """16 bytes that only who has the salt can make of a value."""
    return hashlib.blake2b(f"{kind} {value}".encode(), digest_size=SIZE, key=salt.encode()).digest()


@dataclass
class Sources:
    """
    Args:
        names: of the sources, in the order of their first rows.
        places: of each source (n,) places of its rows.
        public: (m,) places of the rows of no source.
    """

    names: list
    places: list[np.ndarray]
    public: np.ndarray

    @classmethod
    def of(cls, names: list, is_public: np.ndarray) -> Sources:
        """From the source of each row (N,) and whether it belongs to none (N,) bool."""
        found: dict = {}
        for place, name in enumerate(names):
            if not is_public[place]:
                found.setdefault(name, []).append(place)
        return cls(list(found), [np.array(own) for own in found.values()], np.flatnonzero(is_public))


def sources_of(rows, column: str, revocable: str | None) -> tuple[Sources | None, list[str]]:
    """
    The sources of a training set, and what is wrong with it.

    Args:
        column: that names the source of each row, by text or whole numbers, which are one source where they are written
            alike; an empty one, None or NaN: the row is public.
        revocable: boolean column; False: the row is public, too. None, or none of the rows': all rows have sources.
    """
    columns = column_names(rows)
    if column not in columns:
        said = f"is {column!r}, but there is no such column; the rows have {', '.join(map(repr, columns))}. Name the "
        return None, [Wrong("request_group", said + "one that says from whom each row is.")]
    names = [None if _is_missing(name) else name for name in column_values(rows, column)]
    several = [i for i, name in enumerate(names) if isinstance(name, (list, tuple, set, np.ndarray))]
    if several:
        ids = row_ids(rows)
        return None, [
            f"{len(several)} row(s) (ids {first_ids([ids[i] for i in several])}) have a list of sources in {column!r}: "
            "a row of more than one source cannot be deleted with one of them. Give it a source of its own, as text, "
            "or split it."
        ]
    kinds = (str, int, np.integer, type(None))
    wrong = [name for name in names if isinstance(name, bool) or not isinstance(name, kinds)]
    if wrong:
        said = f"must hold text or whole numbers; it holds {wrong[0]!r}. Write the sources as text."
        return None, [f"The column {column!r} of `request_group` {said}"]
    names = [None if name is None or not str(name).strip() else str(name) for name in names]
    is_public = np.array([name is None for name in names])
    if revocable is not None and revocable in columns:
        is_public |= ~np.array(column_values(rows, revocable), dtype=bool)
    found = Sources.of(names, is_public)
    if not found.names:
        return None, [f"No row has a source in {column!r}: there is nobody to fill a table for."]
    return found, []


def _is_missing(name) -> bool:
    return isinstance(name, float) and name != name


def warn_of_rows(rows, sources: Sources, processing_class) -> None:
    """Warnings of sources that may disappoint: of one row, or with words that another source has, too."""
    ids = row_ids(rows)
    if alone := [name for name, own in zip(sources.names, sources.places, strict=True) if len(own) == 1]:
        logger.warning(
            "%d source(s) have one row each (%s): what is learned of them holds for its own wording at best.",
            len(alone), first_ids(alone)
        )  # fmt: skip
    (content,) = contents([rows], processing_class)
    keys, said_by = as_bytes(content.keys), {}
    for name, own in zip(sources.names, sources.places, strict=True):
        for place in own.tolist():
            for key in keys[place]:
                said_by.setdefault(key, {}).setdefault(name, place)
    shared = sorted({place for own in said_by.values() if len(own) > 1 for place in own.values()})
    if shared:
        logger.warning(
            "%d rows of several sources say the same, word for word (ids %s): deleting one source does not delete what "
            "another one has taught, too.", len(shared), first_ids([ids[place] for place in shared])
        )  # fmt: skip


@dataclass
class MemoryRows:
    """
    What `memory.rows` holds.

    Args:
        salt: name of the salt; `key` is the salt itself, which is not in the file.
        sources: digests in hexadecimal, as the tables are named.
        ids: (N, 16) uint8 keyed ids of the rows.
        source_of: (N,) int64 number of each row's source.
    """

    salt: str
    key: str
    sources: list[str]
    ids: np.ndarray
    source_of: np.ndarray

    @classmethod
    def of(cls, rows, sources: Sources, salt: str) -> MemoryRows:
        """Of a training set."""
        digests = [keyed("source", name, salt).hex() for name in sources.names]
        places = np.concatenate(sources.places)
        numbers = np.repeat(np.arange(len(digests)), [len(own) for own in sources.places])
        every = row_ids(rows)
        ids = b"".join(keyed("id", every[place], salt) for place in places.tolist())
        return cls(records.salt_id(salt), salt, digests, np.frombuffer(ids, np.uint8).reshape(-1, SIZE), numbers)

    def __len__(self) -> int:
        return len(self.ids)

    def digest_of(self, name) -> str:
        """Of a source, by its name."""
        return keyed("source", name, self.key).hex()

    def numbers_of(self, ids) -> np.ndarray:
        """(n,) row number of each id; −1: no row of a source."""
        known = {digest.tobytes(): number for number, digest in enumerate(self.ids)}
        return np.array([known.get(keyed("id", one, self.key), -1) for one in ids], dtype=np.int64)

    def without(self, gone: np.ndarray) -> MemoryRows:
        """Without some rows (numbers), and without the sources that none is left of."""
        left = np.setdiff1d(np.arange(len(self)), gone)
        numbers, source_of = np.unique(self.source_of[left], return_inverse=True)
        return MemoryRows(self.salt, self.key, [self.sources[i] for i in numbers], self.ids[left], source_of)

    def joined(self, more: MemoryRows) -> MemoryRows:
        """With sources that were trained later; one that is in both is that of the later training."""
        again = [i for i, source in enumerate(self.sources) if source in more.sources]
        own = self.without(np.flatnonzero(np.isin(self.source_of, again)))
        return MemoryRows(
            self.salt,
            self.key,
            own.sources + more.sources,
            np.concatenate([own.ids, more.ids]),
            np.concatenate([own.source_of, more.source_of + len(own.sources)]).astype(np.int64),
        )

    def write(self, folder: str) -> None:
        """Whole or not at all."""
        header = {"schema": records.SCHEMA, "salt": self.salt, "sources": self.sources, "rows": len(self)}
        body = self.ids.tobytes() + self.source_of.astype("<u4").tobytes()
        sealed.write(os.path.join(folder, FILE), MAGIC, header, body)


def read_rows(source: str, salt_file: str | None = None, fix: str = "Name it by `salt_file`.") -> MemoryRows:
    """
    `memory.rows` of a folder or hub id.

    Args:
        fix: what to do where the salt is not at hand.

    Raises:
        ArgumentError: if it is missing or damaged, or if the salt that opens it is not at hand.
    """
    path = records.find_file(source, FILE)
    if path is None:
        raise ArgumentError([f"{source} has a memory, but no {FILE}, which says whose tables it holds."])
    try:
        header, body = sealed.read(path, MAGIC, records.SCHEMA)
        places = [*([source] if os.path.isdir(source) else []), *([salt_file] if salt_file else [])]
        salts = records.known_salts(*places)
    except ValueError as error:
        raise ArgumentError([str(error)]) from error
    if header["salt"] not in salts:
        said = f" (`salt_file` is {shown(str(salt_file))})" if salt_file else ""
        raise ArgumentError(
            [
                f"The memory of {source} knows its sources by digests, and the salt that opens them is not at hand"
                f"{said}: {records.SALT} of the folder of the training, which is not pushed to the hub. {fix}"
            ]
        )
    n = header["rows"]
    ids = np.frombuffer(body, np.uint8, n * SIZE).reshape(-1, SIZE)
    source_of = np.frombuffer(body, "<u4", n, n * SIZE).astype(np.int64)
    return MemoryRows(header["salt"], salts[header["salt"]], header["sources"], ids, source_of)
