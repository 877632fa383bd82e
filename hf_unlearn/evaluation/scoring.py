"""Models and splits -> score card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..utils.versions import library_versions
from .attacks.relearn import recovery_area
from .measures.measure import compare, measure, measure_names, wanted_of
from .observation import ATTACKS, Observed, observe
from .roles import ROLES
from .scorecard import COST_KEYS, Run, Scorecard
from .statistics import summary
from .tables import (
    data_problems,
    described,
    is_causal_lm,
    label_problems,
    overlap_problems,
    raise_all,
    row_hashes,
    weights_problems,
)

if TYPE_CHECKING:
    import pyarrow
    import torch


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
    history: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    relearning: Mapping[str, Any] | None = None,
    generate_rows: int = 200,
    resamples: int = 1000,
    progress: bool = False,
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
            other words); `similar` (for relearning); and others by your names. Membership inference needs `forget` and
            `unseen`. Not needed when all models are given as tables.
        reference: the retrained model, or its saved tables; enters as role "retrained".
        measures: names to keep (see [`measure`]); `None` keeps all.
        attacks: what costs more than a pass: "generate" (greedy answers, for ROUGE-L), "quantise" (forget rows again
            with weights in int8 and int4), "relearn" (fine-tunes of unlearned and retrained models from retain-only,
            similar and real forget rows), "weights" (distances to the original and the retrained model).
        data_collator: makes batches; `None`: [`hf_unlearn.default_collator`] of the model and `processing_class`.
        processing_class: tokenizer (also for zlib scores and generations) or processor.
        batch_size: rows per forward pass.
        task: name under which the runs are listed; score cards of several tasks can be added.
        seed: training seed of the runs, recorded with them; also seeds the resampling.
        cost: `{"steps", "row_passes", "seconds"}` of the run, or a dict of role -> such a dict.
        stop_reason: why the run ended, or a dict of role -> reason.
        history: `trainer.state.log_history` of the run, or a dict of role -> history; drawn as curves in the report.
        provenance: what else belongs into the card: `asked` (a sentence), `commands` (list).
        relearning: arguments of [`relearn`] and `k` of [`recovery_curves`], over their defaults.
        generate_rows: rows of each split that are generated at most, evenly spaced.
        resamples: bootstrap resamples of each interval.
        progress: show progress bars.

    Raises:
        ValueError: for an unknown role, measure or attack, no or empty splits, splits that share rows, tables of other
            rows, label spaces that differ, a `cost`, `stop_reason` or `history` that names no run; and all that
            [`collect`] raises.
    """
    models = {role: model} if not isinstance(model, Mapping) or _is_tables(model) else dict(model)
    if reference is not None:
        if "retrained" in models:
            raise ValueError('`reference` is the retrained model, but `model` has a role "retrained" too: give one.')
        subjects = list(models)
        models["retrained"] = reference
    else:
        subjects = [name for name in models if not name.startswith("retrained")] or list(models)
    splits = {} if splits is None else {name: rows for name, rows in splits.items() if rows is not None}
    attacks = [attacks] if isinstance(attacks, str) else list(attacks)
    _check_inputs(models, splits, measures, attacks)
    hashes = {split: row_hashes(rows) for split, rows in splits.items()}
    given = {name: dict(subject) for name, subject in models.items() if isinstance(subject, Mapping)}
    problems = overlap_problems(hashes)
    for name, tables in given.items():
        problems += data_problems(name, tables, hashes)
        if not splits:
            problems += overlap_problems({s: t["row_hash"].to_pylist() for s, t in tables.items() if _hashed(t)})
    for name in list(given)[1:] if not splits else []:
        first = next(iter(given))
        known = {s: t["row_hash"].to_pylist() for s, t in given[first].items() if _hashed(t)}
        problems += data_problems(name, given[name], known)
    raise_all(problems)
    by_role = {
        "cost": _by_role(cost, "cost", models, subjects),
        "stop_reason": _by_role(stop_reason, "stop_reason", models, subjects),
        "history": _by_role(history, "history", models, subjects),
    }

    how = {"data_collator": data_collator, "processing_class": processing_class, "batch_size": batch_size}
    observed = {
        name: Observed(tables=given[name])
        if name in given
        else observe(name, models, splits, hashes, attacks, relearning or {}, generate_rows, progress=progress, **how)
        for name in sorted(models, key=ROLES.index)
    }
    said = {name: described(next(iter(o.tables.values()))) for name, o in observed.items()}
    raise_all(label_problems(said) + weights_problems({name: o.tables for name, o in observed.items()}))

    # One rule for all models of the card, so that their measures have the same names.
    causal_lm = any(is_causal_lm(o.tables) for o in observed.values())
    known = {n for o in observed.values() for n in measure_names(o.tables, causal_lm=causal_lm)}
    wanted = wanted_of(measures, sorted(known))
    retrained = observed.get("retrained")
    runs = []
    for name, seen in observed.items():
        names = wanted & set(measure_names(seen.tables, causal_lm=causal_lm))
        found: dict[str, dict[str, Any]] = measure(
            seen.tables,
            generations=seen.generations,
            measures=names,
            seed=seed,
            resamples=resamples,
            causal_lm=causal_lm,
        )
        if measures is None:
            if retrained is not None and name != "retrained":
                found |= compare(seen.tables, retrained.tables, seed=seed, resamples=resamples)
            found |= _attack_measures(seen, retrained)
        told = by_role["cost"].get(name) or {}
        runs.append(
            Run(
                task=task,
                model=name,
                seed=int(seed),
                measures=found,
                cost={key: told.get(key) for key in COST_KEYS},
                stop_reason=by_role["stop_reason"].get(name),
                details=seen.details,
                tables=seen.tables,
                generations=seen.generations,
                history=[dict(entry) for entry in by_role["history"].get(name) or []],
            )
        )
    return Scorecard(runs, {task: {**_provenance(observed), **(provenance or {})}})


