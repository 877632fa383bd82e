"""
Which rows were a model trained on, and which was it asked to forget? `rows.digests`, beside `readiness.json` or
`unlearning.json`, commits to all of them: for each row 8 bytes of HMAC-SHA256 of its content, and of its id where it
has one, under the owner's salt ([`hf_unlearn.trainers.records`]), sorted. It travels with the model from request to
request. [`UnlearnTrainer`] refuses unseen rows that were trained on and retain rows that are to stay forgotten,
[`ReadyTrainer`] training rows that are.

The salt does not travel: with it, whoever holds a row could tell that it was trained on. So the check runs where the
salt is at hand (beside the file, or in the folder named by `UnlearnConfig.readiness`), and a warning says so elsewhere.

The file: `MAGIC`, length of the header (4 bytes), header (JSON), the digests (8 bytes each, of all sets), SHA-256 of
all that.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.columns import column_names, first_ids, row_ids
from ..data.row_digests import content_columns, row_digests
from ..utils.checks import problems_of
from ..utils.files import read_sealed, replace_sealed
from . import records

logger = logging.getLogger(__name__)

FILE = "rows.digests"
MAGIC = b"hf_unlearn rows\n"
TRAINED, FORGOTTEN = "trained", "forgotten"


@dataclass(frozen=True)
class KnownRows:
    """
    Args:
        part: what became of the rows: `TRAINED` or `FORGOTTEN` (somebody asked for it).
        of: what is digested, "content" or "id".
        columns: those that the content is in; labels are none: a row is the same under another label.
        salt: name of the salt ([`records.salt_id`]).
        digests: (N,) uint64, sorted.
    """

    part: str
    of: str
    columns: tuple[str, ...]
    salt: str
    digests: np.ndarray


def commit(part: str, rows, salt: str, own: Iterable[str] = ()) -> list[KnownRows]:
    """
    Digests of some rows.

    Args:
        own: columns that are no content, beside `id` and labels.
    """
    found = []
    columns = content_columns(rows, own)
    for of in ("content", "id"):
        digests = _digests(of, rows, columns, salt)
        if digests is not None:
            of_what = tuple(columns) if of == "content" else ()
            found.append(KnownRows(part, of, of_what, records.salt_id(salt), np.unique(digests)))
    return found


def _digests(of: str, rows, columns: Iterable[str], salt: str) -> np.ndarray | None:
    """(N,) uint64, in order; None where the rows have no ids, or no content that can be read twice alike."""
    names = column_names(rows)
    if of == "id":
        plain = [b"id " + str(i).encode() for i in row_ids(rows)] if "id" in names else None
    else:
        plain = row_digests(rows, columns) if set(columns) and set(columns) <= set(names) else None
    if plain is None:
        return None
    key = salt.encode()
    return np.frombuffer(b"".join(hmac.digest(key, one, "sha256")[:8] for one in plain), "<u8")


# ---- the file ----


def write(path, sets: list[KnownRows]) -> None:
    """Whole or not at all."""
    heads = [{"part": s.part, "of": s.of, "columns": s.columns, "salt": s.salt, "rows": len(s.digests)} for s in sets]
    header = json.dumps({"schema": records.SCHEMA, "sets": heads}).encode()
    content = MAGIC + len(header).to_bytes(4, "little") + header
    content += b"".join(s.digests.astype("<u8").tobytes() for s in sets)
    replace_sealed(path, content)


def read(path) -> list[KnownRows]:
    """
    Raises:
        ValueError: if the file is damaged, or of a schema that this version does not read.
    """
    content = read_sealed(path)
    if not content.startswith(MAGIC):
        raise ValueError(f"{path} does not hold digests of rows.")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(content[len(MAGIC) : start], "little")
    header = json.loads(content[start:end])
    if header["schema"] != records.SCHEMA:
        raise ValueError(f"{path} has schema {header['schema']!r}; this version reads {records.SCHEMA}.")
    found = []
    for head in header["sets"]:
        digests = np.frombuffer(content, "<u8", head["rows"], end)
        found.append(KnownRows(head["part"], head["of"], tuple(head["columns"]), head["salt"], digests))
        end += digests.nbytes
    return found


@dataclass(frozen=True)
class Known:
    """What is known of a model's rows: the sets, the salts at hand by name, and where that is from."""

    sets: tuple[KnownRows, ...] = ()
    salts: tuple[str, ...] = ()
    where: str = ""


def of_model(sources: Iterable[str | None]) -> Known:
    """
    What the folders or hub ids say of their rows; the salts are sought in folders.

    Raises:
        ValueError: if a file is damaged.
    """
    sets: list[KnownRows] = []
    salts: dict[str, str] = {}
    where = ""
    for source in dict.fromkeys(source for source in sources if source):
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        if Path(source).exists():
            salts |= records.known_salts(folder, *([folder.parent] if folder.name.startswith("checkpoint-") else []))
        try:
            path = records.find_file(str(folder) if Path(source).exists() else source, FILE)
        except records.NoAnswer as silence:
            logger.info("Which rows %s was trained on is not known: %s", source, silence)
            continue
        if path is not None:
            sets += [s for s in read(path) if not any(_same(s, other) for other in sets)]
            where = where or str(source)
    return Known(tuple(sets), tuple(salts.values()), where)


def read_of(sources: Iterable[str | None]) -> tuple[Known, list[str]]:
    """[`of_model`], and what is wrong with the files."""
    try:
        return of_model(sources), []
    except ValueError as error:
        return Known(), problems_of(error)


