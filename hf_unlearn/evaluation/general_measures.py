"""The part of the catalogue on general ability: what a model can still do that has nothing to do with the request."""

from __future__ import annotations

from .vocabulary import MODEL, Measure

GENERAL = "general"  # split: texts of other kinds than the rows of the request
GENERAL_PERPLEXITY, GENERAL_RATIO = f"{GENERAL}_perplexity", f"{GENERAL}_perplexity_ratio"
PROBE_RIGHT = "probe_right"

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
