"""The report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.judge import Finding, Gain, gains, is_trial, judge, rows_of, tasks_of, worst_first
from ..evaluation.roles import BEFORE, ROLE_LABELS
from ..evaluation.vocabulary import BENCHMARKS
from ..utils.versions import library_versions
from .panels import panels
from .probes import probe_table
from .tables import WEAK_NOTE, score_table
from .templating import template
from .words.asking import asked, beside
from .words.benchmarks import notes
from .words.findings import gain_parts, gain_runs, reasons, stopped
from .words.first_screen import answers, other_seeds
from .words.gates import counted, gate_rows
from .words.glossary import GLOSSARY, LIMITS, THRESHOLDS
from .words.in_short import COLUMNS, TRIAL, advice, in_short, overall
from .words.names import badge, made_of, model_name
from .words.numbers import sentence


def render_html(
    card: Mapping[str, Any],
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    histories: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
    about: str | Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """
    The report: one self-contained HTML page that loads nothing.

    Args:
        card: score card of schema 1 to 3.
        rows: dicts with `task`, `model`, `seed`, `split` and `loss`, an array of the rows' mean losses (nats), and
            perhaps `scores`, a dict of membership score -> array (the lower the more likely a member); drawn as
            histograms, where seeds are pooled, and as ROC curves, where they are overlaid.
        histories: dicts with `task`, `model`, `seed` and `log_history`; drawn as curves. Seeds are overlaid.
        title: of the page.
        about: what was asked for, in a sentence; or a dict of task -> sentence. Where there is none, it is told from
            the card's provenance.
        versions: library -> version with which the page was made; `None`: those installed.
    """
    found = judge(card)
    bought = {gain.task: gain for gain in gains(found, card)}
    names = tasks_of(card)
    about = about if isinstance(about, Mapping) else {names[0]: about} if names else {}
    tasks = [
        {
            "name": task,
            "id": f"t{i}",
            **_words(card, task, [f for f in found if f.task == task], bought.get(task), about.get(task)),
            **_tables(card, task),
            "probes": probe_table(card, task),
            **panels(card, task, rows, histories, str(i)),
        }
        for i, task in enumerate(names)
    ]
    answered = {answer.key for task in tasks for result in task["results"] for answer in result["answers"]}
    dates = {task["made"]["date"] for task in tasks}
    return template("report.html").render(
        title=title or "What was forgotten, and what was kept",
        tasks=tasks,
        date=dates.pop() if len(dates) == 1 else None,
        overall=overall([shown for task in tasks for shown in task.pop("shown")]) if len(tasks) > 1 else "",
        columns={key: heading for key, heading in COLUMNS.items() if key in answered},
        trial=TRIAL,
        glossary=GLOSSARY,
        limits=LIMITS,
        thresholds=THRESHOLDS,
        weak_note=WEAK_NOTE,
        role_labels=ROLE_LABELS,
        versions=_versions(tasks, dict(versions) if versions is not None else library_versions()),
    )


def _tables(card: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The score table, and apart from it what benchmarks came to, with what they were measured on."""
    table = score_table(card, task)
    tests = [group for group in table["groups"] if group["section"] == BENCHMARKS]
    groups = [group for group in table["groups"] if group["section"] != BENCHMARKS]
    return {"table": {**table, "groups": groups}, "benchmarks": tests, "notes": notes(card, task)}


def _words(
    card: Mapping[str, Any], task: str, found: Sequence[Finding], gain: Gain | None, about: str | None
) -> dict[str, Any]:
    """A task's first screen, gates and provenance. Of a trial run there is nothing to be said."""
    made = {"commands": [], "models": {}, "data": {}, "versions": {}, "date": None, "request": None}
    own = (card.get("provenance") or {}).get(task) or {}
    made |= {key: value for key, value in own.items() if value is not None}
    counts, trial = rows_of(card, task), is_trial(card, task)
    found = [] if trial else found
    shown = [findings[0] for findings in _by_model(found)]
    about = about or (None if made["request"] else made.get("asked"))
    return {
        "asked": sentence(asked(made["request"], counts.get("forget"))) if made["request"] or counts else "",
        "about": about,
        "made_of": made_of(made["models"], made["request"]),
        "beside": beside(counts),
        "trial": trial,
        "shown": shown,
        "results": _results(shown),
        "blocks": _blocks(found),
        "judged": [_judged(finding) for finding in found],
        "readiness": _readiness(gain, found) if gain and not trial else None,
        "made": made,
    }


def _results(shown: Sequence[Finding]) -> list[dict[str, Any]]:
    """The answers in short, a line for each different result: `names` of its models, `answers`, `advice`."""
    results: dict[tuple, dict[str, Any]] = {}
    for finding in shown:
        said = {"answers": in_short(finding), "advice": advice(finding)}
        key = (tuple(said["answers"]), said["advice"])
        results.setdefault(key, {"names": [], **said})["names"].append(ROLE_LABELS[finding.model])
    return list(results.values())


def _blocks(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """One per unlearned model: the seed with the worst verdict, and in a sentence what the others say."""
    blocks = []
    for shown, *others in _by_model(found):
        block = {"name": ROLE_LABELS[shown.model], **answers(shown)}
        if others:
            block["sure"].append(other_seeds(shown, others))
        blocks.append(block)
    return blocks


def _by_model(found: Sequence[Finding]) -> list[list[Finding]]:
    some = [worst_first(finding for finding in found if finding.model == role) for role in BEFORE]
    return [findings for findings in some if findings]


def _judged(finding: Finding) -> dict[str, Any]:
    return {
        "name": model_name(finding),
        "badge": badge(finding),
        "counted": counted(finding),
        "gates": gate_rows(finding),
        "forgot": in_short(finding)[0].word,
        "reasons": reasons(finding.forgotten),
        "stopped": sentence(stopped(finding)),
    }


def _readiness(gain: Gain, found: Sequence[Finding]) -> dict[str, Any]:
    """No more than the blocks say: where tests contradict a "yes" by the loss, it is said to be by the loss."""
    by_loss = any(shown.forgotten.against for shown, *_ in _by_model(found))
    return {"parts": gain_parts(gain, by_loss), "runs": gain_runs(gain)}


def _versions(tasks: Sequence[Mapping[str, Any]], page: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each set of versions once: `what` was made with it, and `of`, library -> version."""
    sets: dict[tuple, dict[str, Any]] = {}
    for what, of in [
        *((f"the scores of {task['name']}", task["made"]["versions"]) for task in tasks),
        ("this page", page),
    ]:
        if of:
            sets.setdefault(tuple(sorted(of.items())), {"what": [], "of": of})["what"].append(what)
    return list(sets.values())
