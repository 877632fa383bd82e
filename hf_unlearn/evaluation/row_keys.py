"""
Row hashes on the disk are keyed by the owner's salt ([`hf_unlearn.utils.salts`]): with the plain hash of a row whoever
guesses it could tell that it was asked to be forgotten. A table says by which salt; salts that were at hand when tables
were read are known to this process.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..utils.salts import nearest_salt, salt_id, salts_near
from .tables import described, with_description

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

KEY = "row_hash_salt"  # in a table's description: the salt's name; absent: plain hashes
_KNOWN: dict[str, str] = {}  # salts by their names


def key_of(table: pyarrow.Table) -> str | None:
    """Name of the salt that keys the table's row hashes; None: they are plain."""
    return described(table).get(KEY)


def keyed(table: pyarrow.Table, folder) -> pyarrow.Table:
    """The table as it is written into a folder: its row hashes keyed, unless they are already."""
    if "row_hash" not in table.column_names or key_of(table):
        return table
    import pyarrow as pa

    salt = nearest_salt(folder)
    _KNOWN[salt_id(salt)] = salt
    place = table.column_names.index("row_hash")
    hashes = pa.array(_keyed(table["row_hash"].to_pylist(), salt), pa.string())
    said = {**described(table), KEY: salt_id(salt)}
    return with_description(table.set_column(place, table.schema.field(place).name, hashes), said)


def know_salts_of(folder) -> None:
    """Makes the salts in and above a folder known."""
    _KNOWN.update(salts_near(folder))


def differing(table: pyarrow.Table, wanted: Sequence[str | None], key: str | None, name: str) -> list[int]:
    """
    Places of the rows whose hash is not the wanted one. None, with a warning, where the hashes cannot be compared.

    Args:
        key: name of the salt that keys `wanted`; None: they are plain.
        name: of the table, for the warning.
    """
    own, mine = table["row_hash"].to_pylist(), key_of(table)
    if mine != key:
        salt = _KNOWN.get(mine or key)
        if salt is None or (mine and key):
            logger.warning(
                "Whether %s is of these rows is known by their number alone: its row hashes are keyed by a salt that "
                "is not at hand (_revocable_salt.json of the folder that it was saved in).", name
            )  # fmt: skip
            return []
        own, wanted = (own, _keyed(wanted, salt)) if mine else (_keyed(own, salt), wanted)
    return [i for i, (a, b) in enumerate(zip(own, wanted, strict=True)) if a != b]


def _keyed(hashes: Sequence[str | None], salt: str) -> list[str | None]:
    key = salt.encode()
    return [None if one is None else hmac.digest(key, one.encode(), "sha256").hex()[:32] for one in hashes]
