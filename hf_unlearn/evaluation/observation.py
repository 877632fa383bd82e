"""What is seen of one model: its row tables, and what attacks on it bring back. One model is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .collection import collect
from .roles import BEFORE

if TYPE_CHECKING:
    import pyarrow

ATTACKS = ("generate", "quantise", "relearn", "weights")
BITS = (8, 4)
GENERATED = ("forget", "retain", "real_authors", "world_facts", "forget_rephrased")
RELEARNS = (*BEFORE, "retrained", "retrained_again")


@dataclass
class Observed:
    """Tables by split, generations by split, relearning curves and weight distances."""

    tables: dict[str, pyarrow.Table]
    generations: dict[str, pyarrow.Table] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def observe(
    role: str,
    models: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    hashes: Mapping[str, Sequence[str]],
    attacks: Sequence[str],
    relearning: Mapping[str, Any],
    generate_rows: int,
    *,
    data_collator: Callable | None,
    processing_class: Any,
    batch_size: int,
    progress: bool,
) -> Observed:
    """
    Measures the model of one role of [`evaluate`], whose arguments these are.

    Raises:
        ValueError: what [`collect`] raises, with the split and the role.
    """
    from .attacks.quantise import quantised
    from .weights import weight_distance, weights_hash

    model = loaded(models[role])
    collator = data_collator
    if collator is None:
        from ..data.collate import default_collator

        collator = default_collator(model, processing_class)
    how = {"processing_class": processing_class, "batch_size": batch_size, "progress": progress}

    def table_of(split: str, rows, model_hash: str) -> pyarrow.Table:
        try:
            return collect(model, rows, collator, model_hash=model_hash, hashes=hashes[split], **how)
        except ValueError as error:
            raise ValueError(f'split `{split}`, model "{role}": {error}') from error

    own = weights_hash(model)
    seen = Observed({split: table_of(split, rows, own) for split, rows in splits.items()})
    causal_lm = any("token_nll" in table.column_names for table in seen.tables.values())
    if "quantise" in attacks and "forget" in splits:
        for bits in BITS:
            with quantised(model, bits):
                seen.tables[f"forget_int{bits}"] = table_of("forget", splits["forget"], f"{own} int{bits}")
    if "generate" in attacks and causal_lm:
        from .attacks.generate import generate

        for split in GENERATED:
            if split in splits:
                rows = evenly(splits[split], generate_rows)
                seen.generations[split] = generate(
                    model, rows, processing_class, batch_size=batch_size, progress=progress
                )
    if "weights" in attacks:
        before = next((name for name in BEFORE.get(role, ()) if name in models), None)
        others = {"to_original": before, "to_retrained": "retrained" if role != "retrained" else None}
        for name, other in others.items():
            if other in models and not isinstance(models[other], Mapping):
                try:
                    seen.details.setdefault("weights", {})[name] = weight_distance(model, loaded(models[other]))
                except FloatingPointError as error:  # a run that diverged: the rest can still be measured
                    seen.details.setdefault("not_measured", {})[f"weights_{name}"] = str(error)
    if "relearn" in attacks and role in RELEARNS and len(splits.get("forget", ())) > 1:
        from .attacks.relearn import MOST_REAL, recovery_curves

        k = relearning.get("k") or min(MOST_REAL, max(1, len(splits["forget"]) // 4))
        at_hand = {"retain": "retain" in splits, "similar": {"similar", "unseen"} & set(splits), "real": True}
        kinds = [kind for kind, there in at_hand.items() if there]
        how = {**relearning, "k": k, "kinds": kinds, "progress": progress}
        try:
            curves = recovery_curves({role: model}, splits, collator, **how)
            seen.details |= {"recovery": curves[role], "relearning": {"k": k}}
        except FloatingPointError as error:
            seen.details.setdefault("not_measured", {})["recovery"] = str(error)
    return seen


def loaded(subject: Any):
    """The model itself, or what its loader returns."""
    return subject if hasattr(subject, "parameters") else subject()


def evenly(rows: Sequence, most: int) -> Sequence:
    """At most so many rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    places = [i * (len(rows) - 1) // max(1, most - 1) for i in range(most)]
    return rows.select(places) if hasattr(rows, "select") else [rows[i] for i in places]
