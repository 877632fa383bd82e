"""
The plan of a training that can be replayed: in `readiness.json` what is arithmetic, in `replay.digests` whose rows.

`replay.digests` has a line for each row number of the order: digest of its id, digest of its content, and the number of
the request that deleted it (0: none did; 255: that one or a later one). Digests are BLAKE2b keyed by the owner's salt
([`records`]): whoever has the remaining rows and the salt can replay and verify, and nobody can tell from the file
alone whose rows they were. The file's header repeats the plan under a digest keyed by the same salt, so that a plan
that was edited by hand is told by what differs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..data.columns import column_names, first_ids, row_ids
from ..data.encode.documents import SIGN
from ..data.replay_order import ReplayOrder
from ..data.requests_in_replay import RequestsInReplay
from ..data.row_digests import row_digests
from ..options.ready import ReadyOptions
from ..readiness.replay_cost import ReadinessCost
from ..utils import sealed
from ..utils.checks import ArgumentError, Wrong, problems_of, shown
from . import records

FILE = "replay.digests"
MAGIC = b"hf_unlearn replay\n"
SIZE = 16  # bytes of a digest
NAMED = 4  # edited fields that a message names, at most
LAST_REQUEST = 255  # that a byte holds
OF_THE_FILE = ("order", "key", "stopped_at", "ids", "contents", "deleted")  # fields that are not in `readiness.json`


@dataclass
class ReplayPlan:
    """
    Args:
        order: which row number comes when.
        tail: share of the steps that may hold revocable rows.
        micro_batches, processes: into how many parts a step is cut.
        warmup: steps of rising learning rate.
        schedule: the user's own `lr_scheduler_type`; None: the plan's ([`hf_unlearn.readiness.replay.rate`]).
        falls_from: step from which the plan's learning rate falls; None, of an older plan: the tail's first.
        arguments: those of the config that change what is trained.
        columns: what the digest of a content is taken over.
        drawn: columns that are drawn anew each time a row is read, of which there is no digest.
        brought: what a user has brought beside rows and options ([`hf_unlearn.trainers.same_run.brought`]), by name.
        made_from_rows: what was made from all rows before the training, such as "the tokenizer"; None: not known.
        weights_before: SHA-256 of the trainable weights before the first step.
        frozen: the same of the weights that stay as they are, such as those below an adapter; None: there are none.
        training: row passes and seconds of the training, from its first step to its last; None before its end.
        salt, key: name of the salt, and the salt itself, which is in no file of the plan.
        stopped_at: step after which the weights beside the plan were stopped before its end; None: they were not.
        ids, contents: (N, 16) uint8, keyed; contents None where rows cannot be read twice alike.
        deleted: (N,) uint8, the request that deleted a row; 0: none.
    """

    order: ReplayOrder
    tail: float
    micro_batches: int
    processes: int
    warmup: int
    schedule: str | None
    arguments: dict
    falls_from: int | None = None
    columns: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    brought: dict = field(default_factory=dict)
    made_from_rows: list[str] | None = None
    weights_before: str | None = None
    frozen: str | None = None
    training: dict | None = None
    salt: str | None = None
    key: str | None = None
    stopped_at: int | None = None
    ids: np.ndarray | None = None
    contents: np.ndarray | None = None
    deleted: np.ndarray | None = None

    @property
    def holes(self) -> np.ndarray:
        """Numbers of the rows that were deleted."""
        return np.flatnonzero(self.deleted)

    @property
    def next_request(self) -> int:
        """What the rows of the next request are marked by."""
        return min(int(self.deleted.max(initial=0)) + 1, LAST_REQUEST)

    @property
    def parts(self) -> int:
        return self.micro_batches * self.processes

    @cached_property
    def options(self) -> ReadyOptions:
        """How ready the model was trained to be."""
        names = {f.name for f in dataclasses.fields(ReadyOptions)} & self.arguments.keys()
        return ReadyOptions(**{name: self.arguments[name] for name in names})

    @property
    def requests(self) -> RequestsInReplay | None:
        """The simulated requests; None where there are none."""
        own = self.options
        if not own.readiness_is_on:
            return None
        rows = int(own.request_rows) * (2 if own.resistance_weight else 1)
        return RequestsInReplay(self.order, rows, int(own.meta_every), own.planned_start)

    @property
    def readiness_cost(self) -> ReadinessCost | None:
        """What simulated requests cost; None where there are none."""
        size = int(self.arguments.get("per_device_train_batch_size", 1))
        requests = self.requests
        return requests and ReadinessCost(requests, self.options, self.micro_batches, self.processes, size)

    def passes(self, first: int, holes: np.ndarray) -> float:
        """Row passes of the program without some rows (numbers), from a step on."""
        cost = self.readiness_cost
        return self.order.passes(first, holes, self.parts) + (cost.added(first, holes) if cost else 0)

    @property
    def passes_are_exact(self) -> bool:
        """Whether [`passes`] is right to the row."""
        return self.readiness_cost is None or self.readiness_cost.is_exact

    def to_dict(self) -> dict:
        """JSON-ready; the rows' digests are in the file beside it."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own = {name: value for name, value in kept.items() if name not in OF_THE_FILE}
        return {
            "order": {**dataclasses.asdict(self.order), "slices": list(self.order.slices)},
            **own,
            "borders": self.order.borders.tolist(),
            "deleted_rows": int(np.count_nonzero(self.deleted)),
            "requests": int(self.deleted.max(initial=0)),
        }

    @classmethod
    def from_dict(cls, found: dict) -> ReplayPlan:
        order = ReplayOrder(**{**found["order"], "slices": tuple(found["order"]["slices"])})
        names = {f.name for f in dataclasses.fields(cls)} - {"order"}
        return cls(order, **{"schedule": None, **{name: value for name, value in found.items() if name in names}})

    # ---- whose rows ----

    def commit(self, rows, numbers: np.ndarray, columns: list[str], salt: str) -> None:
        """Takes the digests of all rows, of a full training set; `numbers` (N,): the row number of each."""
        self.columns, self.salt, self.key = columns, records.salt_id(salt), salt
        self.ids = numbered_ids(rows, numbers, salt)
        contents = _digests_of_contents(rows, columns, salt) if columns else None
        if contents is not None:
            self.contents = np.empty_like(self.ids)
            self.contents[numbers] = contents

    def numbers_of_ids(self, ids, salt: str) -> np.ndarray:
        """(n,) row number of each id; -1: no row of this training."""
        return self._numbers(_keyed([b"id " + str(i).encode() for i in ids], salt))

    def with_windows(self, ids: list) -> list:
        """The ids, and in the place of one that no row of this training has, those of its windows: it is a document."""
        known = {digest.tobytes() for digest in self.ids}

        def is_known(one) -> bool:
            return _keyed([b"id " + str(one).encode()], self.key)[0].tobytes() in known

        found = []
        for one in ids:
            names = (f"{one}{SIGN}{number}" for number in itertools.count(1))
            found += [one] if is_known(one) else list(itertools.takewhile(is_known, names)) or [one]
        return found

    def numbers_of_rows(self, rows, salt: str) -> np.ndarray:
        """(n,) row number of each row, by its id."""
        return self._numbers(_digests_of_ids(rows, salt))

    def numbers_of_same_rows(self, rows, salt: str) -> np.ndarray:
        """(m,) row numbers of the rows that have an id or the content of one of these."""
        found = [self.numbers_of_rows(rows, salt)] if "id" in column_names(rows) else []
        if self.contents is not None and not set(self.columns) - set(column_names(rows)):
            same = _digests_of_contents(rows, self.columns, salt)
            known = {digest.tobytes() for digest in same} if same is not None else set()
            found.append(np.flatnonzero([digest.tobytes() in known for digest in self.contents]))
        numbers = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
        return numbers[numbers >= 0]

    def _numbers(self, digests: np.ndarray) -> np.ndarray:
        known = {digest.tobytes(): number for number, digest in enumerate(self.ids)}
        return np.array([known.get(digest.tobytes(), -1) for digest in digests], dtype=np.int64)

    def changed(self, rows, numbers: np.ndarray, salt: str) -> list:
        """Ids of the rows whose content is not what was trained on."""
        if self.contents is None or set(self.columns) - set(column_names(rows)):
            return []
        now = _digests_of_contents(rows, self.columns, salt)
        known = numbers >= 0
        other = known & (True if now is None else (now != self.contents[numbers]).any(1))
        ids = row_ids(rows)
        return [ids[i] for i in np.flatnonzero(other)]

    # ---- files ----

    def write(self, folder: str, beside: dict | None = None) -> None:
        """
        Writes `replay.digests`.

        Args:
            beside: what else the record has under `replay` that nobody is to change.
        """
        body = [self.ids.tobytes(), b"" if self.contents is None else self.contents.tobytes(), self.deleted.tobytes()]
        header = {
            "schema": records.SCHEMA,
            "salt": self.salt,
            "rows": len(self.ids),
            "contents": self.contents is not None,
        }
        header["plan"] = {**self.to_dict(), **(beside or {})}
        header["seal"] = _seal(header["plan"], b"".join(body), self.key)
        sealed.write(os.path.join(folder, FILE), MAGIC, header, b"".join(body))