def _attack_measures(seen: Observed, retrained: Observed | None) -> dict[str, dict[str, Any]]:
    found = {}
    for kind, curve in seen.details.get("recovery", {}).items():
        theirs = retrained.details.get("recovery", {}).get(kind) if retrained is not None else None
        if theirs and seen is not retrained:
            area = recovery_area(curve, theirs)
            k = seen.details["relearning"]["k"]
            found[f"recovery_{kind}_area"] = {**summary(area, None, seen.tables["forget"].num_rows - k), "k": k}
    for name, distance in seen.details.get("weights", {}).items():
        found[f"weights_{name}"] = summary(distance["whole"], None, len(distance["layers"]))
    return found


def _provenance(observed: Mapping[str, Observed]) -> dict[str, Any]:
    said = {name: {s: described(t) for s, t in o.tables.items()} for name, o in observed.items()}
    data = {}
    for name, o in observed.items():
        for split, table in o.tables.items():
            data.setdefault(split, {"rows": table.num_rows, "hash": said[name][split].get("data")})
    return {
        "models": {
            n: {"weights": next((d["model"] for d in s.values() if d.get("model")), None)} for n, s in said.items()
        },
        "data": data,
        "versions": library_versions(),
    }


def _is_tables(value: Mapping) -> bool:
    return bool(value) and all(hasattr(table, "num_rows") and hasattr(table, "schema") for table in value.values())


def _hashed(table: Any) -> bool:
    return "row_hash" in getattr(table, "column_names", ())


def _check_inputs(
    models: Mapping[str, Any], splits: Mapping[str, Any], measures: Iterable[str] | None, attacks: Sequence[str]
) -> None:
    """All problems of the arguments of [`evaluate`] in one error, before a model runs."""
    problems = []
    if not models:
        problems.append("`model` is empty: give a model, or a dict of role -> model.")
    for name in models:
        if name not in ROLES:
            problems.append(f"unknown role {name!r}: expected one of {', '.join(ROLES)}.")
    if not splits and not all(isinstance(subject, Mapping) for subject in models.values()):
        problems.append("`splits` is empty: give a dict with any of `forget`, `retain`, `unseen`, `test`.")
    for split, rows in splits.items():
        if len(rows) == 0:
            problems.append(f"split `{split}` is empty: leave it out, or give it rows.")
    for name, subject in models.items():
        if isinstance(subject, Mapping) and not subject:
            problems.append(f'the tables of "{name}" are empty: expected a dict of split -> table.')
        elif isinstance(subject, Mapping) and not _is_tables(subject):
            problems.append(f'"{name}" is a dict, but not of split -> table of `collect`.')
        elif not isinstance(subject, Mapping) and not callable(subject):
            kind = type(subject).__name__
            problems.append(f'"{name}" is a {kind}: expected a model, a function that loads it, or saved tables.')
    for attack in attacks:
        if attack not in ATTACKS:
            problems.append(f"unknown attack {attack!r} in `attacks`: expected some of {', '.join(ATTACKS)}.")
    names = list(dict.fromkeys([*splits, *(s for t in models.values() if isinstance(t, Mapping) for s in t)]))
    try:
        wanted_of(measures, list(dict.fromkeys(n for lm in (True, False) for n in measure_names(names, causal_lm=lm))))
    except ValueError as error:
        problems.append(str(error))
    raise_all(problems)


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
