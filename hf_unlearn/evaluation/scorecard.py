"""Models and splits -> score card: measures of several models side by side, saved, merged and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import report
from ..findings import ROLES, findings
from .measures import measure, measure_names, wanted_of
from .passes import collect
from .statistics import finite
from .tables import COLUMNS, columns_of

if TYPE_CHECKING:
    import pyarrow
    import torch

SCHEMA = 1
COST_KEYS = ("steps", "row_passes", "seconds")


def evaluate(
    model: torch.nn.Module | Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    reference: torch.nn.Module | Mapping[str, pyarrow.Table] | None = None,
    measures: Iterable[str] | None = None,
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    processing_class: Any = None,
    batch_size: int = 32,
    task: str = "task",
    role: str = "unlearned",
    seed: int = 0,
    cost: Mapping[str, Any] | None = None,
    stop_reason: str | Mapping[str, str] | None = None,
    history: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    resamples: int = 1000,
    progress: bool = False,
) -> Scorecard:
    """
    Measure one or several models on the same splits, beside a model retrained without the forget rows.

    Args:
        model: a model (its role is `role`), or a dict of role -> model. In the dict, saved tables (split -> table of
            [`collect`]) may stand for a model. Roles: "original", "ready", "unlearned", "ready_unlearned",
            "retrained".
        splits: `DatasetDict` or dict with any of `forget`, `retain`, `unseen`, `test`, and others by your names.
            Membership inference needs `forget` and `unseen`. Not needed when all models are given as tables.
        reference: the retrained model, or its saved tables; enters as role "retrained".
        measures: names to keep (see [`measure`]); `None` keeps all.
        data_collator: makes batches; `None`: [`hf_unlearn.data.default_collator`] of the model and `processing_class`.
        batch_size: rows per forward pass.
        task: name under which the runs are listed; score cards of several tasks can be added.
        seed: training seed of the runs, recorded with them; also seeds the resampling.
        cost: `{"steps", "row_passes", "seconds"}` of the run, or a dict of role -> such a dict.
        stop_reason: why the run ended, or a dict of role -> reason.
        history: `trainer.state.log_history` of the run, or a dict of role -> history; drawn as curves in the report.
        resamples: bootstrap resamples of each interval.
        progress: show progress bars.

    Raises:
        ValueError: for an unknown role or measure, no or empty splits, tables that belong to other splits (another
            number of rows), a `cost`, `stop_reason` or `history` that names no run; and all that [`collect`] raises.
    """
    models = dict(model) if isinstance(model, Mapping) else {role: model}
    if reference is not None:
        if "retrained" in models:
            raise ValueError('`reference` is the retrained model, but `model` has a role "retrained" too: give one.')
        subjects = list(models)
        models["retrained"] = reference
    else:
        subjects = [name for name in models if name != "retrained"] or list(models)
    splits = {} if splits is None else {name: rows for name, rows in splits.items() if rows is not None}
    _check_inputs(models, splits, measures)
    by_role = {
        "cost": _by_role(cost, "cost", models, subjects),
        "stop_reason": _by_role(stop_reason, "stop_reason", models, subjects),
        "history": _by_role(history, "history", models, subjects),
    }

    tables: dict[str, dict[str, pyarrow.Table]] = {}
    for name, subject in models.items():
        if isinstance(subject, Mapping):
            tables[name] = dict(subject)
            continue
        collator = data_collator
        if collator is None:
            from ..data import default_collator

            collator = default_collator(subject, processing_class)
        tables[name] = {}
        for split, rows in splits.items():
            try:
                tables[name][split] = collect(subject, rows, collator, batch_size=batch_size, progress=progress)
            except ValueError as error:
                raise ValueError(f'split `{split}`, model "{name}": {error}') from error

    # One rule for all models of the card, so that their measures have the same names.
    causal_lm = any((columns_of(t, s)["n_labels"] != 1).any() for ts in tables.values() for s, t in ts.items())
    known = {n for ts in tables.values() for n in measure_names(ts, causal_lm=causal_lm)}
    wanted = wanted_of(measures, sorted(known))
    runs = []
    for name in sorted(models, key=ROLES.index):
        names = wanted & set(measure_names(tables[name], causal_lm=causal_lm))
        found = measure(tables[name], measures=names, seed=seed, resamples=resamples, causal_lm=causal_lm)
        given = by_role["cost"].get(name) or {}
        runs.append(
            Run(
                task=task,
                model=name,
                seed=int(seed),
                measures=found,
                cost={key: given.get(key) for key in COST_KEYS},
                stop_reason=by_role["stop_reason"].get(name),
                tables=tables[name],
                history=[dict(entry) for entry in by_role["history"].get(name) or []],
            )
        )
    return Scorecard(runs)


def _check_inputs(models: Mapping[str, Any], splits: Mapping[str, Any], measures: Iterable[str] | None) -> None:
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
        if not isinstance(subject, Mapping):
            continue
        if not subject:
            problems.append(f'the tables of "{name}" are empty: expected a dict of split -> table.')
        for split, table in subject.items():
            if split in splits and getattr(table, "num_rows", None) != len(splits[split]):
                problems.append(
                    f'the table of "{name}" for split `{split}` has {getattr(table, "num_rows", "no")} rows, the '
                    f"split has {len(splits[split])}: it was not made from these rows."
                )
    names = list(dict.fromkeys([*splits, *(s for t in models.values() if isinstance(t, Mapping) for s in t)]))
    try:
        wanted_of(measures, list(dict.fromkeys(n for lm in (True, False) for n in measure_names(names, causal_lm=lm))))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems) if len(problems) == 1 else "- " + "\n- ".join(problems))


def _by_role(value: Any, argument: str, models: Mapping[str, Any], subjects: list[str]) -> dict[str, Any]:
    """A plain value belongs to the one model that is not the reference; a dict says itself."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and not (argument == "cost" and set(value) <= set(COST_KEYS)):
        unknown = sorted(set(value) - set(models))
        if unknown:
            raise ValueError(f"`{argument}` names {unknown}, but the models are {sorted(models)}.")
        return dict(value)
    if len(subjects) != 1:
        raise ValueError(f"`{argument}` is one value for the models {subjects}: give a dict of role -> value.")
    return {subjects[0]: value}


