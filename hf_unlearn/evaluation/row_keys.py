"""
Hashes of rows, and of a split's rows together, are keyed on the disk by the owner's salt ([`hf_unlearn.utils.salts`]):
with the plain hash of a row, or of a request of one row, whoever guesses it could tell that it was asked to be
forgotten. A table says by which salt; salts that were at hand when tables were read are known to this process.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..utils.salts import nearest_salt, salt_id, salts_near
from .tables import described, with_description

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

KEY = "row_hash_salt"  # in a table's description: the salt's name; absent: plain hashes
DATA_KEY = "data_salt"  # the same of its `data`, the hash of all rows
_KNOWN: dict[str, str] = {}  # salts by their names


def key_of(table: pyarrow.Table) -> str | None:
    """Name of the salt that keys the table's row hashes; None: they are plain."""
    return described(table).get(KEY)


def keyed(table: pyarrow.Table, folder) -> pyarrow.Table:
    """The table as it is written into a folder: its hashes keyed, unless they are already."""
    said = described(table)
    rows = "row_hash" in table.column_names and not key_of(table)
    data = bool(said.get("data")) and DATA_KEY not in said  # older versions kept it plain
    if not rows and not data:
        return table
    import pyarrow as pa

    salt = _salt_of(folder)
    if rows:
        place = table.column_names.index("row_hash")
        hashes = pa.array(_keyed(table["row_hash"].to_pylist(), salt), pa.string())
        table = table.set_column(place, table.schema.field(place).name, hashes)
        said = {**said, KEY: salt_id(salt)}
    if data:
        said = {**said, "data": _keyed([said["data"]], salt)[0], DATA_KEY: salt_id(salt)}
    return with_description(table, said)


def keyed_card(card: Mapping[str, Any], folder, draw: bool = True) -> dict[str, Any]:
    """
    A score card's dict as it is written into a folder: the hashes of its splits keyed, unless they are already.

    Args:
        draw: False: where there is no salt in or above the folder, plain hashes are left out and none is drawn.
    """
    made = {}
    for task, own in (card.get("provenance") or {}).items():
        made[task] = own = dict(own)
        for split, of in (own.get("data") or {}).items():
            if of.get("hash") and "salt" not in of:
                salt = _salt_of(folder) if draw else next(iter(salts_near(folder).values()), None)
                named = {"hash": _keyed([of["hash"]], salt)[0], "salt": salt_id(salt)} if salt else {"hash": None}
                own["data"] = {**own["data"], split: {**of, **named}}
    return {**card, **({"provenance": made} if made else {})}


def same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """
    Whether two cards' `{"rows", "hash", "salt"}` of a split can be of the same rows; where the hashes cannot be
    compared, by the number of rows.
    """
    a, b, keys = one.get("hash"), other.get("hash"), (one.get("salt"), other.get("salt"))
    if keys[0] != keys[1]:
        salt = _KNOWN.get(keys[0] or keys[1])
        if salt is None or None not in keys or not a or not b:
            return one.get("rows") == other.get("rows")
        a, b = (a if keys[0] else _keyed([a], salt)[0]), (b if keys[1] else _keyed([b], salt)[0])
    return a == b


def _salt_of(folder) -> str:
    salt = nearest_salt(folder)
    _KNOWN[salt_id(salt)] = salt
    return salt


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
