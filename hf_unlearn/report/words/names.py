"""What things are called: statuses, gates, verdicts, attempts of an attacker, reasons for a stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...evaluation.attacker import attempt_rules
from ...evaluation.catalogue import FINE_TUNES
from ...evaluation.gate_rules import gate_rules
from ...evaluation.gates import Gate, Level, Status
from ...evaluation.judge import Finding, Verdict
from ...evaluation.roles import ROLE_LABELS
from ...unlearning.stop_rule import STOP_REASONS
from ...utils.guarantees import APPROXIMATE, EXACT, NOT_FORGOTTEN
from .numbers import in_thousands

STATUSES = {
    Status.PASSED: "passed",
    Status.FAILED: "failed",
    Status.UNDECIDED: "undecided",
    Status.NOT_APPLICABLE: "does not apply",
}
STATUS_LEVELS = {Status.PASSED: Level.YES, Status.FAILED: Level.NO}  # colours; the others have none
LEVELS = {level: level.value for level in Level} | {Level.UNKNOWN: "cannot be said"}  # in "forgot: …", "kept: …"
BADGES = {  # (word on the page, colour)
    Verdict.INDISTINGUISHABLE: ("Indistinguishable from retrained", Level.YES),
    Verdict.NOT_TOLD_APART: ("Not told apart", Level.PARTLY),
    Verdict.TOLD_APART: ("Told apart from retrained", Level.NO),
    Verdict.OVER_FORGOTTEN: ("Over-forgotten", Level.NO),
    Verdict.UNKNOWN: ("No verdict", Level.UNKNOWN),
}


def gate_name(gate: str) -> str:
    return gate.replace("_", " ")


def gate_subject(gate: str) -> str:
    """For a reader who has not seen the gates yet."""
    return gate_rules()[gate].subject or gate_name(gate)


def gate_title(gate: str) -> str:
    return gate_rules()[gate].title or gate_name(gate)


def attempt_label(attempt: str) -> str:
    return attempt_rules()[attempt].label


def against(name: str) -> str:
    """The clause that a failed gate, or a possible attempt, puts against "forgotten: yes"."""
    gate = gate_rules().get(name)
    return gate.against if gate and gate.against else attempt_rules()[name].against


def able(gate: Gate) -> str | None:
    """Whether the test could have shown a difference; None where that is not known, or other reasons left it open."""
    decided = gate.status in (Status.PASSED, Status.FAILED) or gate.able is False
    return None if gate.able is None or not decided else "yes" if gate.able else "no"


def badge(finding: Finding) -> dict[str, str]:
    word, level = BADGES[finding.verdict]
    return {"word": word, "level": level.value}


def model_name(finding: Finding) -> str:
    """ "unlearned", and with several seeds "unlearned, seed 1"."""
    seed = f", seed {finding.seed}" if finding.several else ""
    return f"{ROLE_LABELS.get(finding.model, finding.model)}{seed}"


def heading(finding: Finding) -> str:
    """Of a run's gates in a model card."""
    verdict = "no verdict" if finding.verdict is Verdict.UNKNOWN else finding.verdict.value
    return f"{finding.task}, {model_name(finding)}: {verdict}"


def fine_tune(kind: str, k: int | None = None) -> str:
    """The rows that an attacker fine-tunes on."""
    return f"{k} forget rows" if kind == "real" and k else FINE_TUNES.get(kind, f"{kind} rows")


GUARANTEES = {  # what a run says of its deletion -> in words
    EXACT: "exact by construction",
    APPROXIMATE: "approximate, measured",
    NOT_FORGOTTEN: "approximate, short of its target",
}


def reason_text(reason: str) -> str:
    """Why a run stopped, as a clause."""
    if reason in STOP_REASONS:
        return STOP_REASONS[reason]
    return reason.rstrip(".") if " " in reason else reason.replace("_", " ")


def made_of(models: Mapping[str, Mapping[str, Any]], request: Mapping[str, Any] | None) -> str:
    """The model and the data of a task, as far as they are known: "LlamaForCausalLM, 630 thousand parameters"."""
    kinds = {(m.get("architecture"), m.get("parameters")): None for m in models.values() if m.get("architecture")}
    parts = [f"{name}, {in_thousands(count)} parameters" if count else name for name, count in kinds]
    parts += [f"data: {request['dataset']}"] if (request or {}).get("dataset") else []
    return "; ".join(parts)
