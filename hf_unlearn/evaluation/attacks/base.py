"""What an attack is: a run on one model, what it adds to the score card, and the verdict gate that rests on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    import torch

    from ..gates import Gate, Sides


@dataclass
class Seen:
    """What was seen of one model: row tables by split, generations by split, and details (curves, distances)."""

    tables: dict[str, pyarrow.Table]
    generations: dict[str, pyarrow.Table] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Subject:
    """
    The model that is attacked, and what the attack may use.

    Args:
        role: of the model.
        model: itself. An attack leaves it as it was, bit for bit, and draws from no global random generator.
        models: all models by role: a model, a function that loads it, or saved tables.
        splits: rows by split.
        seen: what was seen so far; an attack adds to it.
        measured: function of (split, note) that measures the model's rows again as it is now; see [`table_of`].
    """

    role: str
    model: torch.nn.Module
    models: Mapping[str, Any]
    splits: Mapping[str, Sequence[Mapping[str, Any]]]
    seen: Seen
    measured: Callable[[str, str], pyarrow.Table]
    collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]]
    processing_class: Any = None
    batch_size: int = 32
    progress: bool = False

    def table_of(self, split: str, note: str) -> pyarrow.Table:
        """The row table of a split under the model as it is now; `note` says in the table what was done to it."""
        return self.measured(split, note)

    def has_tables_only(self, role: str) -> bool:
        """Whether the model of a role is given as saved tables, so that its weights are not at hand."""
        return isinstance(self.models[role], Mapping)

    def load(self, role: str) -> torch.nn.Module:
        """The model of another role."""
        return loaded(self.models[role])

    def not_measured(self, name: str, error: Exception) -> None:
        """Records why something could not be measured (a run that diverged): the rest of the card still can."""
        self.seen.details.setdefault("not_measured", {})[name] = str(error)


def loaded(subject: Any) -> torch.nn.Module:
    """The model itself, or what its loader returns."""
    return subject if hasattr(subject, "parameters") else subject()


@dataclass(frozen=True)
class Attack:
    """
    One attack, as [`evaluate`] and the command line know it by its name.

    Args:
        name: in `evaluate(attacks=...)` and `--attacks`.
        help: what is done to the model, in a few words.
        run: function of a [`Subject`] and the attack's options; it adds tables, generations or details to
            `subject.seen`. New tables are measured like those of other splits.
        measures: function of (what was seen of the model, of the retrained one or None) that returns what more goes
            into the score card, name -> `{"value", "low", "high", "n"}`. Called for every model, attacked or not.
            Names have a line in the catalogue (`catalogue.add`), or stand under "Other" in the report.
        gate, judge: name of the verdict gate that rests on what it finds, and function of the measures of the model and
            of those that it is held against that returns the [`~hf_unlearn.evaluation.gates.Gate`]; None: no gate.
        turn: attacks run in this order, the cheapest first, those that train last.
    """

    name: str
    help: str
    run: Callable[..., None]
    measures: Callable[[Seen, Seen | None], Mapping[str, dict[str, Any]]] | None = None
    gate: str | None = None
    judge: Callable[[Sides], Gate] | None = None
    turn: int = 5