def _seal(plan: dict | None, body: bytes, salt: str) -> str:
    """Digest (hex) of a plan and of whose rows, which only who has the salt can make."""
    content = json.dumps(plan, sort_keys=True).encode()
    return hashlib.blake2b(b"plan " + content + bytes(body), digest_size=SIZE, key=salt.encode()).hexdigest()


def differences(found: dict, kept: dict | None, at: str = "") -> list[str]:
    """Fields of a kept plan, by their paths, that another one has otherwise, in words."""
    lines = []
    for name, then in (kept or {}).items():
        now = found.get(name) if isinstance(found, dict) else None
        if isinstance(then, dict):
            lines += differences(now, then, f"{at}{name}.")
        elif now != then:
            lines.append(f"`{at}{name}` is {shown(now)} and was {shown(then)}")
    return lines


def read(source: str, salt_file: str | None = None) -> ReplayPlan | None:
    """
    The plan of a folder or hub id; None where its training is none that can be replayed.

    Args:
        salt_file: the owner's salt, where it is not in the folder.

    Raises:
        ArgumentError: if a file is missing or damaged, if the plan was edited, or if the two do not belong together.
    """
    try:
        record = records.find_readiness(source) or {}
        found = record.get("replay")
        if found is None:
            return None
        path = records.find_file(source, FILE)
        if path is None:
            raise ArgumentError([f"{source} has a plan for replays, but no {FILE}, which says whose rows it is of."])
        header, body = sealed.read(path, MAGIC, records.SCHEMA)
    except ValueError as error:
        raise ArgumentError(problems_of(error)) from error
    if header["salt"] != (found.get("salt") if isinstance(found, dict) else None):
        raise ArgumentError(
            [f"{FILE} and {records.READINESS} of {source} are of two trainings. Restore them from a copy."]
        )
    if edited := differences(found, header.get("plan")):
        raise ArgumentError(
            [
                f"The plan in {records.READINESS} of {source} is not the one that was run: {'; '.join(edited[:NAMED])}"
                f"{'; …' if len(edited) > NAMED else ''}. Restore the file from a copy, or write back what was there."
            ]
        )
    plan, n, at = ReplayPlan.from_dict(found), header["rows"], 0
    done = (record.get("steps") or {}).get("all", 0)
    plan.stopped_at = done if not record.get("ready") and done < plan.order.steps else None
    for name, width in (("ids", SIZE), *((("contents", SIZE),) if header["contents"] else ()), ("deleted", 1)):
        values = np.frombuffer(body, np.uint8, n * width, at)
        setattr(plan, name, values.reshape(n, width).copy() if width > 1 else values.copy())
        at += values.nbytes
    plan.key = _key(source, salt_file, plan.salt)
    if header.get("seal") != _seal(header.get("plan"), body, plan.key):
        raise ArgumentError(
            [
                f"The plan of {source} was made again without its salt: {FILE} does not hold the digest that only the "
                "owner of the salt can make. Restore both files from a copy."
            ]
        )
    return plan


