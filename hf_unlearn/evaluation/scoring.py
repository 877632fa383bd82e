"""Models and splits -> score card."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..data.columns import hub_id
from ..data.given import collating_problems
from ..utils.checks import whole
from ..utils.guarantees import GUARANTEES
from ..utils.versions import library_versions
from .attacks.base import Seen
from .attacks.registry import attack_names
from .attacks.registry import attacks as registered
from .benchmarking import asked_for, measures_of, warn_of_tables
from .measures.by_class import by_class
from .measuring import against_before, compare, measure, measure_names, wanted_of
from .model_checks import model_problems
from .model_scores import COST_KEYS, ModelScores
from .observation import observe
from .roles import BEFORE, ROLES
from .row_keys import DATA_KEY, key_of
from .rows import MOST_ROWS, at_most, row_hashes
from .scorecard import Scorecard
from .split_checks import RowChecks, splits_taken, twin_problems
from .table_checks import (
    data_problems,
    label_problems,
    overlap_problems,
    raise_all,
    same_weights,
    shown,
    value_problems,
    weights_problems,
)
from .tables import described, is_causal_lm

if TYPE_CHECKING:
    import pyarrow
    import torch

logger = logging.getLogger(__name__)


def evaluate(
    model: torch.nn.Module | Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    reference: torch.nn.Module | Mapping[str, pyarrow.Table] | None = None,
    measures: Iterable[str] | None = None,
    attacks: Iterable[str] = (),
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    processing_class: Any = None,
    batch_size: int = 32,
    task: str = "task",
    role: str = "unlearned",
    seed: int = 0,
    cost: Mapping[str, Any] | None = None,
    stop_reason: str | Mapping[str, str] | None = None,
    guarantee: str | Mapping[str, str] | None = None,
    history: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    attack_options: Mapping[str, Mapping[str, Any]] | None = None,
    benchmarks: Mapping[str, Any] | None = None,
    benchmark_options: Mapping[str, Mapping[str, Any]] | None = None,
    relearning: Mapping[str, Any] | None = None,
    generate_rows: int | None = None,
    resamples: int = 1000,
    max_rows: int | None = MOST_ROWS,
    progress: bool | Callable[[str, str, float], None] = False,
) -> Scorecard:
    """
    Measure one or several models on the same splits, beside a model retrained without the forget rows.

    Under `torch.distributed` all processes call it, the passes are shared out, and each gets the whole card.

    Args:
        model: a model (its role is `role`), or a dict of role -> model. In the dict a function without arguments that
            loads the model may stand for it (one is held at a time, two for weight distances), or its saved tables
            (split -> table of [`collect`]). Roles: "original", "ready", "unlearned", "ready_unlearned", "retrained",
            and "retrained_again", retrained with another seed, which shows the noise floor.
        splits: `DatasetDict` or dict with any of `forget`, `retain`, `unseen`, `test`, which may not share rows; for
            language models `<split>_perturbed` and `<split>_paraphrased` (other answers to the rows of a split, with a
            column `group`: the number of the row; for the truth ratio) and `forget_rephrased` (the same questions in
            other words); `similar` (for relearning); `general` (of language models: texts that have nothing to do with
            the request; a gate of that name compares with the model before it); and others by your names. Membership
            inference needs `forget` and `unseen`. Not needed when all models are given as tables, or for benchmarks
            alone.
        reference: the retrained model, or its saved tables; enters as role "retrained".
        measures: names to keep (see [`measure`]); `None` keeps all.
        attacks: what costs more than a pass: "probes" (a language model answers ten general questions, to see whether
            it was damaged), "generate" (greedy answers, for ROUGE-L), "quantise" (forget rows again with
            weights in int8 and int4), "relearn" (fine-tunes of unlearned and retrained models from retain-only, similar
            and real forget rows), "weights" (distances to the original and the retrained model), or one that was added
            by [`register`].
        data_collator: makes batches; `None`: [`hf_unlearn.default_collator`] of the model and `processing_class`.
        processing_class: tokenizer (also for zlib scores and generations) or processor.
        batch_size: rows per forward pass.
        task: name under which the runs are listed; score cards of several tasks can be added.
        seed: training seed of the runs, recorded with them; also seeds the resampling.
        cost: `{"steps", "row_passes", "seconds"}` of the run, or a dict of role -> such a dict.
        stop_reason: why the run ended, or a dict of role -> reason.
        guarantee: what the run says of its deletion (`metrics["guarantee"]` of an `UnlearnTrainer`), or a dict of role
            -> such.
        history: `trainer.state.log_history` of the run, or a dict of role -> history; drawn as curves in the report.
        provenance: what else belongs into the card: `asked` (what was asked for, in a sentence) or `request` (the same
            as data, by [`hf_unlearn.data.asked.asked`]), `dataset` (name of the rows), `commands` (list), `smoke` (true
            for a trial run, whose report then claims nothing), `bf16` (whether the passes computed in bfloat16).
        attack_options: attack -> its options, over their defaults: `{"relearn": {"steps": 60}}`. What each has:
            `RelearnOptions`, `GenerateOptions` and `ProbeOptions` in the files of the attacks.
        benchmarks: published benchmarks of language models by name, "muse", "wmdp", "mmlu", with where their rows are:
            a folder, a file, a hub id, or the rows themselves (`hf_unlearn.evaluation.benchmarks`). Measures `muse_…`,
            `wmdp_…`, `mmlu_…` come of them; what was cut and how it was asked is in `details["benchmarks"]`.
        benchmark_options: benchmark -> its options, over their defaults: `{"muse": {"min_k": 20}}`. What each has:
            `MuseOptions` and `ChoiceOptions` in the files of the benchmarks.
        relearning: short for `attack_options={"relearn": …}`.
        generate_rows: short for `attack_options={"generate": {"rows": …}}`.
        resamples: bootstrap resamples of each interval.
        max_rows: of a larger split so many rows are measured, evenly spaced, which the card says; None: all. A split
            with other answers or other questions beside it is measured whole.
        progress: show progress bars; or a function that is told instead, after each pass: role of the model, split or
            attack, and share of what is measured of that model that is done.

    Raises:
        ValueError: for an unknown role, measure, attack or option of one, no or empty splits, splits that share rows,
            tables of other rows or with values that no model gives, label spaces that differ, a `cost`, `stop_reason`
            or `history` that names no run; and all that [`collect`] raises.
    """
    models, subjects = _models_by_role(model, role, reference)
    splits, problems = splits_taken(splits)
    attacks = [attacks] if isinstance(attacks, str) else list(attacks or ())
    raise_all(_kind_problems(data_collator, processing_class, provenance, attack_options, relearning))
    asked = {"relearn": relearning or {}, "generate": {} if generate_rows is None else {"rows": generate_rows}}
    asked = {attack: {**asked.get(attack, {}), **own} for attack, own in {**asked, **(attack_options or {})}.items()}
    options, more = _options(attacks, asked)
    for argument, attack, own in (("relearning", "relearn", relearning), ("generate_rows", "generate", generate_rows)):
        if own is not None and attack not in attacks:
            more.append(f"`{argument}` is an option of the attack {attack!r}; `attacks=[{attack!r}]` runs it.")
    tests, wrong = asked_for(benchmarks, benchmark_options, processing_class)
    problems += _input_problems(models, splits, measures, attacks, bool(benchmarks)) + more + wrong
    problems += [*whole("batch_size", batch_size, low=1), *whole("resamples", resamples, low=1)]
    too_few = [] if max_rows is None else whole("max_rows", max_rows, low=1)
    problems += whole("seed", seed, low=0) + _said_problems(cost, stop_reason, guarantee, history, task) + too_few
    given = {name: dict(subject) for name, subject in models.items() if isinstance(subject, Mapping)}
    splits, of = (splits, {}) if too_few else at_most(splits, max_rows, list(given.values()))
    checks = RowChecks(splits, data_collator is None, processing_class)
    raise_all(problems + checks.problems(list(models.values())))
    hashes = {split: row_hashes(rows) for split, rows in splits.items()}
    _check_rows(hashes, given, twin_problems(splits, hashes, processing_class, shown))
    if attacks and len(given) == len(models):
        logger.warning("No attack (%s) is run: it needs a model, and there are saved tables alone.", ", ".join(attacks))
    warn_of_tables(tests, given)
    said = {"cost": cost, "stop_reason": stop_reason, "guarantee": guarantee, "history": history}
    said = {argument: _by_role(value, argument, models, subjects) for argument, value in said.items()}

    how = {"data_collator": data_collator, "processing_class": processing_class, "batch_size": batch_size}
    how["checks"] = checks
    seen = {
        name: Seen(given[name])
        if name in given
        else observe(name, models, splits, hashes, attacks, options, tests, progress=progress, **how)
        for name in sorted(models, key=ROLES.index)
    }
    tables = {name: own.tables for name, own in seen.items()}
    descriptions = {name: described(next(iter(own.values()))) for name, own in tables.items() if own}
    raise_all(label_problems(descriptions) + weights_problems(tables))
    for roles in same_weights(tables):
        logger.warning(
            "%s have the same weights: no request has moved them, or one of these models or tables is of another role.",
            " and ".join(map(repr, roles)),
        )

    found = _measured(seen, measures, seed, resamples)
    for name, own in seen.items():
        found[name] |= measures_of(tests.values(), own, seen.get("retrained"), seed, resamples)
    runs = [_scores(task, name, int(seed), found[name], own, said) for name, own in seen.items()]
    return Scorecard(runs, {task: {**_provenance(tables, of), **_on_the_hub(splits), **(provenance or {})}})


def _scores(task: str, role: str, seed: int, measures: dict, seen: Seen, said: Mapping[str, Mapping]) -> ModelScores:
    """What the score card holds of one model; `said`: what the caller told of it, by argument and role."""
    return ModelScores(
        task=task,
        model=role,
        seed=seed,
        measures=measures,
        cost={key: (said["cost"].get(role) or {}).get(key) for key in COST_KEYS},
        stop_reason=said["stop_reason"].get(role),
        guarantee=said["guarantee"].get(role),
        details={**seen.details, **({"classes": classes} if (classes := by_class(seen.tables)) else {})},
        tables=seen.tables,
        generations=seen.generations,
        history=[dict(entry) for entry in said["history"].get(role) or []],
    )


def _options(attacks: Sequence[str], given: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """The options of each of the attacks, and what is wrong with the given ones."""
    known = {attack.name: attack for attack in registered()}
    problems = [
        f"`attack_options` names {name!r}: expected some of {', '.join(known)}." for name in given if name not in known
    ]
    options = {}
    for name in [name for name in attacks if name in known]:
        try:
            options[name] = known[name].options_of(given.get(name, {}))
        except ValueError as error:
            problems.append(str(error))
    return options, problems


def _models_by_role(model: Any, role: str, reference: Any) -> tuple[dict[str, Any], list[str]]:
    """All models by role, and the roles that a plain `cost`, `stop_reason` or `history` may belong to."""
    models = {role: model} if not isinstance(model, Mapping) or _is_tables(model) else dict(model)
    if reference is None:
        return models, [name for name in models if not name.startswith("retrained")] or list(models)
    if "retrained" in models:
        raise ValueError('`reference` is the retrained model, but `model` has a role "retrained" too: give one.')
    return {**models, "retrained": reference}, list(models)


def _measured(
    seen: Mapping[str, Seen], measures: Iterable[str] | None, seed: int, resamples: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """role -> measures by name: from its tables, beside the retrained model, and what each attack adds."""
    # One rule for all models of the card, so that their measures have the same names.
    causal_lm = any(is_causal_lm(own.tables) for own in seen.values())
    names = {role: measure_names(own.tables, causal_lm=causal_lm) for role, own in seen.items()}
    wanted = wanted_of(measures, sorted({name for some in names.values() for name in some}))
    retrained = seen.get("retrained")
    how = {"seed": seed, "resamples": resamples}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for role, own in seen.items():
        mine = wanted & set(names[role])
        found[role] = measure(own.tables, generations=own.generations, measures=mine, causal_lm=causal_lm, **how)
        if measures is None:
            if retrained is not None and role != "retrained":
                found[role] |= compare(own.tables, retrained.tables, **how)
            before = next((seen[name] for name in BEFORE.get(role, ()) if name in seen), None)
            if before is not None:
                found[role] |= against_before(own.tables, before.tables, **how)
            for attack in registered():
                found[role] |= attack.measures(own, retrained) if attack.measures else {}
    return found


def _provenance(tables: Mapping[str, Mapping[str, pyarrow.Table]], whole: Mapping[str, int]) -> dict[str, Any]:
    """`whole`: rows of the splits of which some were measured."""
    said = {name: {split: described(table) for split, table in own.items()} for name, own in tables.items()}
    data: dict[str, dict[str, Any]] = {}
    for name, own in tables.items():
        for split, table in own.items():
            of = said[name][split]
            salt = {"salt": of[DATA_KEY]} if DATA_KEY in of else {}
            some = {"of": whole[split]} if split in whole else {}
            data.setdefault(split, {"rows": table.num_rows, **some, "hash": of.get("data"), **salt})
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "models": {name: _model(said[name].values()) for name in said},
        "data": data,
        "versions": library_versions(),
    }


def _on_the_hub(splits: Mapping[str, Any]) -> dict[str, str]:
    """`dataset`: where the rows were loaded from, if it is one data set of the hub and they tell it."""
    names = {hub_id(rows) for rows in splits.values()} - {None}
    return {"dataset": names.pop()} if len(names) == 1 else {}


def _model(descriptions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The weights' hash, `architecture` (a class) and `parameters` of a model, as far as its tables tell them."""
    descriptions = list(descriptions)
    keys = {"weights": "model", "architecture": "architecture", "parameters": "parameters"}
    found = {key: next((d[own] for d in descriptions if d.get(own)), None) for key, own in keys.items()}
    return {key: value for key, value in found.items() if value is not None or key == "weights"}


