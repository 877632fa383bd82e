"""What is wrong with the splits of an evaluation, by the checks that the trainers make of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def splits_taken(splits: Any) -> tuple[dict[str, Any], list[str]]:
    """Splits by name as data sets, None left out; and what is wrong with what stands for one."""
    from ..data.given import as_rows

    if splits is not None and not isinstance(splits, Mapping):
        kind = type(splits).__name__
        return {}, [f"`splits` is {kind}: give a dict, such as {{'forget': rows, 'retain': rows, 'unseen': rows}}."]
    taken, problems = {}, []
    for name, value in (splits or {}).items():
        if value is not None:
            rows, wrong = as_rows(value, f"splits[{name!r}]")
            problems += wrong
            taken |= {} if wrong else {name: rows}
    return taken, problems


class RowChecks:
    """
    The checks of the rows of an evaluation. A split is read once for all models that ask the same of it (`Limits`),
    also where they come one after the other.

    Args:
        plain: the default collator makes the batches.
        processing_class: what that collator pads rows with.
    """

    def __init__(self, splits: Mapping[str, Any], plain: bool, processing_class: Any = None):
        self.splits = {name: rows for name, rows in splits.items() if len(rows)}
        self.plain, self.processing_class = plain, processing_class
        self.found: dict[tuple[str, Any], list[str]] = {}  # (split, limits) -> what is wrong

    def problems(self, models: Sequence[Any]) -> list[str]:
        """What is wrong with the rows for those of the models that are at hand; each problem is told once."""
        from ..data.limits import Limits, limits_of

        found = [limits_of(model) for model in models if hasattr(model, "forward")] or [Limits()]
        limits = list(dict.fromkeys(own.with_padding_of(self.processing_class) for own in found))
        problems = [problem for own in limits for problem in own.problems]
        for name in self.splits:
            self._check(name, limits)
            problems += [problem for own in limits for problem in self.found[name, own]]
        return list(dict.fromkeys(problems))

    def _check(self, name: str, limits: Sequence[Any]) -> None:
        from ..data.read_once import read_once
        from ..data.row_checks import row_problems

        new = [own for own in limits if (name, own) not in self.found]
        warn = not any(split == name for split, _ in self.found)  # of what no model's limits change
        rows = read_once(self.splits[name]) if new else None
        for i, own in enumerate(new):
            self.found[name, own] = row_problems(name, rows, own, self.plain, warn=warn and i == 0)


def twin_problems(
    splits: Mapping[str, Any], hashes: Mapping[str, Sequence[str]], processing_class: Any, told: Callable
) -> list[str]:
    """
    Rows of two of the splits forget, retain and unseen that say the same but for case, punctuation, padding or label.

    Args:
        hashes: split -> content hashes of its rows; those that are equal are told elsewhere.
        told: places of rows -> words.
    """
    from ..data.checks import PAIRS
    from ..data.duplicates import contents, twins

    names = [name for name in ("forget", "retain", "unseen") if name in splits]
    said = dict(zip(names, contents([splits[name] for name in names], processing_class), strict=True)) if names else {}
    problems = []
    for first, second, _ in PAIRS:
        if first not in said or second not in said:
            continue
        known = set(hashes[first])
        pairs = [(i, j) for i, j in twins(said[first], said[second]) if hashes[second][j] not in known]
        if pairs:
            problems.append(
                f"{len(pairs)} row(s) of split `{second}` say the same as a row of `{first}` ({told([pairs[0][0]])} of "
                f"`{first}`, {told([pairs[0][1]])} of `{second}`), but for case, punctuation, padding or label: drop "
                "them from one; `find_duplicates` lists them."
            )
    return problems