def read_beside(folder: str) -> tuple[dict, np.ndarray] | None:
    """
    `(what the record says of the plan, (N,) the request that deleted each row)` of a snapshot or another folder; None
    where its training cannot be replayed. Nothing is opened by a salt.
    """
    found = (records.find_readiness(folder) or {}).get("replay")
    path = os.path.join(folder, FILE)
    if not isinstance(found, dict) or not os.path.exists(path):
        return None
    header, body = sealed.read(path, MAGIC, records.SCHEMA)
    return found, np.frombuffer(body, np.uint8)[-header["rows"] :]


def ids_beside(folder: str, salt: str) -> np.ndarray | None:
    """(N, 16) keyed ids by row number of a checkpoint's plan; None where there is none, or one of another salt."""
    path = os.path.join(folder, FILE)
    header, body = sealed.read(path, MAGIC, records.SCHEMA) if os.path.exists(path) else ({"salt": None}, b"")
    if header["salt"] != records.salt_id(salt):
        return None
    return np.frombuffer(body, np.uint8, header["rows"] * SIZE).reshape(-1, SIZE)


def numbered_ids(rows, numbers: np.ndarray, salt: str) -> np.ndarray:
    """(N, 16) keyed ids of a full training set, by row number; `numbers` (N,): that of each row."""
    found = np.empty((len(numbers), SIZE), np.uint8)
    found[numbers] = _digests_of_ids(rows, salt)
    return found


