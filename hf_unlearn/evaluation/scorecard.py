"""Score cards: measures of several models side by side, saved, merged and shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .findings import findings
from .intervals import finite
from .measures.membership import scores
from .roles import BEFORE
from .tables import ROW_COLUMNS, columns_of, described, with_description
from .verdict import GATES, passed

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 2
READS = (1, 2)  # schemas that `load` reads
KEPT_TABLES = {"rows.parquet": "tables", "generations.parquet": "generations"}  # file -> attribute of a run
COST_KEYS = ("steps", "row_passes", "seconds")


@dataclass
class ModelScores:
    """
    One model of one task: `model` is its role. `details` holds relearning curves and weight distances by layer;
    `tables`, `generations` and `history` are kept beside the score card's JSON.
    """

    task: str
    model: str
    seed: int
    measures: dict[str, dict[str, float | int | None]]
    cost: dict[str, float | int | None] = field(default_factory=lambda: dict.fromkeys(COST_KEYS))
    stop_reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict, compare=False)
    tables: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
    generations: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
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
                "details": self.details,
            }
        )


@dataclass
class Scorecard:
    """
    The measures of several models, tasks and seeds. Cards are added with `+` (or [`merge`]) and written with
    [`save`]; `scorecard.json` is strict JSON of schema 2 (1 is read, too):

    `{"schema": 2, "runs": [{"task", "model", "seed", "measures": {name: {"value", "low", "high", "n"}},
    "cost": {"steps", "row_passes", "seconds"}, "stop_reason", "details"}], "provenance": {task: {"asked", "commands",
    "models": {role: {"weights"}}, "data": {split: {"rows", "hash"}}, "versions"}}}`; what is unknown or not finite is
    null.
    """

    runs: list[ModelScores] = field(default_factory=list)
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, role: str) -> ModelScores:
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
            ValueError: if both have a run of the same task, role and seed with different numbers, or a task of
                different rows.
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
        for task, one in self.provenance.items():
            ours, theirs = (side.get("data") or {} for side in (one, other.provenance.get(task) or {}))
            differ = [s for s in ours if s in theirs and ours[s].get("hash") != theirs[s].get("hash")]
            if differ:
                raise ValueError(
                    f"both score cards have a task {task!r}, but of other rows ({', '.join(differ)}): their numbers "
                    "cannot stand side by side. Give one of them another `task`."
                )
        provenance = {**other.provenance, **self.provenance}
        for task in set(self.provenance) & set(other.provenance):
            both = (other.provenance[task], self.provenance[task])
            provenance[task] = both[0] | both[1]
            for part in ("models", "data"):
                provenance[task][part] = {k: v for side in both for k, v in (side.get(part) or {}).items()}
            commands = dict.fromkeys(c for side in reversed(both) for c in side.get("commands") or [])
            provenance[task] |= {"commands": list(commands)} if commands else {}
        return Scorecard(runs, provenance)

    def __add__(self, other: Scorecard) -> Scorecard:
        return self.merge(other) if isinstance(other, Scorecard) else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        runs = [run.to_dict() for run in self.runs]
        return {"schema": SCHEMA, "runs": runs, "provenance": _json_safe(self.provenance)}

    def save(self, directory: str | Path) -> Path:
        """
        Write `scorecard.json`, `rows.parquet` and `generations.parquet` (all tables, with columns task, model, seed,
        split) and `history.json` into `directory`; all but the first only where there is something to write. Returns
        the path of `scorecard.json`.
        """
        import pyarrow.parquet as pq

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, kind in KEPT_TABLES.items():
            rows = self._stacked(kind)
            if rows is not None:
                pq.write_table(rows, directory / name)
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
        if card.get("schema") not in READS:
            reads = " and ".join(map(str, READS))
            raise ValueError(f"{path} has schema {card.get('schema')!r}: this version reads schema {reads}.")
        runs = [ModelScores(**run) for run in card["runs"]]
        by_key = {run.key: run for run in runs}
        for name, kind in KEPT_TABLES.items():
            if (directory / name).exists():
                import pyarrow.parquet as pq

                for key, tables in _unstacked(pq.read_table(directory / name)).items():
                    if key in by_key:
                        setattr(by_key[key], kind, tables)
        if (directory / "history.json").exists():
            for entry in json.loads((directory / "history.json").read_text(encoding="utf-8"))["histories"]:
                key = (entry["task"], entry["model"], entry["seed"])
                if key in by_key:
                    by_key[key].history = entry["log_history"]
        return cls(runs, card.get("provenance") or {})

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
                "scores": scores(table) if split in ("forget", "unseen") else {},
            }
            for run in self.runs
            for split, table in run.tables.items()
            for c in [columns_of(table, split)]
        ]
        from ..report.page import render_html

        page = render_html(self.to_dict(), rows=rows, histories=self._histories(), title=title, about=about)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    def to_card(self, info: Mapping[str, Any] | None = None) -> str:
        """Body of a model card with this score table (Markdown, no YAML header); `info` as `render_card_section`."""
        from ..report.card_section import render_card_section

        return render_card_section(self.to_dict(), dict(info or {}))

    def findings(self) -> list[str]:
        """What the numbers say, in plain language: one text per unlearned run, then one on what readiness bought."""
        return [finding["text"] for finding in findings(self.to_dict())]

    def _histories(self) -> list[dict[str, Any]]:
        return [
            _json_safe({"task": run.task, "model": run.model, "seed": run.seed, "log_history": run.history})
            for run in self.runs
            if run.history
        ]

    def _stacked(self, kind: str) -> pyarrow.Table | None:
        import pyarrow as pa

        stacked, said = [], []
        for run in self.runs:
            identity = {"task": run.task, "model": run.model, "seed": run.seed}
            for split, table in getattr(run, kind).items():
                said.append({**identity, "split": split, "table": described(table)})
                names = [name for name in ROW_COLUMNS if name in table.column_names] if kind == "tables" else None
                table = (table if names is None else table.select(names)).replace_schema_metadata(None)
                for i, (name, value) in enumerate({**identity, "split": split}.items()):
                    form = pa.int64() if name == "seed" else pa.string()
                    table = table.add_column(i, name, pa.array([value] * table.num_rows, form))
                stacked.append(table)
        if not stacked:
            return None
        return with_description(pa.concat_tables(stacked, promote_options="default"), {"tables": said})

    def failed_gates(self, gates: Iterable[str]) -> list[str]:
        """
        A line for each unlearned run and named gate of [`~hf_unlearn.evaluation.verdict.verdict`] that is not passed,
        and for each that could not be decided: a model that was not tested has not passed.

        Raises:
            ValueError: for a gate that does not exist, and if there is no unlearned run.
        """
        gates = [gates] if isinstance(gates, str) else list(gates)
        unknown = [gate for gate in gates if gate not in GATES]
        if unknown:
            raise ValueError(f"there is no gate {', '.join(map(repr, unknown))}: expected some of {', '.join(GATES)}.")
        judged = [finding for finding in findings(self.to_dict()) if finding["kind"] == "run"]
        if not judged:
            raise ValueError(f"there is no unlearned run to hold against gates; roles of such are {', '.join(BEFORE)}.")
        lines = []
        for finding in judged:
            found = finding["verdict"]
            for gate in gates:
                ok = passed(found, gate)
                if not ok:
                    text = next((one["text"] for one in found["gates"] if one["name"] == gate), found["text"])
                    how = "not passed" if ok is False else "could not be decided"
                    lines.append(f"{finding['task']} ({finding['name']}): {gate} {how}. {text}")
        return lines


def _unstacked(rows: pyarrow.Table) -> dict[tuple[str, str, int], dict[str, pyarrow.Table]]:
    import pyarrow.compute as pc

    names = ["task", "model", "seed", "split"]
    said = {tuple(one[name] for name in names): one["table"] for one in described(rows).get("tables", [])}
    keys = rows.select(names)
    found: dict[tuple[str, str, int], dict[str, pyarrow.Table]] = {}
    for group in keys.group_by(names, use_threads=False).aggregate([]).to_pylist():
        match = None
        for name, value in group.items():
            equal = pc.equal(rows[name], value)
            match = equal if match is None else pc.and_(match, equal)
        table = rows.filter(match).drop_columns(names).replace_schema_metadata(None)
        table = table.select([name for name in table.column_names if table[name].null_count < table.num_rows])
        description = said.get(tuple(group[name] for name in names))
        table = with_description(table, description) if description else table
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
