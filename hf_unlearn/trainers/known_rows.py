"""
Which rows were a model trained on, and which was it asked to forget? `rows.digests`, beside `readiness.json` or
`unlearning.json`, commits to all of them: for each row 8 bytes of HMAC-SHA256 of each of

    its content    the columns of the model's inputs, bit by bit;
    what it says   its tokens without padding, and its text without case, punctuation and white space
                   ([`hf_unlearn.data.duplicates.contents`]); none of pictures and sounds;
    its id         where it has one;

under the owner's salt ([`hf_unlearn.trainers.records`]), sorted. It travels with the model from request to request.
[`UnlearnTrainer`] refuses unseen rows that were trained on and retain rows that are to stay forgotten, [`ReadyTrainer`]
training rows that are. Rows that are drawn anew each time they are read, as where pictures are flipped at random, are
committed to by their ids alone.

The salt does not travel: with it, whoever holds a row could tell that it was trained on. So the check runs where the
salt is at hand (beside the file, or in the folder named by `UnlearnConfig.readiness_from`), and a warning says so
elsewhere.

The file: `MAGIC`, length of the header (4 bytes), header (JSON), the digests (8 bytes each, of all sets), SHA-256 of
all that.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.columns import column_names, first_ids, row_ids
from ..data.duplicates import contents, worded_columns
from ..data.keys import as_bytes
from ..data.read_once import read_once
from ..data.row_digests import content_columns, drawn_columns, row_digests
from ..data.value_digests import hashed
from ..utils import sealed
from ..utils.checks import problems_of
from . import records
from .models import has_trained_adapter

logger = logging.getLogger(__name__)

FILE = "rows.digests"
MAGIC = b"hf_unlearn rows\n"
TRAINED, FORGOTTEN = "trained", "forgotten"
WAS = {TRAINED: "was trained on", FORGOTTEN: "was asked to forget"}
KINDS = ("content", "said", "id")


@dataclass(frozen=True)
class KnownRows:
    """
    Args:
        part: what became of the rows: `TRAINED` or `FORGOTTEN` (somebody asked for it).
        of: what is digested, one of `KINDS`; files of older versions have no "said".
        columns: those that the content is in; labels are none: a row is the same under another label.
        salt: name of the salt ([`records.salt_id`]).
        digests: (M,) uint64, sorted; of what a row says there may be two.
    """

    part: str
    of: str
    columns: tuple[str, ...]
    salt: str
    digests: np.ndarray


def commit(part: str, rows, salt: str, own: Iterable[str] = (), processing_class=None) -> list[KnownRows]:
    """
    Digests of some rows. A warning tells where they cannot be committed to by their content.

    Args:
        own: columns that are no content, beside `id` and labels.
        processing_class: tokenizer that reads the text from token ids, where there are no columns of text.
    """
    read = Rows(rows, processing_class)
    columns = {"content": tuple(content_columns(read.rows, own)), "id": ()}
    columns["said"] = worded_columns(read.rows, {name for name in own if name})
    if drawn := read.drawn(columns["content"]):
        logger.warning(
            "The rows that %s are drawn anew each time they are read (%s), as where pictures are flipped at random: "
            "%s commits to %s, and rows of the same content are not noticed in a later request. Where that matters, "
            "draw in the `data_collator`.", "were trained on" if part == TRAINED else "are forgotten",
            ", ".join(map(repr, drawn)), FILE, "their ids alone" if "id" in read.names else "none of them"
        )  # fmt: skip
    found = []
    for of in KINDS:
        digests = None if drawn and of != "id" else read.digests(of, columns[of], salt)
        if digests is not None:
            found.append(KnownRows(part, of, columns[of], records.salt_id(salt), np.unique(digests)))
    return found


class Rows:
    """Rows that [`KnownRows`] are made of, or compared with; what is digested of them is read once."""

    def __init__(self, rows, processing_class=None):
        self.rows, self.processing_class = read_once(rows), processing_class
        self.names = column_names(self.rows)
        self._plain: dict[tuple, list | None] = {}
        self._drawn: dict[tuple, list[str]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def named(self, inside: np.ndarray) -> str:
        """The first ids of these rows."""
        ids = row_ids(self.rows)
        return first_ids([ids[i] for i in np.flatnonzero(inside)])

    def drawn(self, columns: Iterable[str]) -> list[str]:
        """[`drawn_columns`] among these."""
        key = tuple(column for column in columns if column in self.names)
        if key not in self._drawn:
            self._drawn[key] = drawn_columns(self.rows, key)
        return self._drawn[key]

    def digests(self, of: str, columns: tuple[str, ...], salt: str) -> np.ndarray | None:
        """(N, k) uint64 of each row, in order, k of what it says; None where these rows have no such thing."""
        if (of, columns) not in self._plain:
            self._plain[of, columns] = self._read(of, columns)
        plain, key = self._plain[of, columns], salt.encode()
        if plain is None:
            return None
        made = b"".join(hmac.digest(key, one, "sha256")[:8] for own in plain for one in own)
        return np.frombuffer(made, "<u8").reshape(len(self), -1)

    def _read(self, of: str, columns: tuple[str, ...]) -> list[tuple[bytes, ...]] | None:
        if of == "id":
            return [(b"id " + str(i).encode(),) for i in row_ids(self.rows)] if "id" in self.names else None
        there = [column for column in columns if column in self.names]
        if not there or self.drawn(there):
            return None
        if of == "said":
            (content,) = contents([self.rows], self.processing_class, only=there, hash_of=hashed)
            worded = content.texts is not None or content.tokens is not None
            return [tuple(b"said " + key for key in keys) for keys in as_bytes(content.keys)] if worded else None
        return [(one,) for one in row_digests(self.rows, columns, checked=True)] if len(there) == len(columns) else None

    def inside(self, known: Known, part: str, of: str) -> np.ndarray | None:
        """(N,) bool: the rows that are in one of the sets; None where there is none to compare them with."""
        found = []
        for own in known.of(part, of):
            made = self.digests(of, own.columns, known.by_id[own.salt])
            if made is not None:
                found.append(np.isin(made, own.digests).any(axis=1))
        return np.any(found, axis=0) if found else None

    def tell_what_cannot_be_compared(self, known: Known, part: str, name: str) -> None:
        """A warning where there is content to compare these rows with, and it cannot be compared."""
        sets = known.of(part, "content")
        if not sets or self.inside(known, part, "content") is not None:
            return
        wanted = sorted({column for own in sets for column in own.columns})
        if missing := [column for column in wanted if column not in self.names]:
            why = f"they have no column {', '.join(map(repr, missing))}"
        else:
            why = f"they are drawn anew each time they are read ({', '.join(map(repr, self.drawn(wanted)))})"
        logger.warning(
            "The %s rows cannot be compared with the content of the rows that %s %s: %s.",
            name,
            known.where,
            WAS[part],
            why,
        )


# ---- the file ----


def write(path, sets: list[KnownRows]) -> None:
    """Whole or not at all."""
    heads = [{"part": s.part, "of": s.of, "columns": s.columns, "salt": s.salt, "rows": len(s.digests)} for s in sets]
    body = b"".join(s.digests.astype("<u8").tobytes() for s in sets)
    sealed.write(path, MAGIC, {"schema": records.SCHEMA, "sets": heads}, body)


def read(path) -> list[KnownRows]:
    """
    Raises:
        ValueError: if the file is damaged, or of a schema that this version does not read.
    """
    header, body = sealed.read(path, MAGIC, records.SCHEMA)
    found, begin = [], 0
    for head in header["sets"]:
        digests = np.frombuffer(body, "<u8", head["rows"], begin)
        found.append(KnownRows(head["part"], head["of"], tuple(head["columns"]), head["salt"], digests))
        begin += digests.nbytes
    return found


@dataclass(frozen=True)
class Known:
    """What is known of a model's rows: the sets, the salts at hand by name, and where that is from."""

    sets: tuple[KnownRows, ...] = ()
    salts: tuple[str, ...] = ()
    where: str = ""

    @property
    def by_id(self) -> dict[str, str]:
        """The salts at hand by their names."""
        return {records.salt_id(salt): salt for salt in self.salts}

    def of(self, part: str, kind: str) -> list[KnownRows]:
        """The sets of this part and kind that a salt at hand opens."""
        return [own for own in self.sets if (own.part, own.of) == (part, kind) and own.salt in self.by_id]


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


