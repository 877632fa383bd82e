"""What `verify` found, in words, and in the record of the model that passed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..report import card_file
from ..report.words import model_card
from ..unlearning import stop_rule
from ..utils import manifest
from ..utils.files import read_json, write_json
from . import records
from .replay import said_of_other
from .same_run import CODE

FROM_THE_START, FROM_A_SNAPSHOT = "from the start", "from snapshot"
TOLERANCE = 0.01  # of the way that the training moved the weights: so far apart may sums in another order bring them
PASSED, WITHIN_TOLERANCE, UNDECIDED, FAILED = "passed", "within tolerance", "undecided", "failed"


@dataclass(frozen=True)
class Verdict:
    """
    Args:
        passed: whether the program ends in the weights of the folder, bit for bit.
        how: "from the start", or "from snapshot", which is then trusted.
        differs: what was other first; None where nothing was.
        other_machine: what may change bits and is other than at the training: name -> [then, now].
        distance: where bits may differ for that, and do: how far the weights are from those of the folder at most, as a
            share of the way that the training moved them; None where they are the same, or differ for another reason.
        weights: SHA-256 of the weights that the program ends in.
        deleted: number of rows that the program leaves out.
    """

    passed: bool
    how: str
    differs: str | None
    other_machine: dict
    distance: float | None = None
    weights: str | None = None
    deleted: int | None = None

    @property
    def status(self) -> str:
        """`PASSED`, or one of the others: with other sums the weights are near, or too far apart to tell."""
        if self.passed:
            return PASSED
        if self.distance is None:
            return FAILED
        return WITHIN_TOLERANCE if self.differs is None else UNDECIDED

    def __str__(self) -> str:
        how = f"{self.how}{' (trusted)' if self.how == FROM_A_SNAPSHOT else ''}"
        other = said_of_other(self.other_machine)
        if self.status == PASSED:
            if self.deleted == 0:
                return f"PASS {how}: the weights are those of the training, bit for bit. No row was deleted from it."
            return f"PASS {how}: the weights are those of the training without the rows, bit for bit."
        if self.status == WITHIN_TOLERANCE:
            return (
                f"PASS within tolerance, {how}: not bit for bit, since sums may have another order here ({other}). The "
                f"weights are {100 * self.distance:.2g} % of the way of the training apart, at most; "
                f"{100 * TOLERANCE:g} % is taken for the same."
            )
        if self.status == UNDECIDED:
            return (
                f"UNDECIDED {how}: {self.differs} Sums may have another order here ({other}), and over many steps that "
                "grows. Verify on what the model was trained on, or from a snapshot, which is fewer steps."
            )
        return f"FAIL {how}: {self.differs}"


def record(verdict: Verdict, folder: str, machine: dict) -> str | None:
    """
    Writes into the record of a model's folder, and into its card, that it has passed; a replayed model is `exact` from
    then on, whatever it ran on; after a replay with another code of the user's own only from the start. Returns the
    name of the record; None where nothing was to be written.

    Args:
        machine: what it was verified on.
    """
    if not verdict.passed or not os.path.isdir(folder):
        return None
    name = next(name for name in (records.UNLEARNING, records.READINESS) if Path(folder, name).is_file())
    content = read_json(Path(folder, name))
    before = content.get("verified") or {}
    if before.get("weights") == verdict.weights and before.get("how") == FROM_THE_START:
        return name  # from a snapshot would say less
    content["verified"] = {"how": verdict.how, "weights": verdict.weights, "machine": machine}
    changed = any(name.startswith(CODE) for name in content.get("other_than_training") or ())
    if content.get("stop_reason") == stop_rule.REPLAYED and not (changed and verdict.how == FROM_A_SNAPSHOT):
        content[records.GUARANTEE] = records.EXACT  # of another code only the start can tell whether it does the same
    write_json(Path(folder, name), content)
    manifest.renew(folder, name)
    section = model_card.verified(content["verified"], replayed=name == records.UNLEARNING)
    card_file.write(folder, {"verified": section}, {}, title=Path(folder).resolve().name)
    return name
