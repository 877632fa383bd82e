"""The part of the catalogue on general ability: what a model can still do that has nothing to do with the request."""

from __future__ import annotations

from .vocabulary import MODEL, Measure

GENERAL = "general"  # split: texts of other kinds than the rows of the request
OWN_WORDS = "own_words"  # split: such texts that the model before the request has written itself
TEXTS = (GENERAL, OWN_WORDS)  # of which the first that is there counts
GENERAL_RATIO = f"{GENERAL}_perplexity_ratio"
PROBE_RIGHT = "probe_right"


def split_in(*sides) -> str | None:
    """Which split of general texts each side (split -> anything) has; None: not all have one."""
    return next((name for name in TEXTS if all(name in side for side in sides)), None)


def perplexity_of(split: str) -> str:
    """Name of the measure."""
    return f"{split}_perplexity"


GENERAL_MEASURES = (
    Measure(
        GENERAL_RATIO,
        "Perplexity of general texts, times that before the request",
        "Perplexity on texts that have nothing to do with the request, over that of the model before it; texts "
        "resampled in pairs. 1 where nothing was lost.",
        unit="ratio",
        section=MODEL,
        kinds=("causal_lm",),
        good="low",
        made_by="before",
        formula="measures.losses.perplexity_ratio",
    ),
    Measure(
        PROBE_RIGHT,
        "Probe questions answered right",
        "Share of a few fixed questions of general knowledge and language whose greedy answer has the right word.",
        unit="share",
        section=MODEL,
        kinds=("causal_lm",),
        good="high",
        made_by="probes",
        formula="attacks.probes.is_right",
    ),
)