def _same(a: KnownRows, b: KnownRows) -> bool:
    heads = ((s.part, s.of, s.columns, s.salt) for s in (a, b))
    return next(heads) == next(heads) and np.array_equal(a.digests, b.digests)


# ---- the check ----


def problems(known: Known, **sets) -> list[str]:
    """
    Unseen rows that the model was trained on or asked to forget, and retain or training rows that it was asked to
    forget, by ids. Where only the id is one of theirs a warning tells it: another data set may have the same ids.

    Args:
        sets: rows as `unseen`, `retain` or `training`.
    """
    found = []
    why = {
        ("unseen", TRAINED): "was trained on ({n}): τ would be the loss of trained rows, and nothing forgotten. Give "
        "rows that were kept out of the training: `split(…, unseen=[their ids])`, --unseen_ids",
        ("unseen", FORGOTTEN): "was asked to forget ({n}): it was trained on them. Give rows that were never trained "
        "on, and leave these out: `split(…, deleted=[their ids])`, --deleted",
        ("retain", FORGOTTEN): "was asked to forget ({n}): they would be learned again. Leave them out: "
        "`split(…, deleted=[their ids])`, --deleted",
        ("training", FORGOTTEN): "was asked to forget ({n}): they would be learned again. Leave them out",
    }
    closed = {s.salt for s in known.sets} - {records.salt_id(salt) for salt in known.salts}
    if closed:
        logger.warning(
            "%s commits to the rows of %s, but the salt that opens it is not at hand: whether unseen rows were trained "
            "on, or retain rows were to be forgotten, is not checked. If you are its owner, name the folder with %s by "
            "`readiness`.", FILE, known.where, records.SALT
        )  # fmt: skip
    for (name, part), said in why.items():
        if name not in sets:
            continue
        rows = sets[name]
        ids = row_ids(rows)
        by_content, by_id = (_members(known, part, of, rows) for of in ("content", "id"))
        if by_content.any():
            named = first_ids([ids[i] for i in np.flatnonzero(by_content)])
            found.append(
                f"{by_content.sum()} of {len(ids)} {name} rows are rows that {known.where} "
                + said.format(n=f"ids {named}") + "."
            )  # fmt: skip
        elif by_id.any():
            logger.warning(
                "%d of %d %s rows have ids of rows that %s %s, but another content: ids %s. Where they are the same "
                "rows, leave them out.", by_id.sum(), len(ids), name, known.where,
                "was trained on" if part == TRAINED else "was asked to forget",
                first_ids([ids[i] for i in np.flatnonzero(by_id)]),
            )  # fmt: skip
    return found


def _members(known: Known, part: str, of: str, rows) -> np.ndarray:
    """(N,) bool: the rows that are in one of the sets."""
    inside = np.zeros(len(rows), bool)
    salts = {records.salt_id(salt): salt for salt in known.salts}
    made: dict[tuple, np.ndarray | None] = {}
    for own in known.sets:
        if (own.part, own.of) != (part, of) or own.salt not in salts:
            continue
        key = (own.columns, own.salt)
        if key not in made:
            made[key] = _digests(of, rows, own.columns, salts[own.salt])
        if made[key] is not None:
            inside |= np.isin(made[key], own.digests)
    return inside


def measured_problems(known: Known, rows: Mapping, *, retrained: bool = False, unlearned: bool = False) -> list[str]:
    """
    What of the rows that a model is to be measured on does not go with what its folder says: unseen rows that it was
    trained on, forget rows that it was retrained with, or that nobody asked it to forget.

    Args:
        rows: those of "forget" and "unseen".
    """

    def ids(name: str, inside: np.ndarray) -> str:
        every = row_ids(rows[name])
        said = first_ids([every[i] for i in np.flatnonzero(inside)])
        return f"{inside.sum()} of {len(every)} {name} rows (ids {said})"

    salts = {records.salt_id(salt) for salt in known.salts}
    asked = {s.part for s in known.sets if s.salt in salts}
    found = []
    seen = _members(known, TRAINED, "content", rows["unseen"]) | _members(known, FORGOTTEN, "content", rows["unseen"])
    if seen.any():
        found.append(
            f"{ids('unseen', seen)} are rows that {known.where} was trained on: forgotten rows would be compared with "
            "trained ones. Give the rows' flags as at its training, or the rows that were kept out by --unseen_ids."
        )
    if retrained and (with_them := _members(known, TRAINED, "content", rows["forget"])).any():
        found.append(
            f"{ids('forget', with_them)} are rows that {known.where} was trained on: it is no model retrained without "
            "them."
        )
    if unlearned and FORGOTTEN in asked:
        named = [_members(known, FORGOTTEN, of, rows["forget"]) for of in ("content", "id")]
        if (other := ~(named[0] | named[1])).any():
            found.append(
                f"{ids('forget', other)} are none that {known.where} was asked to forget. Give the flags of that "
                "request."
            )
    return found


def tell_earlier_request(earlier: Known, retain) -> None:
    """
    A warning where a request in the output folder, which the present one will replace, named some of the retain rows.

    Args:
        earlier: what that folder says of its rows.
    """
    inside = _members(earlier, FORGOTTEN, "content", retain)
    if inside.any():
        logger.warning(
            "An earlier request in %s named %d of the retain rows, ids %s. Its result will be replaced by a model that "
            "keeps them; to forget them, too, name them in this request, or start from the earlier result.",
            earlier.where, inside.sum(), first_ids([row_ids(retain)[i] for i in np.flatnonzero(inside)])
        )  # fmt: skip
