"""Score cards: measures of several models side by side, saved, merged and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.checks import raise_problems, true_or_false
from ..utils.files import replace_bytes
from . import scorecard_files
from .catalogue import kind_of
from .gate_rules import gate_names
from .judge import judge
from .measures.membership import scores
from .model_folder import task_of
from .model_scores import ModelScores, json_safe
from .passable import obstacles
from .roles import BEFORE
from .row_keys import keyed_card, same_data
from .tables import columns_of

if TYPE_CHECKING:
    import pandas
    import pyarrow


@dataclass(repr=False)
class Scorecard:
    """
    The measures of several models, tasks and seeds. Cards are added with `+` (or [`merge`]) and written with
    [`save`]; `scorecard.json` is strict JSON of schema 3:

    `{"schema": 3, "runs": [{"task", "model", "seed", "measures": {name: {"value", "low", "high", "n"}},
    "cost": {"steps", "row_passes", "seconds"}, "stop_reason", "guarantee", "details"}], "provenance": {task:
    {"asked", "request", "smoke", "bf16", "date", "commands", "models": {role: {"weights", "architecture",
    "parameters"}}, "data": {split: {"rows", "of", "hash", "salt"}}, "versions"}}}`; what is unknown or not finite is
    null, `salt` names the owner's salt that keys the hash, `of` is there where `rows` of so many were measured, evenly
    spaced. Schemas 1 and 2 are read, too; measures whose meaning changed since get another
    name there (the zlib score was of the summed loss, now `zlib_sum`; `privleak` was today's `rel_diff`).
    """

    runs: list[ModelScores] = field(default_factory=list)
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ModelScores | Scorecard:
        """
        The first run of a role, or the card of a task alone: `card["unlearned"].measures["forget_loss"]["value"]`,
        `card["people"]["unlearned"]`. A name that is both is the role.

        Raises:
            KeyError: if there is neither; the message lists what there is.
        """
        for run in self.runs:
            if run.model == name:
                return run
        runs = [run for run in self.runs if run.task == name]
        if not runs:
            roles, tasks = (sorted({getattr(run, of) for run in self.runs}) for of in ("model", "task"))
            raise KeyError(f"no run of role or task {name!r}; there are the roles {roles} and the tasks {tasks}")
        return Scorecard(runs, {task: said for task, said in self.provenance.items() if task == name})

    def __repr__(self) -> str:
        """A line for each task, however many measures there are."""
        lines = [f"{type(self).__name__} of {len(self.runs)} run{'s' if len(self.runs) != 1 else ''}"]
        for task in dict.fromkeys(run.task for run in self.runs):
            runs = [run for run in self.runs if run.task == task]
            roles = ", ".join(dict.fromkeys(run.model for run in runs))
            seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
            count = len({name for run in runs for name in run.measures})
            lines.append(f"  {task}: {roles}; seed{'s' if ',' in seeds else ''} {seeds}; {count} measures")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the score table of each task, a section of it shown at a time."""
        from ..report.notebook import notebook_html

        return notebook_html(self.to_dict())

    def to_pandas(self) -> pandas.DataFrame:
        """One line per task, role, seed and measure, with `value`, `low`, `high` and `n`."""
        import pandas

        columns = ["task", "role", "seed", "measure", "value", "low", "high", "n"]
        lines = [
            (run.task, run.model, run.seed, name, *(found.get(key) for key in columns[4:]))
            for run in self.runs
            for name, found in run.measures.items()
        ]
        frame = pandas.DataFrame(lines, columns=columns)
        return frame.astype(dict.fromkeys(("value", "low", "high"), "float64") | {"n": "Int64"})

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
            differ = [s for s in ours if s in theirs and not same_data(ours[s], theirs[s])]
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
        return {"schema": scorecard_files.SCHEMA, "runs": runs, "provenance": json_safe(self.provenance)}

    def save(self, directory: str | Path, *, generations: bool = True) -> Path:
        """
        Write `scorecard.json`, `rows.parquet` and `generations.parquet` (all tables, with columns task, model, seed,
        split) and `history.json` into `directory`; all but the first only where there is something to write. Returns
        the path of `scorecard.json`.

        Args:
            generations: whether to write `generations.parquet`, which holds prompts and answers in clear, those of the
                forget rows among them; a warning says so. False: it is left out, and an earlier one is deleted; and the
                answers to probe questions and the values (people, ids) that were asked for by name stand in no file of
                this call. [`to_html`] names them.
        """
        raise_problems(true_or_false("generations", generations))
        return scorecard_files.write(self.to_dict(), self.runs, directory, generations)

    @classmethod
    def load(cls, directory: str | Path) -> Scorecard:
        """
        Read what [`save`] wrote (a folder, or the path of its `scorecard.json`).

        Raises:
            ValueError: if the schema is not one that this version reads.
        """
        return cls(*scorecard_files.read(directory))

    def to_html(self, path: str | Path, title: str | None = None, about: str | Mapping[str, str] | None = None) -> Path:
        """
        Write the report: one self-contained page, no network. `about` says in a sentence what was asked for (or a dict
        of task -> sentence). Curves need `history`, histograms need tables.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: give the path of a file, such as {path / 'report.html'}.")
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

        page = render_html(
            keyed_card(self.to_dict(), path.parent, draw=False),
            rows=rows,
            histories=scorecard_files.histories(self.runs),
            title=title,
            about=about,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, page.encode())
        return path

    def to_card(self, info: Mapping[str, Any] | None = None) -> str:
        """Body of a model card with this score table (Markdown, no YAML header); `info` as `render_card_section`."""
        from ..report.card_section import render_card_section

        return render_card_section(self.to_dict(), dict(info or {}))

    def to_model_card(
        self,
        folder: str | Path,
        role: str | None = None,
        *,
        task: str | None = None,
        seed: int | None = None,
        dataset: str | None = None,
    ) -> Path:
        """
        Write what was measured of a model into the card (README.md) of its folder: the verdict in five lines on top,
        the scores below, and the numbers into the header that the hub reads (`model-index`). Each stands between two
        marks and is written anew the next time; all else in the card stays. Returns the card's path.

        Args:
            role: of the model; None: the one that was unlearned, or the only one there is.
            task, seed: of which run, where the role has several; None: the first.
            dataset: name of the rows, on the hub or another; None: as in the provenance, or else the task's name.

        Raises:
            KeyError: if there is no such run.
            FileNotFoundError: if there is no such folder.
            ValueError: if the card that is there has no readable header.
        """
        from ..report import measured_card

        tag = task_of(folder)
        return measured_card.write(self.to_dict(), folder, role, task=task, seed=seed, dataset=dataset, tag=tag)

    def findings(self) -> list[str]:
        """What the numbers say, in plain language: one text per unlearned run, then one on what readiness bought."""
        from ..report.words.findings import lines

        return lines(self.to_dict())

    def failed_gates(self, gates: Iterable[str]) -> list[str]:
        """
        A line for each unlearned run and named gate ("verdict": all of them) that is not passed, and for each that
        could not be decided: a model that was not tested has not passed.

        Raises:
            ValueError: for a gate that does not exist, for one that no model of the kind could pass (for classifiers
                most measures are too weak), naming those that can be passed, and if there is no unlearned run.
        """
        gates = [gates] if isinstance(gates, str) else list(gates)
        known = gate_names()
        unknown = ", ".join(repr(gate) for gate in gates if gate not in known)
        if unknown:
            raise ValueError(f"there is no gate {unknown}: expected some of {', '.join(known)}.")
        judged = judge(self.to_dict())
        if not judged:
            raise ValueError(f"there is no unlearned run to hold against gates; roles of such are {', '.join(BEFORE)}.")
        if problems := self._gates_never_passed(gates):
            raise ValueError(" ".join(problems))
        from ..report.words.findings import failed_lines

        return failed_lines(judged, gates)

    def _gates_never_passed(self, gates: Iterable[str]) -> list[str]:
        """What is wrong with asking for these gates, task by task: no model of the kind could pass them."""
        problems = []
        for task in dict.fromkeys(run.task for run in self.runs):
            kind = kind_of({name for run in self.runs if run.task == task for name in run.measures})
            never = obstacles(kind) if kind else {}
            if asked := [gate for gate in gates if gate in never]:
                can = ", ".join(gate for gate in gate_names() if gate not in never)
                problems.append(
                    f"the models of task {task!r} are of kind {kind}: none can pass {', '.join(asked)}, a copy of the "
                    "retrained model neither, since nothing that is measured of them is strong enough. What can be "
                    f"passed: {can}."
                )
        return problems
