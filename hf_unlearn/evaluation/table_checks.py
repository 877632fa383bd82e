"""
What is wrong with tables or splits that are to stand side by side: of another model, of other rows, shared rows, other
classes. Each check returns sentences, so that a caller can raise all of them in one error ([`raise_all`]).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .roles import BEFORE
from .tables import described

if TYPE_CHECKING:
    import pyarrow

OWN_ROWS = ("forget", "retain", "unseen", "test")  # splits that may not share rows
FIRST_ROWS = 5  # how many rows an error message names


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
    same = [role for role, own in weights.items() if role in BEFORE and own and own == reference]
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
