"""What a memory's training says of itself, by the variant of the memory: its method, its limits, and its warnings."""

from __future__ import annotations

import logging

from ..readiness.memory.tables import Table

logger = logging.getLogger(__name__)

METHODS = {
    "own": "memory adapters, a table for each source (after Grimes et al. 2026; own tables and the gate are ours)",
    "shared": "memory adapters, one table in which each entry has an owner (Grimes et al. 2026)",
}
FACTS = "Facts that another source has taught, too, or that the model below knew before, stay when a source is deleted."
LIMITS = {
    "own": (
        "What a source has taught lies in a table of its own, with inputs of its rows: both are personal data.",
        FACTS,
        "A source is recognised where it is named much as in its rows; asked otherwise, the model may not know the "
        "answer.",
    ),
    "shared": (
        "What a source has taught lies in entries of its own in one table: they are personal data.",
        FACTS,
        "Sources have read each other's entries while they learned: a deletion is approximate. Each text reads the "
        "table, also one that is of no source.",
    ),
}
STEPS = {"own": "of each source", "shared": "of all sources together"}  # that the learning rate goes by
WITHOUT_PUBLIC = {
    "own": "sources may be recognised where they are not meant",
    "shared": "sources may come to own entries that any text reads",
}
SILENT = {
    "own": "are recognised nowhere: their prompts hold nothing that public rows do not hold. Name the source there.",
    "shared": "own no entry, so that nothing of them was learned: all that they read are others'. Raise `entries`.",
}
KNOWN_BEFORE = 0.1  # nats: rows with a smaller loss before the training count as known


def is_silent(table: Table, variant: str) -> bool:
    """Whether nothing that a source has taught is ever said."""
    return not len(table.inputs) if variant == "own" else not any(map(len, table.entries))


def warn_of_silent(tables: list[Table], sources: int, variant: str) -> None:
    """Tells of sources that are trained and say nothing."""
    if silent := sum(is_silent(table, variant) for table in tables):
        logger.warning("%d of %d sources %s", silent, sources, SILENT[variant])


def warn_of_known(losses: list[float]) -> None:
    """Tells of sources that the model below knew, by their losses in nats before the training."""
    if known := sum(loss < KNOWN_BEFORE for loss in losses):
        logger.warning(
            "%d of %d sources were known before the training (loss below %g nats): the model below has met their "
            "rows, and what is deleted from the memory is still known there.", known, len(losses), KNOWN_BEFORE
        )  # fmt: skip


def warn_of_no_public(column: str, variant: str) -> None:
    """Tells that all rows have a source."""
    logger.warning(
        "All rows have a source: what is usual in other text is not known, so that %s. Give public rows, too, with an "
        "empty %r.", WITHOUT_PUBLIC[variant], column
    )  # fmt: skip
