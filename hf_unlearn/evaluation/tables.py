"""The table of per-row statistics that every measure starts from: its columns, what it belongs to, how it is kept.

A table knows which weights it was made with, and which rows, by content hashes; so a table that was saved years ago is
refused where it does not belong (schema 2; tables of schema 1 know nothing of this and are taken as they are).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 2
METADATA = b"hf_unlearn"
COLUMNS = {"row": "int64", "nll_sum": "float64", "n_labels": "int64", "n_correct": "int64", "entropy_sum": "float64"}
OPTIONAL = {
    "row_hash": "string",
    "n_suffix": "int64",
    "token_nll": "list<float>",
    "token_z": "list<float>",
    "zlib_bytes": "int64",
    "margin": "float64",
    "group": "int64",
}
ROW_COLUMNS = (*COLUMNS, *OPTIONAL)
UNLEARNED = ("unlearned", "ready_unlearned")
OWN_ROWS = ("forget", "retain", "unseen", "test")  # splits that may not share rows
FIRST_ROWS = 5  # how many rows an error message names


def columns_of(table: pyarrow.Table, split: str) -> dict[str, np.ndarray]:
    """
    The numeric columns of a table as arrays (N,), the optional ones where they are.

    Raises:
        ValueError: if a required column is missing, or there are no rows.
    """
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", ())]
    if missing:
        raise ValueError(f"the table of split `{split}` lacks {missing}: expected the columns {list(COLUMNS)}.")
    if table.num_rows == 0:
        raise ValueError(f"the table of split `{split}` has no rows.")
    numeric = [n for n in (*COLUMNS, "n_suffix", "zlib_bytes", "margin", "group") if n in table.column_names]
    return {name: table.column(name).to_numpy() for name in numeric if table.column(name).null_count == 0}


def row_hashes(dataset: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Content hash (32 hex characters) of each row's inputs and labels, the same for lists, arrays and tensors; of all
    columns but `id` where none has an input's usual name.
    """
    from ..data.columns import INPUT_COLUMNS
    from ..data.duplicates import fingerprints

    names = getattr(dataset, "column_names", None) or list(dataset[0])
    inputs = [name for name in INPUT_COLUMNS if name in names]
    if not set(inputs) - {"labels"}:  # inputs by other names
        inputs = [name for name in names if name != "id"]
    return [found.hex() for found in fingerprints(dataset, inputs)]


def data_hash(hashes: Sequence[str]) -> str:
    """Content hash (32 hex characters) of rows in their order, from their hashes."""
    return hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()


def described(table: pyarrow.Table) -> dict[str, Any]:
    """What a table says of itself: `schema`, `kind`, `model`, `data`, `labels`; empty for a table of schema 1."""
    found = (table.schema.metadata or {}).get(METADATA)
    return json.loads(found) if found else {}


def with_description(table: pyarrow.Table, description: Mapping[str, Any]) -> pyarrow.Table:
    """The table with what it says of itself."""
    return table.replace_schema_metadata({METADATA: json.dumps(dict(description), ensure_ascii=False)})


def is_causal_lm(tables: Mapping[str, pyarrow.Table]) -> bool:
    """Whether the rows are those of a language model: by the tables' own word, else if some row has several labels."""
    kinds = {described(table).get("kind") for table in tables.values()} - {None}
    if kinds:
        return kinds == {"causal_lm"}
    return any((columns_of(table, split)["n_labels"] != 1).any() for split, table in tables.items())


def save_tables(tables: Mapping[str, pyarrow.Table], directory: str | Path) -> Path:
    """Write each table to `directory`/SPLIT.parquet, with what it says of itself; returns the directory."""
    import pyarrow.parquet as pq

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for split, table in tables.items():
        beside = directory / f"{split}.parquet.part"
        pq.write_table(table, beside)
        beside.replace(directory / f"{split}.parquet")
    return directory


