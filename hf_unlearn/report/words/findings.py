"""The findings as lines for a terminal and a model card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...evaluation.forgotten import Forgotten, Why
from ...evaluation.gates import Status
from ...evaluation.judge import Finding, Gain, Verdict, gains, is_trial, judge
from ...utils.guarantees import EXACT
from .gates import gate_text, kept_text, verdict_sentences
from .general import general
from .in_short import NEVER_SEEN, TRIAL
from .names import GUARANTEES, LEVELS, model_name, reason_text
from .numbers import amount, number, percent


def lines(card: Mapping[str, Any]) -> list[str]:
    """Task by task: a line per unlearned run, then one on what readiness bought, where both were run; of a trial run
    only that it is one."""
    found = judge(card)
    bought = {gain.task: gain for gain in gains(found, card)}
    said = []
    for task in dict.fromkeys(finding.task for finding in found):
        if is_trial(card, task):
            said.append(f"{task}: {TRIAL}")
            continue
        said += [line(finding) for finding in found if finding.task == task]
        said += [gain_line(bought[task])] if task in bought else []
    return said


def line(finding: Finding) -> str:
    said = finding.guarantee
    parts = [f"deletion: {GUARANTEES[said]}"] if said in GUARANTEES else []
    forgot = NEVER_SEEN if said == EXACT else LEVELS[finding.forgotten.level]
    parts += [f"forgot: {forgot}", f"kept: {kept_text(finding.kept)}", stopped(finding)]
    text = f"{finding.task} ({model_name(finding)}): {'; '.join(parts)}. {' '.join(reasons(finding.forgotten))}"
    text = " ".join([text, *general(finding)])
    if finding.verdict is not Verdict.UNKNOWN:
        text += f" {' '.join(verdict_sentences(finding))}"
    return text


def stopped(finding: Finding) -> str:
    reason = finding.stop_reason
    return f"stopped because {reason_text(reason)}" if reason else "why it stopped was not recorded"


def failed_lines(findings: Iterable[Finding], gates: Iterable[str]) -> list[str]:
    """A line for each finding and gate that is not passed, and for each that could not be decided."""
    said = []
    for finding in findings:
        for gate in dict.fromkeys(gates):
            status = finding.status(gate)
            if status is not Status.PASSED:
                how = "not passed" if status is Status.FAILED else "could not be decided"
                known = gate in finding.gates
                text = gate_text(finding.gates[gate]) if known else " ".join(verdict_sentences(finding))
                said.append(f"{finding.task} ({model_name(finding)}): {gate} {how}. {text}")
    return said


def gain_parts(gain: Gain, by_loss: bool = False) -> list[str]:
    """Clauses on what readiness bought; `by_loss`: tests other than the loss contradict a "yes"."""
    parts = ["an exact deletion"] if gain.is_exact else []
    if gain.steps:
        ready, plain = gain.steps
        ratio = ""
        if min(ready, plain) > 0 and ready != plain:
            times = number(max(ready, plain) / min(ready, plain))
            ratio = f" ({times} times {'fewer' if ready < plain else 'more'})"
        parts.append(f"{amount(ready)} steps instead of {amount(plain)}{ratio}")
    if gain.kept:
        ready, plain = map(percent, gain.kept)
        parts.append(f"kept {ready} instead of {plain}")
    ready, plain = (" / ".join(LEVELS[level] for level in levels) for levels in gain.forgotten)
    forgot = f"forgot{', by their loss' if by_loss else ''}"
    parts.append(f"without it {forgot}: {plain}" if gain.is_exact else f"{forgot}: {ready}, without readiness: {plain}")
    return parts


def gain_runs(gain: Gain) -> str:
    return "one run of each" if gain.seeds == 1 else f"mean of {gain.seeds} seeds"


def gain_line(gain: Gain) -> str:
    return f"{gain.task}, what readiness bought: {'; '.join(gain_parts(gain))} ({gain_runs(gain)})."


def reasons(forgotten: Forgotten) -> list[str]:
    """The reasons for the level, a sentence each."""
    return [REASONS[reason.why](reason.numbers) for reason in forgotten.reasons]


def _losses(n: Mapping) -> str:
    whose = {"unseen": "rows it never saw", "retrained": "the same rows when retrained"}[n["of"]]
    return f"Loss of the forget rows {number(n['loss'])}, of {whose} {number(n['yardstick'])}."


def _over(n: Mapping) -> str:
    shows = f" (membership AUC {number(n['auc'])})" if n["auc"] is not None else ""
    return (
        f"The forget rows do so much worse than rows the model never saw{shows} that the deletion itself shows: "
        "over-forgetting is a failure, too."
    )


def _separable(n: Mapping) -> str:
    told = f"AUC {number(n['auc'])}"
    told += f", retrained {number(n['retrained'])}" if n["retrained"] is not None else ""
    return f"A membership test on the {n['score']} still tells them from unseen rows ({told})."


def _recalled(n: Mapping) -> str:
    by_heart = n["kind"] == "exact_match"
    if not n["known"] and not n["right"]:
        return f"None of the {n['n']} answers is given word for word any more."
    than = ""
    if n["against"]:
        whose = {"retrained": "by the retrained model", "unseen": "of the unseen rows"}[n["against"]]
        than = f" ({whose}: {n['theirs']} of {n['of']})"
    how = "answers are still given word for word" if by_heart else "forget rows are still answered right"
    return f"But {n['right']} of {n['n']} {how}{than}."


REASONS: Mapping[Why, Callable[[Mapping], str]] = {
    Why.NOT_FINITE: lambda n: "The forget loss is not a finite number.",
    Why.NOT_MEASURED: lambda n: "The forget rows were not measured.",
    Why.NO_YARDSTICK: lambda n: (
        f"The forget loss is {number(n['loss'])}, and there are no unseen rows to hold it against."
    ),
    Why.LOSSES: _losses,
    Why.NO_RETRAINED: lambda n: "No retrained model: compared with unseen rows only.",
    Why.RETRAINED: lambda n: f"A retrained model gives the forget rows {number(n['loss'])}.",
    Why.BLIND: lambda n: (
        "The model before the request passes the same tests: what it had not remembered cannot be shown to be gone."
    ),
    Why.DAMAGE: lambda n: (
        f"The unseen loss itself rose from {number(n['before'])} to {number(n['after'])}: the model suffered."
    ),
    Why.OVER: _over,
    Why.WHOLE_CLASS: lambda n: "If a whole class was to be removed, only a retrained model can tell.",
    Why.SEPARABLE: _separable,
    Why.RECALLED: _recalled,
    Why.WAY: lambda n: f"The loss came {percent(n['share'])} of the way from before the request.",
    Why.FEW_ROWS: lambda n: "It falls short by no more than so few rows can tell apart.",
}
