"""What an attack is: a run on one model, what it adds to the score card, and the judgement that rests on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..forward import unsplit

if TYPE_CHECKING:
    import pyarrow
    import torch

    from ..gates import GateRule, Sides


@dataclass
class Seen:
    """
    What was seen of one model: row tables by split, generations by split, details (curves, distances), and results of
    benchmarks by name.
    """

    tables: dict[str, pyarrow.Table]
    generations: dict[str, pyarrow.Table] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    benchmarks: dict[str, Any] = field(default_factory=dict)


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
    return unsplit(subject if hasattr(subject, "parameters") else subject())


@dataclass(frozen=True)
class Attempt:
    """What one attack on a model came to: `possible` (more than by the yardstick) and the numbers that say so."""

    attack: str
    possible: bool
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class AttemptRule:
    """
    How it is judged whether an attacker gets anything out of a model in one way; [`Attempt`] is the outcome.

    Args:
        name: of the attempts.
        label: a noun: "Not tried: relearning".
        judge: function of (the run as in a score card, its [`~hf_unlearn.evaluation.gates.Sides`]); None: not measured.
        clause: "An attacker could still …", where it is possible. Clauses and sentences that need numbers stand in
            `report/words/first_screen.py`; without one there the numbers are shown as they are.
        applies: function of the model's measures: whether the attack makes sense for such a model at all.
        against: clause that contradicts "forgotten: yes", where it is possible; empty: it does not contradict it, or a
            gate does.
        leaves: how the names of its measures begin: where there is one, it was tried, even if it gave no number. Empty:
            it was tried where it can be judged.
    """

    name: str
    label: str
    judge: Callable[[Mapping[str, Any], Sides], Attempt | None]
    clause: str = ""
    applies: Callable[[Mapping[str, Any]], bool] = lambda measures: True
    against: str = ""
    leaves: str = ""

    def tried_on(self, measures: Mapping[str, Any]) -> bool:
        """Whether a measure tells that it was tried, judged or not."""
        return bool(self.leaves) and any(name.startswith(self.leaves) for name in measures)


@dataclass(frozen=True)
class Attack:
    """
    One attack, as [`evaluate`] and the command line know it by its name.

    Args:
        name: in `evaluate(attacks=...)` and `--attacks`.
        help: what is done to the model, in a few words.
        run: function of a [`Subject`] and, if the attack has any, its `options`; it adds tables, generations or
            details to `subject.seen`. New tables are measured like those of other splits.
        measures: function of (what was seen of the model, of the retrained one or None) that returns what more goes
            into the score card, name -> `{"value", "low", "high", "n"}`. Called for every model, attacked or not.
            Names have a line in the catalogue (`catalogue.add`), or stand under "Other" in the report.
        gate: the verdict gate that rests on what it finds; None: no gate.
        attempt: how the report's first screen judges what the attack found; None: it does not tell of it.
        options: dataclass of its options, each with `help` in its metadata: arguments of
            `evaluate(attack_options={name: {…}})`. Those with a key `flag` in their metadata, the default there, are
            flags `--NAME_OPTION` of `hf-unlearn evaluate`. None: there are none.
        turn: attacks run in this order, the cheapest first, those that train last.
    """

    name: str
    help: str
    run: Callable[..., None]
    measures: Callable[[Seen, Seen | None], Mapping[str, dict[str, Any]]] | None = None
    gate: GateRule | None = None
    attempt: AttemptRule | None = None
    options: type | None = None
    turn: int = 5

    def options_of(self, given: Mapping[str, Any]) -> Any:
        """
        The attack's `options` with these values over the defaults; None where it has none.

        Raises:
            ValueError: for an unknown option, naming those that there are, and for values that `options` refuses.
        """
        known = [one.name for one in fields(self.options)] if self.options else []
        if unknown := sorted(set(given) - set(known)):
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"attack {self.name!r} has no option {', '.join(map(repr, unknown))}: {has}.")
        try:
            return self.options(**given) if self.options else None
        except ValueError as error:
            raise ValueError(f"options of the attack {self.name!r}: {error}") from error