def load_tables(
    directory: str | Path, *, model: str | None = None, splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> dict[str, pyarrow.Table]:
    """
    The tables that [`save_tables`] wrote.

    Args:
        model: weights hash ([`~hf_unlearn.evaluation.weights_hash`]) of the model they must be of; None: any.
        splits: the rows they must be of; None: any.

    Raises:
        FileNotFoundError: if there is no table.
        ValueError: if a table is of another model, or of other rows.
    """
    import pyarrow.parquet as pq

    directory = Path(directory)
    found = {path.stem: pq.read_table(path) for path in sorted(directory.glob("*.parquet"))}
    if not found:
        raise FileNotFoundError(f"there is no saved table in {str(directory)!r}: expected SPLIT.parquet.")
    problems = model_problems(str(directory), found, model) if model else []
    if splits is not None:
        problems += data_problems(str(directory), found, {name: row_hashes(rows) for name, rows in splits.items()})
    raise_all(problems)
    return found


def model_problems(name: str, tables: Mapping[str, pyarrow.Table], model: str) -> list[str]:
    """What is wrong where `tables` must be of the model with this weights hash."""
    said = {split: described(table).get("model") for split, table in tables.items()}
    others = [split for split, own in said.items() if own and own.split()[0] != model]  # "HASH int8": its own, rounded
    if not others:
        return []
    listed = ", ".join(f"`{split}`" for split in others)
    was = said[others[0]]
    return [
        f'the tables of "{name}" for {listed} are of another model: weights {was[:12]}…, the model has {model[:12]}…. '
        "Measure the model again, or give the tables of its own weights."
    ]


def data_problems(name: str, tables: Mapping[str, pyarrow.Table], hashes: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong where `tables` must be of the rows with these hashes (split -> row hashes)."""
    problems = []
    for split, wanted in hashes.items():
        table = tables.get(split)
        if table is None:
            continue
        start = f'the table of "{name}" for split `{split}`'
        if getattr(table, "num_rows", None) != len(wanted):
            rows = getattr(table, "num_rows", "no")
            problems.append(
                f"{start} has {rows} rows, the split has {len(wanted)}: it was not made from these rows. Measure them "
                "again, or give the rows it was made from."
            )
        elif "row_hash" in table.column_names:
            other = [i for i, (a, b) in enumerate(zip(table["row_hash"].to_pylist(), wanted, strict=True)) if a != b]
            if other:
                problems.append(
                    f"{start} is of other data: {len(other)} of {len(wanted)} rows differ in content "
                    f"({shown(other)}). Other rows, another order, or another tokenisation; measure them again."
                )
    return problems


def weights_problems(tables: Mapping[str, Mapping[str, pyarrow.Table]]) -> list[str]:
    """Whether a model is compared with itself: role -> tables, by the weights that they say."""
    weights = {}
    for role, own in tables.items():
        said = (described(table).get("model") for table in own.values())
        weights[role] = next((found for found in said if found), None)
    reference = weights.get("retrained")
    same = [role for role, own in weights.items() if role in UNLEARNED and own and own == reference]
    problems = [
        f'"{role}" and "retrained" have the same weights: a model cannot be told from itself. Give the model that was '
        "retrained, not the one under test."
        for role in same
    ]
    if reference and weights.get("retrained_again") == reference:
        problems.append('"retrained" and "retrained_again" have the same weights: that is no noise floor.')
    return problems


def overlap_problems(hashes: Mapping[str, Sequence[str]]) -> list[str]:
    """Rows that two of the splits forget, retain, unseen and test have in common, by content."""
    problems = []
    splits = [split for split in OWN_ROWS if split in hashes]
    for i, first in enumerate(splits):
        at: dict[str, int] = {}
        for row, key in enumerate(hashes[first]):
            at.setdefault(key, row)
        for second in splits[i + 1 :]:
            pairs = [(at[key], row) for row, key in enumerate(hashes[second]) if key in at]
            if pairs:
                a, b = pairs[0]
                problems.append(
                    f"splits `{first}` and `{second}` share {len(pairs)} row(s) (row {a} of `{first}` is row {b} of "
                    f"`{second}`): nothing can be told of either. Drop them from one; `find_duplicates` lists them."
                )
    return problems


def label_problems(descriptions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Whether the classifiers among the models (name -> what its tables say) have the same classes, in one order."""
    labels = {name: said["labels"] for name, said in descriptions.items() if said.get("labels")}
    kinds = {name: said["kind"] for name, said in descriptions.items() if said.get("kind")}
    problems = []
    if len(set(kinds.values())) > 1:
        problems.append(f"the models are of different kinds: {kinds}. Compare models of one kind.")
    if len({len(names) for names in labels.values()}) > 1:
        counted = ", ".join(f'"{name}" {len(names)}' for name, names in labels.items())
        problems.append(f"label spaces differ: {counted} classes. Models must answer the same question.")
        return problems
    named = {k: v for k, v in labels.items() if any(not str(n).startswith("LABEL_") for n in v)}
    for name, names in list(named.items())[1:]:
        first = next(iter(named))
        other = [i for i, (a, b) in enumerate(zip(named[first], names, strict=True)) if a != b]
        if other:
            i = other[0]
            problems.append(
                f'label spaces differ: class {i} is {named[first][i]!r} for "{first}" and {names[i]!r} for "{name}". '
                "The same number must mean the same class in all models (`id2label` of their configs)."
            )
    return problems


def shown(rows: Sequence[int]) -> str:
    """For messages: rows 3, 4, 7 and 12 more."""
    listed = ", ".join(map(str, rows[:FIRST_ROWS]))
    return f"row{'s' if len(rows) > 1 else ''} {listed}" + (
        f" and {len(rows) - FIRST_ROWS} more" if len(rows) > FIRST_ROWS else ""
    )


def raise_all(problems: Sequence[str]) -> None:
    """
    Raises:
        ValueError: with all problems, if there are any.
    """
    if problems:
        raise ValueError("\n".join(problems) if len(problems) == 1 else "- " + "\n- ".join(problems))