def _is_tables(value: Mapping) -> bool:
    return bool(value) and all(hasattr(table, "num_rows") and hasattr(table, "schema") for table in value.values())


def _check_rows(
    hashes: Mapping[str, Sequence[str]], given: Mapping[str, Mapping[str, pyarrow.Table]], problems: list[str]
) -> None:
    """
    Whether splits share rows, and saved tables (role -> split -> table) are of these rows and hold what a model can
    give; all problems at once, with those that were found before.
    """

    def own(tables: Mapping[str, pyarrow.Table]) -> dict[str, list[str]]:
        return {s: t["row_hash"].to_pylist() for s, t in tables.items() if "row_hash" in t.column_names}

    problems = overlap_problems(hashes) + problems
    for name, tables in given.items():
        problems += value_problems(name, tables) + data_problems(name, tables, hashes)
        problems += overlap_problems(own(tables)) if not hashes else []
    for name in list(given)[1:] if not hashes else []:  # tables alone must be of the first ones' rows
        first = given[next(iter(given))]
        problems += data_problems(name, given[name], own(first), {s: key_of(table) for s, table in first.items()})
    raise_all(problems)


def _input_problems(
    models: Mapping[str, Any],
    splits: Mapping[str, Any],
    measures: Iterable[str] | None,
    attacks: Sequence[str],
    benchmarks: bool,
) -> list[str]:
    """What is wrong with the arguments of [`evaluate`], before a model runs."""
    problems = []
    if not models:
        problems.append("`model` is empty: give a model, or a dict of role -> model.")
    for name in models:
        if name not in ROLES:
            problems.append(f"unknown role {name!r}: expected one of {', '.join(ROLES)}.")
    if not splits and not benchmarks and not all(isinstance(subject, Mapping) for subject in models.values()):
        problems.append("`splits` is empty: give a dict with any of `forget`, `retain`, `unseen`, `test`.")
    for split, rows in splits.items():
        if len(rows) == 0:
            problems.append(f"split `{split}` is empty: leave it out, or give it rows.")
    for name, subject in models.items():
        if isinstance(subject, Mapping) and not subject:
            problems.append(f'the tables of "{name}" are empty: expected a dict of split -> table.')
        elif isinstance(subject, Mapping) and not _is_tables(subject):
            problems.append(f'"{name}" is a dict, but not of split -> table of `collect`.')
        elif hasattr(subject, "parameters"):
            problems += [f'"{name}" {problem}' for problem in model_problems(subject)]
        elif not isinstance(subject, Mapping) and not callable(subject):
            kind = type(subject).__name__
            problems.append(f'"{name}" is a {kind}: expected a model, a function that loads it, or saved tables.')
    known = attack_names()
    for attack in attacks:
        if attack not in known:
            problems.append(f"unknown attack {attack!r} in `attacks`: expected some of {', '.join(known)}.")
    names = list(dict.fromkeys([*splits, *(s for t in models.values() if isinstance(t, Mapping) for s in t)]))
    try:
        wanted_of(measures, list(dict.fromkeys(n for lm in (True, False) for n in measure_names(names, causal_lm=lm))))
    except ValueError as error:
        problems.append(str(error))
    return problems