def problems(known: Known, processing_class=None, **sets) -> list[str]:
    """
    Unseen rows that the model was trained on or asked to forget, and retain or training rows that it was asked to
    forget, by ids. Where only the id is one of theirs a warning tells it: another data set may have the same ids.

    Args:
        processing_class: tokenizer that reads the text from token ids, where there are no columns of text.
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
    closed = {s.salt for s in known.sets} - set(known.by_id)
    if closed:
        logger.warning(
            "%s commits to the rows of %s, but the salt that opens it is not at hand: whether unseen rows were trained "
            "on, or retain rows were to be forgotten, is not checked. If you are its owner, name the folder with %s by "
            "`readiness_from`.", FILE, known.where, records.SALT
        )  # fmt: skip
    read = {name: Rows(rows, processing_class) for name, rows in sets.items()} if known.sets else {}
    for (name, part), said in why.items():
        if name in read:
            found += _known_problems(known, part, name, read[name], said)
    return found


def _known_problems(known: Known, part: str, name: str, rows: Rows, said: str) -> list[str]:
    """What [`problems`] tells of one set of rows; `said` is what follows on where they are from."""
    rows.tell_what_cannot_be_compared(known, part, name)
    none = np.zeros(len(rows), bool)
    by_content, by_words, by_id = (none if (one := rows.inside(known, part, of)) is None else one for of in KINDS)
    by_words = by_words & ~by_content
    found = [
        f"{inside.sum()} of {len(rows)} {name} rows {are} that {known.where} "
        + said.format(n=f"ids {rows.named(inside)}") + end
        for inside, are, end in (
            (by_content, "are rows", "."),
            (by_words, "say the same as rows", ". They differ in case, punctuation, white space or padding alone."),
        ) if inside.any()
    ]  # fmt: skip
    if by_id.any() and not found:
        logger.warning(
            "%d of %d %s rows have ids of rows that %s %s, but another content: ids %s. Where they are the same rows, "
            "leave them out.", by_id.sum(), len(rows), name, known.where, WAS[part], rows.named(by_id)
        )  # fmt: skip
    return found


def met_before(known: Known, rows, chosen: np.ndarray, processing_class=None) -> list[str]:
    """
    Rows that the model was trained on before this training, which a replay of this one alone would not take out.

    Args:
        chosen: (N,) True for the rows that may be asked for.
    """
    if not known.of(TRAINED, "content") + known.of(TRAINED, "said"):
        return []
    read = Rows(rows, processing_class)
    found = [inside for of in ("content", "said") if (inside := read.inside(known, TRAINED, of)) is not None]
    met = np.any([np.zeros(len(read), bool), *found], axis=0) & chosen
    if not met.any():
        return []
    return [
        f"{met.sum()} of {chosen.sum()} revocable rows (ids {read.named(met)}) are rows that {known.where} was trained "
        "on before: its weights have met them, and a replay goes back to the beginning of this training at most. Start "
        "from a model that has not met them, or mark them as stable."
    ]


def not_met(known: Known, rows, chosen: np.ndarray, processing_class=None) -> list[str]:
    """
    Rows that are to be those of the training, by their ids, and are other ones by their content; nothing where that
    cannot be compared.

    Args:
        chosen: (N,) True for the rows that are meant.
    """
    if not known.of(TRAINED, "content") + known.of(TRAINED, "said"):
        return []
    read = Rows(rows, processing_class)
    met = next((one for of in ("content", "said") if (one := read.inside(known, TRAINED, of)) is not None), chosen)
    if not (other := chosen & ~met).any():
        return []
    return [
        f"{other.sum()} of {chosen.sum()} rows (ids {read.named(other)}) are not those that {known.where} was trained "
        "on, though they have their ids: what they would train is another model. Give them as they were."
    ]


def measured_problems(
    known: Known, rows: Mapping, *, retrained: bool = False, unlearned: bool = False, processing_class=None
) -> list[str]:
    """
    What of the rows that a model is to be measured on does not go with what its folder says: unseen rows that it was
    trained on, forget rows that it was retrained with, or that nobody asked it to forget.

    Args:
        rows: those of "forget" and "unseen".
        processing_class: tokenizer that reads the text from token ids, where there are no columns of text.
    """
    read = {name: Rows(rows[name], processing_class) for name in ("forget", "unseen")}

    def ids(name: str, inside: np.ndarray) -> str:
        return f"{inside.sum()} of {len(inside)} {name} rows (ids {read[name].named(inside)})"

    def among(name: str, part: str, kinds: Iterable[str] = ("content", "said")) -> np.ndarray | None:
        return _among(read[name], known, part, kinds)

    found = []
    for part in (TRAINED, FORGOTTEN):
        read["unseen"].tell_what_cannot_be_compared(known, part, "unseen")
    seen = [inside for part in (TRAINED, FORGOTTEN) if (inside := among("unseen", part)) is not None]
    if seen and (seen := np.any(seen, axis=0)).any():
        found.append(
            f"{ids('unseen', seen)} are rows, or say the same as rows, that {known.where} was trained on: forgotten "
            "rows would be compared with trained ones. Give the rows' flags as at its training, or the rows that were "
            "kept out by --unseen_ids."
        )
    if retrained and (with_them := among("forget", TRAINED)) is not None and with_them.any():
        found.append(
            f"{ids('forget', with_them)} are rows, or say the same as rows, that {known.where} was trained on: it is "
            "no model retrained without them."
        )
    if unlearned:
        named = among("forget", FORGOTTEN, KINDS)
        if named is not None and not named.all():
            found.append(
                f"{ids('forget', ~named)} are none that {known.where} was asked to forget. Give the flags of that "
                "request."
            )
    return found


def were_asked_for(known: Known, rows, processing_class=None) -> bool:
    """Whether a model was asked to forget each of some rows; False also where that is not known."""
    inside = _among(Rows(rows, processing_class), known, FORGOTTEN, KINDS)
    return inside is not None and bool(inside.all())


def _among(rows: Rows, known: Known, part: str, kinds: Iterable[str]) -> np.ndarray | None:
    """(N,) bool: the rows that are known by any of these kinds; None where there is none to compare them with."""
    compared = [inside for of in kinds if (inside := rows.inside(known, part, of)) is not None]
    return np.any(compared, axis=0) if compared else None


def tell_adapter_of_unknown_folder(model, fixes: Iterable[str]) -> None:
    """
    A warning where a model object has a trained adapter on it: PEFT does not keep where it was loaded from, so that
    what is beside it is not read.

    Args:
        fixes: what else than to pass the folder makes it known.
    """
    if has_trained_adapter(model):
        logger.warning(
            "The model comes with a trained adapter, and which folder that is from is not known (PEFT does not keep "
            "it): if the adapter was made ready or has unlearned rows, what its folder says of them is not read, and "
            "these rows may be learned again. Then %s.", ", or ".join(["pass that folder as `model`", *fixes])
        )  # fmt: skip


def tell_earlier_request(earlier: Known, retain) -> None:
    """
    A warning where a request in the output folder, which the present one will replace, named some of the retain rows.

    Args:
        earlier: what that folder says of its rows.
    """
    rows = Rows(retain)
    inside = rows.inside(earlier, FORGOTTEN, "content")
    if inside is not None and inside.any():
        logger.warning(
            "An earlier request in %s named %d of the retain rows, ids %s. Its result will be replaced by a model that "
            "keeps them; to forget them, too, name them in this request, or start from the earlier result.",
            earlier.where, inside.sum(), rows.named(inside)
        )  # fmt: skip
