"""The result in short: each question with its answer in a word or two, and what to do now. The page begins with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...evaluation.attacks.base import Attempt
from ...evaluation.forgotten import Why
from ...evaluation.gates import Level, Status
from ...evaluation.judge import Finding, Verdict
from ...unlearning.stop_rule import DONE, REACHED
from ...utils.guarantees import APPROXIMATE, EXACT, NOT_FORGOTTEN
from .general import general_lost
from .names import GUARANTEES, LEVELS
from .numbers import kept_percent, listed, sentence, times

TRIAL = "This was a trial run: it shows that everything runs, and nothing about what was forgotten or kept."
NO_ANSWER = LEVELS[Level.UNKNOWN]
NEVER_SEEN = "yes, never seen"  # of an exact deletion: measures can only say what a model without the rows does
FORGOTTEN, KEPT = "Forgotten", "The rest kept"
GENERAL, PROBES = "General ability kept", "Probe questions right"
BACK, APART = "Can be brought back by fine-tuning", "Told apart from a retrained model"
REPEATED = {"exact_match": "Not repeated any more", "accuracy": "Not answered right any more"}
TOLD_APART = {
    Verdict.INDISTINGUISHABLE: ("no", Level.YES),
    Verdict.NOT_TOLD_APART: ("not by these tests", Level.PARTLY),
    Verdict.TOLD_APART: ("yes", Level.NO),
    Verdict.OVER_FORGOTTEN: ("yes, by over-forgetting", Level.NO),
    Verdict.UNKNOWN: (NO_ANSWER, Level.UNKNOWN),
}
FINE_TUNING = "recovery"  # the attempt, and its gate, that is asked for; others are named where they succeed
OTHER_WAYS = {"quantised": "rounding the weights", "rephrased": "asking in other words"}


OF_GUARANTEES = {EXACT: Level.YES, APPROXIMATE: Level.PARTLY, NOT_FORGOTTEN: Level.NO}
COLUMNS = {  # key of an answer -> heading of its column, in tables of several tasks
    "guarantee": "Deletion",
    "forgotten": "Forgotten",
    "repeated": "Not repeated or answered any more",
    "back": "Brought back by fine-tuning",
    "kept": "The rest kept",
    "general": GENERAL,
    "probes": PROBES,
    "apart": "Told apart from retrained",
}


@dataclass(frozen=True)
class Answer:
    """`key`: one of COLUMNS. `level` is the colour: YES where the answer is good, whatever its word."""

    key: str
    title: str
    word: str
    level: Level


def in_short(finding: Finding) -> list[Answer]:
    """What the run says of its deletion, forgotten, repeated, brought back, kept, general ability, probe questions,
    told apart: the first, the third and the two on general ability where they are known."""
    kept = finding.kept
    share = f", {kept_percent(kept.share)}" if kept.share is not None else ""
    return [
        *_guaranteed(finding),
        Answer("forgotten", FORGOTTEN, forgotten_word(finding), forgotten_level(finding)),
        *_repeated(finding),
        _brought_back(finding),
        Answer("kept", KEPT, f"{LEVELS[kept.level]}{share}", kept.level),
        *_general(finding),
        *_probes(finding),
        Answer("apart", APART, *TOLD_APART[finding.verdict]),
    ]


def _guaranteed(finding: Finding) -> list[Answer]:
    said = finding.guarantee
    return [Answer("guarantee", "Deletion", GUARANTEES[said], OF_GUARANTEES[said])] if said in GUARANTEES else []


def forgotten_word(finding: Finding) -> str:
    if finding.guarantee == EXACT:
        return NEVER_SEEN
    return "yes by their loss only" if finding.forgotten.against else LEVELS[finding.forgotten.level]


def forgotten_level(finding: Finding) -> Level:
    """The colour of the answer: never that of a success where a test contradicts it and the rows were seen."""
    if finding.guarantee == EXACT:
        return Level.YES
    return Level.PARTLY if finding.forgotten.against else finding.forgotten.overall


def _repeated(finding: Finding) -> list[Answer]:
    """By counts: none is right any more, or no more than the retrained model's, or than of rows that it never saw."""
    found = finding.forgotten.recall
    if found is None:
        return []
    title, count = REPEATED.get(found.kind, REPEATED["accuracy"]), f"{found.right} of {found.n}"
    if found.before == 0:
        return [Answer("repeated", title, f"{NO_ANSWER}: none was before", Level.UNKNOWN)]
    if found.right == 0:
        word = "yes" if found.before is not None else "yes, none is; not measured before"
        return [Answer("repeated", title, word, Level.YES)]
    if found.retrained is not None and found.right <= found.retrained:
        return [Answer("repeated", title, f"{count} still, no more than when retrained", Level.YES)]
    if finding.guarantee == EXACT:
        return [Answer("repeated", title, f"{count} still, without having seen them", Level.YES)]
    known = any(reason.why is Why.RECALLED and reason.numbers["known"] for reason in finding.forgotten.reasons)
    return [Answer("repeated", title, f"{count} still", Level.NO if known else Level.PARTLY)]


def _brought_back(finding: Finding) -> Answer:
    tried = _attempts(finding).get(FINE_TUNING)
    also = listed([way for name, way in OTHER_WAYS.items() if _possible(finding, name)] or [""])
    if tried and tried.possible and finding.status(FINE_TUNING) is not Status.FAILED:
        return Answer("back", BACK, f"perhaps, by a weak test{f'; also by {also}' if also else ''}", Level.PARTLY)
    if tried and tried.possible:
        return Answer("back", BACK, f"yes; also by {also}" if also else "yes", Level.NO)
    word, level = ("not tried", Level.UNKNOWN) if tried is None else ("no", Level.YES)
    if tried and "curves" in tried.numbers:  # with no retrained model to compare with
        word, level = NO_ANSWER, Level.UNKNOWN
    return Answer("back", BACK, f"{word}; but by {also}", Level.NO) if also else Answer("back", BACK, word, level)