def _kind_problems(data_collator: Any, processing_class: Any, provenance: Any, *options: Any) -> list[str]:
    """Arguments of another kind, on which what follows would stumble; `options`: those of attacks, and of one."""
    problems = collating_problems(data_collator, processing_class)
    said = {"provenance": provenance, "attack_options": options[0], "relearning": options[1]}
    said |= {f"attack_options[{attack!r}]": own for attack, own in options[0].items()} if _is_dict(options[0]) else {}
    wrong = {name: value for name, value in said.items() if value is not None and not _is_dict(value)}
    return problems + [f"`{name}` is {value!r}: expected a dict." for name, value in wrong.items()]


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _said_problems(cost: Any, stop_reason: Any, guarantee: Any, history: Any, task: Any) -> list[str]:
    """What is wrong with the kinds of what the caller tells of the runs."""
    problems = [] if isinstance(task, str) and task.strip() else [f"`task` is {task!r}: expected a name."]
    costs = list(cost.values()) if isinstance(cost, Mapping) and not set(cost) <= set(COST_KEYS) else [cost]
    if not all(own is None or isinstance(own, Mapping) for own in costs):
        problems.append(f"`cost` is {cost!r}: expected a dict with {', '.join(COST_KEYS)}, or a dict of role -> such.")
    reasons = stop_reason.values() if isinstance(stop_reason, Mapping) else [stop_reason]
    if not all(reason is None or isinstance(reason, str) for reason in reasons):
        problems.append(f"`stop_reason` is {stop_reason!r}: expected a text, or a dict of role -> text.")
    guarantees = guarantee.values() if isinstance(guarantee, Mapping) else [guarantee]
    if not all(said in (None, *GUARANTEES) for said in guarantees):
        problems.append(f"`guarantee` is {guarantee!r}: expected {', '.join(GUARANTEES)}, or a dict of role -> such.")
    histories = history.values() if isinstance(history, Mapping) else [history]
    lists = [own for own in histories if own is not None]
    if not all(isinstance(own, (list, tuple)) and all(isinstance(one, Mapping) for one in own) for own in lists):
        problems.append("`history` must be a `trainer.state.log_history`, a list of dicts, or a dict of role -> such.")
    return problems


def _by_role(value: Any, argument: str, models: Mapping[str, Any], subjects: list[str]) -> dict[str, Any]:
    """A plain value belongs to the one model that is not the reference; a dict says itself."""
    if value is None or value == {}:
        return {}
    if isinstance(value, Mapping) and not (argument == "cost" and set(value) <= set(COST_KEYS)):
        unknown = sorted(set(value) - set(models))
        if unknown:
            raise ValueError(f"`{argument}` names {unknown}, but the models are {sorted(models)}.")
        return dict(value)
    if len(subjects) != 1:
        raise ValueError(f"`{argument}` is one value for the models {subjects}: give a dict of role -> value.")
    return {subjects[0]: value}
