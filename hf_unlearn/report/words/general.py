"""What is said of general ability: perplexity on general texts, and probe questions."""

from __future__ import annotations

from ...evaluation.gates import Level, Status
from ...evaluation.judge import Finding
from ...evaluation.probing import Probes
from .gates import gate_text

FEWER = {
    Level.PARTLY: "a difference that so few questions cannot tell from chance",
    Level.NO: "a loss that chance does not explain",
}


def general(finding: Finding) -> list[str]:
    """What was found, a sentence for each of the two that was measured."""
    said = [gate_text(finding.gates["general"])] if finding.gates["general"].numbers else []
    return said + ([_probed(finding.probes)] if finding.probes and finding.probes.before else [])


def general_lost(finding: Finding) -> bool:
    """Whether the request cost general ability, by the gate or by more probe questions than chance would explain."""
    probes = finding.probes
    return finding.status("general") is Status.FAILED or (probes is not None and probes.level is Level.NO)


def _probed(found: Probes) -> str:
    before = f"before the request {found.before}"
    if found.level in FEWER:
        before += f": {FEWER[found.level]}"
    return f"Of {found.of} general questions it answers {found.right or 'none'} right, {before}."
