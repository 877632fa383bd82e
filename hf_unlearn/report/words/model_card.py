"""What a model card says: what the model is, and the verdict in five lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...data.who_asked import without_names
from ...evaluation.judge import Finding, is_trial, judge, rows_of, worst_first
from ...evaluation.roles import BEFORE, ROLE_MEANINGS
from .asking import asked
from .first_screen import answers
from .general import general
from .in_short import TRIAL
from .numbers import number, percent, sentence

MEMORY, MEMORY_EXACT, MEMORY_APPROXIMATE = "memory", "sources dropped", "sources dropped, filled anew elsewhere"
MEMORY_SHARED, MEMORY_SHARED_APPROXIMATE = "shared memory", "entries dropped"
MEMORIES = {"own": MEMORY, "shared": MEMORY_SHARED}  # by the variant
READY, REPLAYABLE, NOT_READY, NOT_ENDED, PLAIN = "unlearning-ready", "replayable", "not ready", "not ended", "plain"
ORIGINAL, RETRAINED, RETRAINED_AGAIN = "original", "retrained", "retrained_again"
PLAIN_ROLES = (ORIGINAL, RETRAINED, RETRAINED_AGAIN)  # what a plain training makes, by its role in an evaluation
REPLAYED, REPLAYED_ELSEWHERE, NOT_REPLAYED = "replayed", "replayed elsewhere", "replay not ended"
UNLEARNED, NOT_UNLEARNED, ENDED, UNFINISHED = "unlearned", "not unlearned", "request ended", "request not run"
WHAT = {  # kind of model -> (what was done, what that means)
    READY: (
        "This model was trained ready for deletion",
        "Nothing has been removed from it; it was trained so that rows can be removed later in few steps.",
    ),
    REPLAYABLE: (
        "This model was trained ready for exact deletion",
        "Nothing has been removed from it. Rows that may be asked for came last in its training, behind snapshots: a "
        "request goes back before them and trains on without them.",
    ),
    MEMORY: (
        "What each source has taught this model lies in a table of its own",
        "The model below is frozen; a memory beside it holds a table for each source (a person, an author, a "
        "customer). A table holds personal data: values that answer with the source's facts, and inputs that it is "
        "recognised by. To delete a source is to drop its table, with both, without training.",
    ),
    MEMORY_EXACT: (
        "Sources were deleted exactly from this model",
        "Each source had a table of its own, trained by itself: what is left is, bit for bit, what a training without "
        "the deleted ones gives. Their values and inputs are gone; the tables left are personal data of their sources.",
    ),
    MEMORY_APPROXIMATE: (
        "Rows were deleted from this model, and tables filled anew elsewhere than at its training",
        "Each source has a table of its own. Of some only a part of the rows was asked for: their tables were filled "
        "from the rest, where sums may come out in other bits, so that the deletion is approximate. The tables left "
        "are personal data of their sources.",
    ),
    MEMORY_SHARED: (
        "What each source has taught this model lies in entries of its own in one table",
        "The model below is frozen; a memory beside it holds entries for each source (a person, an author, a "
        "customer), which are personal data. To delete a source is to take its entries out, without training. Others "
        "have read them while they learned, so that this is approximate.",
    ),
    MEMORY_SHARED_APPROXIMATE: (
        "Rows were deleted from this model, approximately",
        "Each source has entries of its own in one table. Those of sources that were asked for are gone; where only "
        "some rows of one were, its entries learned anew from the others. The rest had read them while it learned, so "
        "that what is left is not what a training without the rows gives. It is personal data of its sources.",
    ),
    NOT_READY: (
        "This model was to be trained ready for deletion and was not",
        "The weights saved here have seen no readiness step: they are those of a plain training.",
    ),
    NOT_ENDED: (
        "This model was to be trained ready for exact deletion, and its training was stopped before its end",
        "There is no whole training to replay: go on with it, or train again.",
    ),
    PLAIN: (
        "This model was trained as usual",
        "Nothing has been removed from it, and nothing was done to make it ready for deletion.",
    ),
    ORIGINAL: (
        "This model was trained as usual, on all rows",
        "It knows the rows that were asked to be forgotten, and nothing was done to make it ready for that. It is "
        "there to start a request from, or to compare a ready model with.",
    ),
    RETRAINED: (
        "This model was trained from the start without the rows that were asked to be forgotten",
        "It has never seen them. An unlearned model is measured against it.",
    ),
    RETRAINED_AGAIN: (
        "This model was trained from the start without the rows that were asked to be forgotten, with another seed",
        "It has never seen them. It shows how far two retrained models differ.",
    ),
    REPLAYED: (
        "Rows of this model's training data were deleted exactly",
        "Its weights are those of the same training run without the rows: on the same software and kind of device bit "
        "for bit. Whoever has the other rows can repeat it.",
    ),
    REPLAYED_ELSEWHERE: (
        "Rows of this model's training data were deleted by a replay on other software or another device than the "
        "training's",
        "The training was run again without the rows, from before them. Bits may differ from a training that never saw "
        "them, by the order of sums alone: until a verification has passed, the deletion counts as approximate.",
    ),
    NOT_REPLAYED: (
        "This model is part of the way through a replay of its training without rows that were asked for",
        "It is no result: the training without them has not come to its end.",
    ),
    UNLEARNED: (
        "This model has unlearned rows of its training data",
        "It was not retrained from the start: the deletion is approximate, and is measured, not proven.",
    ),
    NOT_UNLEARNED: (
        "This model was asked to unlearn rows of its training data and did not",
        "The weights saved here are those from before the request: it knows the rows as it did.",
    ),
    ENDED: (
        "This model went through a request to unlearn rows of its training data, which did not end by meeting its "
        "target",
        "How far the rows are forgotten is told by measurements alone.",
    ),
    UNFINISHED: (
        "This model is part of the way through a request to unlearn rows of its training data",
        "Nothing can be said yet of what is forgotten.",
    ),
}
UNKNOWN = ("This model was made with hf_unlearn", "")
NOT_ASKED = "Nothing was asked to be removed from this model"


def verified(found: Mapping[str, Any], replayed: bool) -> str:
    """
    The section of a model whose training was repeated with the same end.

    Args:
        found: `verified` of the record.
        replayed: whether rows were deleted from it.
    """
    how = "from a snapshot, which was trusted," if "snapshot" in found["how"] else "from the start"
    what = "without the deleted rows " if replayed else ""
    where = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if value is not None)
    return (
        f"## Verified\n\nThe training was repeated {how} {what}and ended in these weights, bit for bit (SHA-256 "
        f"{found['weights']}). It ran on: {where}.\n"
    )


def what(kind: str | None) -> tuple[str, str]:
    """What was done to a model, and what that means."""
    return WHAT.get(kind, UNKNOWN)


def runs_of(card: Mapping[str, Any], role: str | None) -> list[Mapping[str, Any]]:
    """The runs of a role; of all roles where none is named."""
    return [run for run in card["runs"] if role in (None, run["model"])]


def findings_of(card: Mapping[str, Any], role: str | None) -> list[Finding]:
    """The findings on a role, or on all, the worst first."""
    return worst_first(finding for finding in judge(card) if role in (None, finding.model))


def verdict(card: Mapping[str, Any], role: str | None = None) -> list[tuple[str, str]]:
    """
    Five lines: a label and a text each; of a trial run two, which claim nothing.

    Args:
        card: score card as a dict.
        role: of the model that the card is of; None: the unlearned ones.
    """
    found = findings_of(card, role)
    if not found:
        return _before(card, role)
    finding = found[0]
    made = (card.get("provenance") or {}).get(finding.task) or {}
    when = f" Measured on {made['date']}." if made.get("date") else ""
    if is_trial(card, finding.task):
        return [("Asked", _request(card, finding.task)), ("Measured", TRIAL)]
    said = answers(finding)
    others = f" Of {len(found)} models measured, this is the worst." if len(found) > 1 else ""
    return [
        ("Asked", _request(card, finding.task)),
        ("Forgotten", " ".join(said["forgotten"][:2])),
        ("Kept", " ".join(said["kept"][: 2 + len(general(finding))])),
        ("An attacker could still", said["attacker"]["lead"]),
        ("How sure", " ".join(said["sure"][:2]) + others + when),
    ]


def _request(card: Mapping[str, Any], task: str) -> str:
    made, rows = (card.get("provenance") or {}).get(task) or {}, rows_of(card, task).get("forget")
    if made.get("asked"):
        return made["asked"]
    return request_text(made.get("request"), rows) if made.get("request") or rows else "not recorded"


def request_text(request: Mapping[str, Any] | None, rows: int | None) -> str:
    """
    What was asked for, in a sentence that can be published: who asked (values of a column, ids) is not told, which
    class is.
    """
    return sentence(asked(without_names(request or {}), rows))


def _before(card: Mapping[str, Any], role: str | None) -> list[tuple[str, str]]:
    """Of a model that nothing was unlearned from: what it is, and its numbers on each kind of rows."""
    runs = [run for run in runs_of(card, role) if run["model"] not in BEFORE]
    if not runs:
        return []
    run, measures = runs[0], runs[0]["measures"]
    meaning = ROLE_MEANINGS.get(run["model"], run["model"])
    lines = [("What it is", f"{meaning[0].upper()}{meaning[1:]}."), ("Asked", f"{NOT_ASKED}.")]
    if run["model"].startswith("retrained"):
        lines[1] = ("Asked", _request(card, run["task"]))
    for split in ("forget", "unseen", "test" if "test_loss" in measures else "retain"):
        if numbers := list(_numbers(measures, split)):
            lines.append((f"On {split} rows", f"{', '.join(numbers)}."))
    return lines


def _numbers(measures: Mapping[str, Any], split: str):
    for kind, name, text in (
        ("loss", "loss", number),
        ("accuracy", "right", percent),
        ("token_accuracy", "tokens right", percent),
        ("exact_match", "recalled word for word", percent),
    ):
        found = measures.get(f"{split}_{kind}") or {}
        if found.get("value") is not None:
            rows = f" ({found['n']} rows)" if kind == "loss" and found.get("n") else ""
            yield f"{name} {text(found['value'])}{rows}"