@dataclass
class Run:
    """One model of one task: `model` is its role. `tables` and `history` are kept beside the score card's JSON."""

    task: str
    model: str
    seed: int
    measures: dict[str, dict[str, float | int | None]]
    cost: dict[str, float | int | None] = field(default_factory=lambda: dict.fromkeys(COST_KEYS))
    stop_reason: str | None = None
    tables: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.model, self.seed

    def to_dict(self) -> dict[str, Any]:
        return _json_safe(
            {
                "task": self.task,
                "model": self.model,
                "seed": self.seed,
                "measures": self.measures,
                "cost": {key: self.cost.get(key) for key in COST_KEYS},
                "stop_reason": self.stop_reason,
            }
        )


@dataclass
class Scorecard:
    """
    The measures of several models, tasks and seeds. Cards are added with `+` (or [`merge`]) and written with
    [`save`]; `scorecard.json` is strict JSON of schema 1:

    `{"schema": 1, "runs": [{"task", "model", "seed", "measures": {name: {"value", "low", "high", "n"}},
    "cost": {"steps", "row_passes", "seconds"}, "stop_reason"}]}`; what is unknown or not finite is null.
    """

    runs: list[Run] = field(default_factory=list)

    def __getitem__(self, role: str) -> Run:
        """The first run of this role: `card["unlearned"].measures["forget_loss"]["value"]`."""
        for run in self.runs:
            if run.model == role:
                return run
        raise KeyError(f"no run of role {role!r}; there are {sorted({run.model for run in self.runs})}")

    def tables(self, role: str, *, task: str | None = None, seed: int | None = None) -> dict[str, pyarrow.Table]:
        """Saved tables of a role (split -> table), to be given to [`evaluate`] as `reference`."""
        for run in self.runs:
            if run.model == role and task in (None, run.task) and seed in (None, run.seed) and run.tables:
                return run.tables
        raise KeyError(f"no tables of role {role!r}, task {task!r}, seed {seed!r} in this score card")

    def merge(self, other: Scorecard) -> Scorecard:
        """
        A card with the runs of both. A run that is in both (same task, role and seed, same numbers) is kept once.

        Raises:
            ValueError: if both have a run of the same task, role and seed with different numbers.
        """
        runs = list(self.runs)
        mine = {run.key: run for run in runs}
        for run in other.runs:
            twin = mine.get(run.key)
            if twin is None:
                runs.append(run)
                mine[run.key] = run
            elif twin.to_dict() != run.to_dict():
                raise ValueError(
                    f"both score cards have a run of task {run.task!r}, model {run.model!r}, seed {run.seed}, with "
                    "different numbers. Give one of them another `task` or `seed`."
                )
        return Scorecard(runs)

    def __add__(self, other: Scorecard) -> Scorecard:
        return self.merge(other) if isinstance(other, Scorecard) else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "runs": [run.to_dict() for run in self.runs]}

    def save(self, directory: str | Path) -> Path:
        """
        Write `scorecard.json`, `rows.parquet` (all tables, with columns task, model, seed, split) and `history.json`
        into `directory`; the last two only where there are rows or histories. Returns the path of `scorecard.json`.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        rows = self._stacked()
        if rows is not None:
            import pyarrow.parquet as pq

            pq.write_table(rows, directory / "rows.parquet")
        histories = self._histories()
        if histories:
            _write_json(directory / "history.json", {"schema": SCHEMA, "histories": histories})
        return _write_json(directory / "scorecard.json", self.to_dict())

    @classmethod
    def load(cls, directory: str | Path) -> Scorecard:
        """
        Read what [`save`] wrote (a folder, or the path of its `scorecard.json`).

        Raises:
            ValueError: if the schema is not one that this version reads.
        """
        directory = Path(directory)
        path = directory if directory.suffix == ".json" else directory / "scorecard.json"
        directory = path.parent
        card = json.loads(path.read_text(encoding="utf-8"))
        if card.get("schema") != SCHEMA:
            raise ValueError(f"{path} has schema {card.get('schema')!r}: this version reads schema {SCHEMA}.")
        runs = [Run(**run) for run in card["runs"]]
        by_key = {run.key: run for run in runs}
        if (directory / "rows.parquet").exists():
            import pyarrow.parquet as pq

            for key, tables in _unstacked(pq.read_table(directory / "rows.parquet")).items():
                if key in by_key:
                    by_key[key].tables = tables
        if (directory / "history.json").exists():
            for entry in json.loads((directory / "history.json").read_text(encoding="utf-8"))["histories"]:
                key = (entry["task"], entry["model"], entry["seed"])
                if key in by_key:
                    by_key[key].history = entry["log_history"]
        return cls(runs)

    def to_html(self, path: str | Path, title: str | None = None, about: str | Mapping[str, str] | None = None) -> Path:
        """
        Write the report: one self-contained page, no network. `about` says in a sentence what was asked for (or a dict
        of task -> sentence). Curves need `history`, histograms need tables.
        """
        rows = [
            {
                "task": run.task,
                "model": run.model,
                "seed": run.seed,
                "split": split,
                "loss": c["nll_sum"] / c["n_labels"],
            }
            for run in self.runs
            for split, table in run.tables.items()
            for c in [columns_of(table, split)]
        ]
        page = report.render_html(self.to_dict(), rows=rows, histories=self._histories(), title=title, about=about)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    def to_card(self, info: Mapping[str, Any] | None = None) -> str:
        """Body of a model card with this score table (Markdown, no YAML header); `info` as `render_card_section`."""
        return report.render_card_section(self.to_dict(), dict(info or {}))

    def findings(self) -> list[str]:
        """What the numbers say, in plain language: one text per unlearned run, then one on what readiness bought."""
        return [finding["text"] for finding in findings(self.to_dict())]

    def _histories(self) -> list[dict[str, Any]]:
        return [
            _json_safe({"task": run.task, "model": run.model, "seed": run.seed, "log_history": run.history})
            for run in self.runs
            if run.history
        ]

    def _stacked(self) -> pyarrow.Table | None:
        import pyarrow as pa

        stacked = []
        for run in self.runs:
            identity = {"task": run.task, "model": run.model, "seed": run.seed}
            for split, table in run.tables.items():
                table = table.select(list(COLUMNS))
                for i, (name, value) in enumerate({**identity, "split": split}.items()):
                    kind = pa.int64() if name == "seed" else pa.string()
                    table = table.add_column(i, name, pa.array([value] * table.num_rows, kind))
                stacked.append(table)
        return pa.concat_tables(stacked) if stacked else None


def _unstacked(rows: pyarrow.Table) -> dict[tuple[str, str, int], dict[str, pyarrow.Table]]:
    import pyarrow.compute as pc

    keys = rows.select(["task", "model", "seed", "split"])
    found: dict[tuple[str, str, int], dict[str, pyarrow.Table]] = {}
    for group in keys.group_by(keys.column_names, use_threads=False).aggregate([]).to_pylist():
        match = None
        for name, value in group.items():
            equal = pc.equal(rows[name], value)
            match = equal if match is None else pc.and_(match, equal)
        table = rows.filter(match).select(list(COLUMNS))
        found.setdefault((group["task"], group["model"], group["seed"]), {})[group["split"]] = table
    return found


def _json_safe(value: Any) -> Any:
    """Plain Python of what JSON knows: numpy scalars unpacked, numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_json_safe(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return finite(float(value))
    return value if value is None else str(value)


def _write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path