def _key(source: str, salt_file: str | None, name: str) -> str:
    """The salt of this name, from the folder or the file; raises an `ArgumentError` where neither has it."""
    problem = None
    if salt_file and not os.path.exists(salt_file):
        problem = Wrong("salt_file", f"is {shown(str(salt_file))}, but there is no such file.")
    try:
        salts = records.known_salts(*([source] if os.path.isdir(source) else []), *([salt_file] if salt_file else []))
    except ValueError as error:
        raise ArgumentError(problems_of(error)) from error
    if name in salts:
        return salts[name]
    if problem is None and salt_file:
        problem = Wrong(
            "salt_file",
            f"is {shown(str(salt_file))}, which holds the salt of another training than {source}: its digests stay "
            f"closed. It is {records.SALT} of the folder of that training.",
        )
    raise ArgumentError(
        [
            problem
            or f"The plan of {source} knows its rows by digests, and the salt that opens them is not at hand: "
            f"{records.SALT} of the folder of the training, which is not pushed to the hub. Name it by `salt_file`."
        ]
    )


def places_of_rows(plan: ReplayPlan, rows, salt: str) -> tuple[np.ndarray, list[str]]:
    """
    `(at, problems)`: where in a set of rows each row number (N,) of a plan is, -1 where it is not, and what is wrong
    with rows that are to be trained by it.

    Args:
        rows: all that are left of the training set, in any order; such as the plan knows as deleted may be there.
    """
    at = np.full(plan.order.rows, -1, dtype=np.int64)
    if problems := row_problems(rows, "training"):
        return at, problems
    numbers, ids = plan.numbers_of_rows(rows, salt), row_ids(rows)
    if foreign := [ids[i] for i in np.flatnonzero(numbers < 0)]:
        problems.append(
            f"{len(foreign)} of {len(rows)} rows (ids {first_ids(foreign)}) were not in the training of the plan: "
            "a replay can leave rows out, not add any."
        )
    if lacking := sorted(set(plan.columns) - set(column_names(rows))):
        problems.append(f"The rows lack {', '.join(map(repr, lacking))}, which the training read.")
    if changed := plan.changed(rows, numbers, salt):
        problems.append(
            f"{len(changed)} of {len(rows)} rows (ids {first_ids(changed)}) are not what was trained on: their content "
            f"is another, in {', '.join(map(repr, plan.columns))}. Give the rows as they were, encoded the same way."
        )
    at[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
    at[plan.holes] = -1
    return at, problems


def _digests_of_ids(rows, salt: str) -> np.ndarray:
    return _keyed([b"id " + str(i).encode() for i in row_ids(rows)], salt)


def _digests_of_contents(rows, columns: list[str], salt: str) -> np.ndarray | None:
    plain = row_digests(rows, columns)
    return None if plain is None else _keyed(plain, salt)


def _keyed(contents: list[bytes], salt: str) -> np.ndarray:
    """(n, 16) uint8."""
    made = b"".join(hashlib.blake2b(one, digest_size=SIZE, key=salt.encode()).digest() for one in contents)
    return np.frombuffer(made, np.uint8).reshape(-1, SIZE)


def row_problems(rows, what: str) -> list[str]:
    """What keeps rows from being known again: they need ids, each once."""
    if "id" not in column_names(rows):
        return [f"The {what} rows have no column `id`: a request names rows by it, years later. Add one."]
    ids = list(map(str, row_ids(rows)))
    seen: set[str] = set()
    if twice := [i for i in ids if i in seen or seen.add(i)]:
        return [f"The column `id` of the {what} rows has values twice: {first_ids(twice)}. Each row needs its own."]
    return []
