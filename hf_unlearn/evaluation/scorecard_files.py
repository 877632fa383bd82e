"""The files of a score card: `scorecard.json`, `rows.parquet`, `generations.parquet`, `history.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.who_asked import names, without_names
from ..utils.files import json_bytes, read_json, replace_files, short
from .model_scores import ModelScores, json_safe
from .parquet import parquet_bytes, read_parquet
from .row_keys import keyed, keyed_card, know_salts_of
from .table_checks import raise_all, value_problems
from .tables import ROW_COLUMNS, described, with_description

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

SCHEMA = 3
READS = (1, 2, 3)  # schemas that `read` reads
RENAMED_BEFORE = 3  # names below this schema meant something else; in the order of replacement
RENAMED = (("_privleak", "_rel_diff"), ("forget_mia_zlib_", "forget_mia_zlib_sum_"))  # of the sum, not the mean
HISTORY = "history.json"
KEPT_TABLES = {"rows.parquet": "tables", "generations.parquet": "generations"}  # file -> attribute of a run


def write(card: dict[str, Any], runs: Iterable[ModelScores], directory: str | Path, generations: bool = True) -> Path:
    """
    Writes all files, all but the first only where there is something to write; returns the path of the first. Files of
    an earlier card that has been there go, lest they are taken for the new one's.

    Args:
        generations: False: no file of answers in clear, and an earlier one in the folder goes; nor does the card name
            who asked.
    """
    directory = Path(directory)
    card = _with_names_told(card, directory) if generations else _without_names(card)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "scorecard.json"
    contents: dict[Path, bytes | None] = {}
    if path.exists():
        contents = dict.fromkeys(directory / name for name in (*KEPT_TABLES, HISTORY))
    for name, kind in KEPT_TABLES.items():
        if kind == "generations" and not generations:
            contents[directory / name] = None
            continue
        rows = stacked(runs, kind, directory)
        if rows is not None:
            contents[directory / name] = parquet_bytes(rows)
            if kind == "generations":
                _tell_of_texts(directory / name, rows)
    found = histories(runs)
    if found:
        contents[directory / HISTORY] = json_bytes({"schema": SCHEMA, "histories": found})
    # The last one: a killed run leaves no new card beside old tables.
    contents[path] = json_bytes(keyed_card(card, directory))
    replace_files(contents)
    return path


def _with_names_told(card: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The card; the log says where it names people or rows that were asked for."""
    for made in card["provenance"].values():
        request = (made or {}).get("request") or {}
        if named := names(request):
            logger.warning(
                "%s names %d value(s) of `%s` in clear, as does the report: they were asked for by name. To leave them "
                "out: --no_generations, or `save(…, generations=False)`, which changes the score card alone.",
                directory / "scorecard.json",
                len(named),
                request.get("column"),
            )
    return card


def _without_names(card: dict[str, Any]) -> dict[str, Any]:
    provenance = {
        task: {**made, "request": without_names(made["request"])} if (made or {}).get("request") else made
        for task, made in card["provenance"].items()
    }
    runs = [{**run, "details": without_answers(run.get("details") or {})} for run in card["runs"]]
    return {**card, "runs": runs, "provenance": provenance}


def without_answers(details: Mapping[str, Any]) -> dict[str, Any]:
    """A run's details; of probe questions whether each was answered right, and not by what words."""
    asked = {"probes": [{**one, "answer": None} for one in details["probes"]]} if details.get("probes") else {}
    return {**details, **asked}


def _tell_of_texts(path: Path, rows: pyarrow.Table) -> None:
    forget = sum("forget" in split.split("_") for split in rows["split"].to_pylist())
    logger.warning(
        "%s holds %d prompts and answers in clear, %d of them of the forget rows. To leave it out: "
        "--no_generations, or `save(…, generations=False)`; the measures stay.",
        path,
        rows.num_rows,
        forget,
    )


def read(directory: str | Path) -> tuple[list[ModelScores], dict[str, dict[str, Any]]]:
    """
    The runs, with their tables and histories, and the provenance.

    Raises:
        FileNotFoundError: if there is no score card.
        ValueError: if a file is damaged, if the schema is not one that this version reads, or if a table holds values
            that no model gives.
    """
    directory = Path(directory)
    path = directory if directory.suffix == ".json" else directory / "scorecard.json"
    directory = path.parent
    card = read_json(path)
    if card is None:
        raise FileNotFoundError(f"there is no score card {str(path)!r}: expected what `Scorecard.save` writes.")
    if not isinstance(card, dict):
        raise ValueError(f"{path} is no score card: it should hold a JSON object and holds {short(repr(card))}.")
    if card.get("schema") not in READS:
        reads = " and ".join(map(str, READS))
        raise ValueError(f"{path} has schema {short(repr(card.get('schema')))}: this version reads schema {reads}.")
    try:
        runs = [ModelScores(**run) for run in card["runs"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no score card: `runs` are not what `Scorecard.save` writes ({error}).") from error
    if card["schema"] < RENAMED_BEFORE:
        for run in runs:
            run.measures = {_name_of_now(name): measured for name, measured in run.measures.items()}
    know_salts_of(directory)
    by_key = {run.key: run for run in runs}
    for name, kind in KEPT_TABLES.items():
        if (directory / name).exists():
            for key, tables in _unstacked(read_parquet(directory / name)).items():
                if key in by_key:
                    setattr(by_key[key], kind, tables)
    kept = [(run.model, of) for run in runs for of in (run.tables, run.generations)]
    raise_all([problem for model, of in kept for problem in value_problems(model, of)])
    for entry in (read_json(directory / HISTORY) or {}).get("histories", ()):
        key = (entry["task"], entry["model"], entry["seed"])
        if key in by_key:
            by_key[key].history = entry["log_history"]
    return runs, card.get("provenance") or {}


def _name_of_now(name: str) -> str:
    """What an older card calls `name` has this name today, so that two meanings never share one."""
    for before, now in RENAMED:
        name = name.replace(before, now)
    return name


def histories(runs: Iterable[ModelScores]) -> list[dict[str, Any]]:
    """Logs of the runs that have one: `task`, `model`, `seed`, `log_history`."""
    return [
        json_safe({"task": run.task, "model": run.model, "seed": run.seed, "log_history": run.history})
        for run in runs
        if run.history
    ]


def stacked(runs: Iterable[ModelScores], kind: str, directory: Path) -> pyarrow.Table | None:
    """All tables of a kind ("tables", "generations") of all runs, one below the other, with columns that say whose."""
    import pyarrow as pa

    stacked, said = [], []
    for run in runs:
        identity = {"task": run.task, "model": run.model, "seed": run.seed}
        for split, table in getattr(run, kind).items():
            table = keyed(table, directory)
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