def _general(finding: Finding) -> list[Answer]:
    """By the perplexity on general texts, where there are any."""
    gate = finding.gates.get("general")
    if gate is None or not gate.numbers:
        return []
    ratio = gate.numbers["value"]
    said = "not a finite perplexity" if ratio is None else f"perplexity {times(ratio)} times"
    word, level = {
        Status.PASSED: (f"yes, {said}", Level.YES),
        Status.FAILED: (f"no, {said}", Level.NO),
        Status.UNDECIDED: (f"perhaps not, {said}: too few texts to tell", Level.PARTLY),
    }[gate.status]
    return [Answer("general", GENERAL, word, level)]


def _probes(finding: Finding) -> list[Answer]:
    """By counts; where none was right before the request, nothing can have been lost."""
    found = finding.probes
    if found is None or found.before == 0:
        return []
    count = f"{found.right} of {found.of}"
    if found.before is None:
        return [Answer("probes", PROBES, f"{count}; not measured before", found.level)]
    how = "as many as before" if found.right == found.before else f"before {found.before}"
    return [Answer("probes", PROBES, f"{count}, {how}", found.level)]


def _attempts(finding: Finding) -> dict[str, Attempt]:
    return {attempt.attack: attempt for attempt in finding.attacker.attempts}


def _possible(finding: Finding, name: str) -> bool:
    return name in (found := _attempts(finding)) and found[name].possible


def sentence_of(answers: Sequence[Answer]) -> str:
    return " ".join(f"{answer.title}: {answer.word}." for answer in answers)


def overall(findings: Sequence[Finding]) -> str:
    """Several models in a sentence: how many of them got which answer, of those questions that any could answer."""
    if not findings:
        return ""

    levels = [(answer.key, answer.level) for one in findings for answer in in_short(one)]

    of = "Of 1 unlearned model" if len(findings) == 1 else f"Of {len(findings)} unlearned models"
    exact = sum(one.guarantee == EXACT for one in findings)
    forgot = sum(
        one.forgotten.level is Level.YES and not one.forgotten.against for one in findings if one.guarantee != EXACT
    )
    apart = levels.count(("apart", Level.NO))
    parts = {
        "exact": f"{exact} never saw the rows (exact)",
        "forgotten": f"{forgot}{' more' if exact else ''} forgot as far as the tests can show",
        "kept": f"{levels.count(('kept', Level.YES))} kept the rest",
        "general": f"{levels.count(('general', Level.YES))} kept general ability",
        "back": f"{levels.count(('back', Level.NO))} can be brought back by fine-tuning",
        "apart": f"{apart} {'is' if apart == 1 else 'are'} told apart from a retrained model",
    }
    answered = {key for key, level in levels if level is not Level.UNKNOWN} - {"forgotten"}
    answered |= ({"exact"} if exact else set()) | ({"forgotten"} if exact < len(findings) else set())
    return f"{of}, {listed([part for key, part in parts.items() if key in answered])}."


# ---- what to do ------------------------------------------------------------------------------------------------------

EXACTLY = "nothing more: hf-unlearn verify shows anew that it is exact"
FROM_THE_START = ("retrain without these rows",)  # ways that leave nothing of the rows
AGAIN: tuple[tuple[Callable[[Finding], bool], str], ...] = (  # how to run the request again, by what was found
    (lambda f: f.status(FINE_TUNING) is Status.FAILED, 'resistance="relearn"'),
    (lambda f: f.forgotten.level is Level.TOO_MUCH, 'gap="squared"'),
    (
        lambda f: f.stop_reason == DONE and _short(f.forgotten.level) and not _short(f.kept.level),
        "a higher learning_rate or more passes",
    ),
    (lambda f: f.stop_reason == REACHED and _short(f.forgotten.level), 'gap="matched"'),  # a mean can hide single rows
    (lambda f: f.status("auc_gap") is Status.FAILED, 'gap="matched"'),
    (
        lambda f: _short(f.kept.level) or general_lost(f),
        "a lower learning_rate, a LoRA adapter or more retain rows",
    ),
)
OTHERWISE: Mapping[Verdict, str] = {  # nothing failed
    Verdict.INDISTINGUISHABLE: "nothing more, as far as the tests on this page can tell",
    Verdict.NOT_TOLD_APART: "measure more rows, and run the attacks that were not tried, before you rely on this",
    Verdict.UNKNOWN: "train a model without these rows to compare with; without one nobody can tell",
}


def advice(finding: Finding) -> str:
    """What to do now, in a sentence."""
    if finding.guarantee == EXACT:
        return sentence(EXACTLY)
    again = list(dict.fromkeys(how for fits, how in AGAIN if fits(finding)))
    if again or finding.forgotten.against or _short(finding.forgotten.level) or finding.verdict not in OTHERWISE:
        ways = [*FROM_THE_START, *([f"unlearn again with {listed(again)}"] if again else [])]
        return sentence(listed(ways, "or"))
    return sentence(OTHERWISE[finding.verdict])


def _short(level: Level) -> bool:
    return level in (Level.PARTLY, Level.NO)
