"""The answers behind those in short: what was forgotten, what was kept, what an attacker could still do, how sure that
is. What was not measured is said to be so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...evaluation.attacker import Attacker, attempt_rules, off
from ...evaluation.attacks.base import Attempt
from ...evaluation.catalogue import score_label
from ...evaluation.forgotten import FORGOT_LOSS_SHARE, Recall
from ...evaluation.gates import Level
from ...evaluation.judge import Finding
from ...utils.guarantees import EXACT
from .gates import kept_text, verdict_sentences
from .general import general, general_lost
from .in_short import forgotten_level
from .names import LEVELS, against, attempt_label, badge, fine_tune, gate_subject
from .numbers import hundred, in_brackets, interval, listed, number, percent, plain_numbers, rows, sentence

FORGOT = {
    Level.YES: "Yes, as far as these rows can show.",
    Level.PARTLY: "Partly.",
    Level.NO: "No.",
    Level.TOO_MUCH: "Too much: over-forgetting, which is a failure. The rows stand out as deleted.",
    Level.UNKNOWN: "Cannot be said.",
}
KEPT = {Level.YES: "Yes.", Level.PARTLY: "Partly.", Level.NO: "No.", Level.UNKNOWN: "Cannot be said."}
NOT_IN_GENERAL = "No: general ability was lost."
WORSE = {"entropy": ("is less certain", "less certain"), None: ("does worse", "doing worse")}  # an AUC below 0.5
DELETED = ", as with a retrained model.", ": an attacker sees that they were deleted."


def answers(finding: Finding) -> dict[str, Any]:
    """
    `forgotten`, `kept`, `sure`: lists of sentences, the first of each the answer itself. `forgotten_level`,
    `kept_level`: their colours. `attacker`: `{"lead", "points"}`, a clause that goes on from "An attacker could still"
    and the sentences behind it. `badge`: `{"word", "level"}`.
    """
    return {
        "forgotten": forgotten(finding),
        "forgotten_level": forgotten_level(finding).value,
        "kept": kept(finding),
        "kept_level": kept_level(finding).value,
        "attacker": attacker(finding.attacker, finding.guarantee == EXACT),
        "sure": sure(finding),
        "badge": badge(finding),
    }


def forgotten(finding: Finding) -> list[str]:
    found, exact = finding.forgotten, finding.guarantee == EXACT
    said = ["Yes by their loss, but not by every test." if found.against else FORGOT[found.level]]
    if exact:
        said = ["Yes, exactly: these weights never saw the rows."]
    elif found.against:
        said.append(f"Against it: {'; '.join(against(name) for name in found.against)}.")
    said += [_recall(found.recall)] if found.recall else []
    loss, unseen, aim = (found.losses[key] for key in ("mine", "unseen", "retrained"))
    if loss is None:
        measured = not found.losses["finite"]
        return [*said, "Their loss is not a finite number." if measured else "The forget rows were not measured."]
    yardstick = unseen if unseen is not None else aim
    if yardstick is None:
        return [*said, f"Their loss is {number(loss)}, and there are no unseen rows to hold it against."]
    share = loss / yardstick if yardstick else 1.0
    much = "less than" if share < FORGOT_LOSS_SHARE else "more than" if share > 2 - FORGOT_LOSS_SHARE else "as much as"
    much = "far more than" if found.level is Level.TOO_MUCH and not exact else much
    than = "rows it never saw" if unseen is not None else "they surprise a retrained model"
    numbers = f"loss {number(loss)} against {number(yardstick)}"
    numbers += f"; retrained {number(aim)}" if aim is not None and unseen is not None else ""
    said.append(f"They surprise the model {much} {than} ({numbers}).")
    if exact:
        return said
    if found.blind:
        said.append("That was so before the request, too, so it shows no forgetting.")
    if found.level is Level.TOO_MUCH and not found.retrained:
        said.append("If a whole class was to be removed, only a retrained model can tell.")
    return said


def _recall(found: Recall) -> str:
    by_heart = found.kind == "exact_match"
    what = "answers still come word for word" if by_heart else "forget rows are still answered right"
    others = [
        f"{whose} {count}"
        for whose, count in (("before", found.before), ("retrained", found.retrained))
        if count is not None
    ]
    if found.unseen is not None:
        others.append(f"unseen rows {found.unseen} of {found.of}")
    return f"{found.right or 'None'} of {found.n} {what}{in_brackets(others)}."


def kept(finding: Finding) -> list[str]:
    said = [NOT_IN_GENERAL if general_lost(finding) else KEPT[finding.kept.level], sentence(kept_text(finding.kept))]
    said += general(finding)
    if finding.utility:
        value, theirs = finding.utility
        beside = [] if theirs is None else [f"retrained {number(theirs)}"]
        said.append(f"Model utility {number(value)}{in_brackets(beside)}.")
    for kind, value, aim in finding.no_gain:
        said.append(
            f"More than the retrained model on test rows ({kind.replace('_', ' ')} {percent(value)}, retrained "
            f"{percent(aim)}) is not more kept: the model may still answer what one without the forget rows cannot, "
            "such as a removed class."
        )
    if finding.forgotten.damage:
        start, now = map(number, finding.forgotten.damage)
        said.append(f"The model suffered: its loss on unseen rows rose from {start} to {now}.")
    return said


def kept_level(finding: Finding) -> Level:
    """The colour of the answer: never that of a success where general ability was lost."""
    return Level.NO if general_lost(finding) else finding.kept.level


def attacker(found: Attacker, exact: bool = False) -> dict[str, Any]:
    """`exact`: the weights never saw the rows, so that nothing that is found comes from them."""
    if not found.attempts:
        return {"lead": "do what nobody has measured: no attack was tried.", "points": []}
    n = len(found.attempts)
    tried = "the one attack" if n == 1 else f"the {n} kinds of attack"
    can = [_clause(attempt) for attempt in found.attempts if attempt.possible]
    if can:
        lead = f"{listed(can)}.{' None of that comes from the rows: they were never trained on.' if exact else ''}"
    elif found.retrained:
        lead = f"do no more than with a retrained model, by {tried} tried."
    else:
        lead = f"do nothing that {tried} tried would show."
    points = [point for attempt in found.attempts for point in POINTS.get(attempt.attack, _any_attempt)(attempt)]
    if found.untried:
        points.append(f"Not tried: {listed([attempt_label(name) for name in found.untried])}.")
    return {"lead": lead, "points": points}


def _clause(attempt: Attempt) -> str:
    """What an attacker could still do, as the end of a sentence."""
    said = CLAUSES.get(attempt.attack)
    rule = attempt_rules()[attempt.attack]
    return said(attempt) if said else rule.clause or f"succeed by {rule.label}"


def _any_attempt(attempt: Attempt) -> list[str]:
    """An attempt without sentences of its own: its numbers."""
    label = attempt_rules()[attempt.attack].label
    return [sentence(f"{label}: {plain_numbers(attempt.numbers)}")]


def _membership_clause(attempt: Attempt) -> str:
    how = attempt.numbers["how"]
    clause = {
        "guessing": "tell forget rows from unseen ones better than by blind guessing",
        "better": "tell forget rows from unseen ones better than with a retrained model",
        "more": "see that forget rows look more like rows it was trained on than with a retrained model",
        "less": "see that forget rows look less like rows it was trained on than with a retrained model",
    }[how]
    return clause if attempt.numbers["certain"] else f"{clause} (perhaps: too few rows to show it)"


def _membership(attempt: Attempt) -> list[str]:
    n = attempt.numbers
    below, other = n["value"] < 0.5, n["retrained"]
    others = ["blind guessing 50"]
    others += [] if other is None else [f"retrained {hundred(1 - other if below else other)}"]
    does, doing = WORSE.get(n["score"], WORSE[None])
    how = f"by {score_label(n['score'])}{f', taking the one that {does}' if below else ''}"
    right = hundred(0.5 + off(n["value"]))
    points = [f"Which of two rows is the forget row? Right {right} times in 100, {how}{in_brackets(others)}."]
    if n["deleted"]:
        points[0] += f" The forget rows stand out as {doing}{DELETED[0 if n['deleted_by_retraining'] else 1]}"
    if n["found"]:
        best, theirs = n["found"]["score"], n["found"]["retrained"]
        also = [f"retrained {rows(theirs, n['forget'])}"] if theirs is not None else []
        by = "" if best == n["score"] else f", by {score_label(best)}"
        points.append(f"Found {_found(n['found']['value'], n)}{by}{in_brackets(also)}.")
    return points


def _found(rate: float, n: Mapping) -> str:
    """Rows found at few false alarms: in so few unseen rows one in 100 is none."""
    few = n["unseen"] is not None and n["unseen"] < 100
    alarms = f"with no false alarm in {n['unseen']}" if few else "with 1 false alarm in 100"
    return f"{alarms}: {rows(rate, n['forget'])} of {n['forget'] or 'the'} forget rows"


def _shadows(attempt: Attempt) -> list[str]:
    n = attempt.numbers
    others = ["blind guessing 50"]
    if n["compared"]:
        theirs = n["retrained"]
        others.append("retrained not measured" if theirs is None else f"retrained {hundred(theirs)}")
    models = f"{n['models']} shadow models" if n["models"] else "shadow models"
    text = f"Unlearned or never seen, by {models} (U-LiRA)? Right {hundred(n['value'])} times in 100"
    text += in_brackets(others)
    return [f"{text}; found {_found(n['found'], n)}." if n["found"] is not None else f"{text}."]


def _extraction_clause(attempt: Attempt) -> str:
    than = {"retrained": "from a retrained model", "unseen": "of unseen rows"}[attempt.numbers["against"]]
    return f"draw more of the answers out of it than {than}"


def _extraction(attempt: Attempt) -> list[str]:
    n = attempt.numbers
    whose = {"retrained": "retrained", "unseen": "unseen rows"}[n["against"]]
    rest = [between] if (between := interval(n, percent)) else []
    rest += [f"{whose} {percent(n['yardstick'])}"] if n["yardstick"] is not None else []
    share = percent(n["value"])
    return [f"Given the beginning of an answer, the model completes the last {share}{in_brackets(rest)}."]


def _right(kind: str) -> str:
    return "answers word for word" if kind == "exact_match" else "right"


def _rephrased(attempt: Attempt) -> list[str]:
    n = attempt.numbers
    named = (("as in training", n["plain"]), ("retrained", n["retrained"]))
    rest = [f"{whose} {count}" for whose, count in named if count is not None]
    return [f"Asked in other words: {n['right']} of {n['n']} {_right(n['kind'])}{in_brackets(rest)}."]


def _recovery(attempt: Attempt) -> list[str]:
    if "curves" in attempt.numbers:
        alone = "" if attempt.numbers["compared"] else "; no retrained model to compare with"
        return [
            f"Fine-tuned on {fine_tune(kind)}: the loss of the other forget rows goes from {number(curve['first'])} to "
            f"{number(curve['last'])} in {curve['steps']} steps{alone}."
            for kind, curve in attempt.numbers["curves"].items()
        ]
    sides: dict[bool, list[str]] = {True: [], False: []}
    for kind, area in attempt.numbers["areas"].items():
        sides[area["fast"]].append(f"{fine_tune(kind, area['k'])} ({number(area['value'])})")
    fast, slow = sides[True], sides[False]
    if not fast:
        return [
            f"Fine-tuned on {listed(slow, 'or')}: no faster than a retrained model learns them. "
            "(1 = as fast as the retrained model.)"
        ]
    text = f"Fine-tuned on {listed(fast, 'or')}: the others come back faster than a retrained model learns them"
    text += f"; not so on {listed(slow, 'or')}" if slow else ""
    return [f"{text}. (1 = as fast as the retrained model.)"]


def _quantised(attempt: Attempt) -> list[str]:
    n = attempt.numbers
    rest = [f"not rounded {n['plain']}"] if n["plain"] is not None else []
    if n["retrained"]:
        rest.append(f"retrained {listed(list(map(str, n['retrained'].values())))}")
    counts = listed(list(map(str, n["right"].values())))
    text = f"Weights rounded to {listed(list(n['right']))}: {counts} of {n['n']} {_right(n['kind'])}"
    return [f"{text}{in_brackets(rest)}."]


CLAUSES: Mapping[str, Callable[[Attempt], str]] = {  # of what is possible, where the numbers decide the words
    "membership": _membership_clause,
    "extraction": _extraction_clause,
}
POINTS: Mapping[str, Callable[[Attempt], list[str]]] = {  # the numbers
    "membership": _membership,
    "shadows": _shadows,
    "extraction": _extraction,
    "rephrased": _rephrased,
    "recovery": _recovery,
    "quantised": _quantised,
}


def sure(finding: Finding) -> list[str]:
    found = finding.evidence
    counted = [f"{n} {split}" for split, n in found.rows.items()]
    rests = [f"{' and '.join(counted)} rows"] if counted else []
    rests.append("one training seed" if found.seeds == 1 else f"{found.seeds} training seeds")
    rests.append("a retrained model" if found.retrained else "no retrained model")
    said = [*verdict_sentences(finding, gate_subject), f"This rests on {listed(rests)}."]
    small = [f"a difference of fewer than {hundred(found.gap, up=True)} in 100 guesses"] if found.gap else []
    if found.shift:
        small.append(f"a shift in {found.shift_of} of fewer than {hundred(found.shift, up=True)} in 100 rows")
    if small:
        said.append(f"So few rows cannot show {listed(small, 'or')}.")
    elif found.spread is not None:
        said.append(f"Other rows of the same kind could give ±{hundred(found.spread, up=True)} in 100 guesses.")
    if found.another_seed:
        said.append("The noise floor was measured.")
    elif found.retrained:
        said.append("No noise floor was measured.")
    return said


def other_seeds(shown: Finding, others: Sequence[Finding]) -> str:
    """What the seeds say that are not shown."""
    rest = "; ".join(f"seed {f.seed}: {f.verdict.value}, forgot: {LEVELS[f.forgotten.level]}" for f in others)
    return f"Shown is seed {shown.seed}, no seed is worse. The others: {rest}."
