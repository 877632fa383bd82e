"""What is seen of one model: its row tables, and what the attacks bring back. One model is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .attacks.base import Seen, Subject, loaded
from .attacks.registry import attacks as registered
from .collection import collect
from .model_checks import model_problems
from .split_checks import rows_problems
from .table_checks import raise_all
from .weights import weights_hash

if TYPE_CHECKING:
    import pyarrow


def observe(
    role: str,
    models: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    hashes: Mapping[str, Sequence[str]],
    attacks: Sequence[str],
    options: Mapping[str, Any],
    *,
    data_collator: Callable | None,
    processing_class: Any,
    batch_size: int,
    progress: bool,
) -> Seen:
    """
    Measures the model of one role of [`evaluate`], whose arguments these are, and attacks it.

    Args:
        hashes: split -> content hashes of its rows.
        attacks: names of the attacks to run.
        options: attack -> its options (an instance of its `Attack.options`), or None where it has none.

    Raises:
        ValueError: what [`collect`] raises, with the split and the role.
    """
    model = loaded(models[role])
    if problems := model_problems(model):
        raise ValueError(f'what was loaded for "{role}" {" It ".join(problems)}')
    if model is not models[role]:  # what it takes is known only now
        raise_all(rows_problems(splits, [model], data_collator is None))
    collator = data_collator
    if collator is None:
        from ..data.collate import default_collator

        collator = default_collator(model, processing_class)
    how = {"processing_class": processing_class, "batch_size": batch_size, "progress": progress}
    own = weights_hash(model)

    def measured(split: str, note: str = "") -> pyarrow.Table:
        name = f"{own} {note}".rstrip()
        try:
            return collect(model, splits[split], collator, model_hash=name, hashes=hashes[split], **how)
        except ValueError as error:
            raise ValueError(f'split `{split}`, model "{role}": {error}') from error

    seen = Seen({split: measured(split) for split in splits})
    subject = Subject(role, model, models, splits, seen, measured, collator, processing_class, batch_size, progress)
    for attack in registered():
        if attack.name in attacks:
            given = [options[attack.name]] if attack.options else []
            attack.run(subject, *given)
    return seen
