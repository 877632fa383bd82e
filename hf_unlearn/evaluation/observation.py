"""What is seen of one model: its row tables, and what the attacks bring back. One model is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .attacks.base import Seen, Subject, loaded
from .attacks.registry import attacks as registered
from .benchmarking import Asked, run
from .benchmarks.base import Examined
from .collection import collect
from .model_checks import model_problems
from .split_checks import RowChecks
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
    benchmarks: Mapping[str, Asked],
    *,
    checks: RowChecks,
    data_collator: Callable | None,
    processing_class: Any,
    batch_size: int,
    progress: bool | Callable[[str, str, float], None],
) -> Seen:
    """
    Measures the model of one role of [`evaluate`], whose arguments these are, runs benchmarks on it, and attacks it.

    Args:
        hashes: split -> content hashes of its rows.
        attacks: names of the attacks to run.
        options: attack -> its options (an instance of its `Attack.options`), or None where it has none.
        benchmarks: those to run, by name.
        checks: of the rows, for what is known only once a model is loaded.

    Raises:
        ValueError: what [`collect`] and the benchmarks raise, with the split or the benchmark, and the role.
    """
    model = loaded(models[role])
    if problems := model_problems(model):
        raise ValueError(f'what was loaded for "{role}" {" It ".join(problems)}')
    if model is not models[role]:  # what it takes is known only now
        raise_all(checks.problems([model]))
    collator = data_collator
    if collator is None:
        from ..data.collate import default_collator

        collator = default_collator(model, processing_class)
    tell = _Stages(progress, role, [*splits, *benchmarks, *(a.name for a in registered() if a.name in attacks)])
    progress = tell if callable(progress) else progress
    how = {"processing_class": processing_class, "batch_size": batch_size, "progress": progress}
    own = weights_hash(model)

    def measured(split: str, note: str = "") -> pyarrow.Table:
        name = f"{own} {note}".rstrip()
        try:
            return collect(model, splits[split], collator, model_hash=name, hashes=hashes[split], **how)
        except ValueError as error:
            raise ValueError(f'split `{split}`, model "{role}": {error}') from error

    seen = Seen({split: measured(split) for split in splits if tell.begins(split)})
    for name, asked in benchmarks.items():
        if tell.begins(name):
            run(asked, role, seen, Examined(model, processing_class, batch_size, progress, own))
    subject = Subject(role, model, models, splits, seen, measured, collator, processing_class, batch_size, progress)
    for attack in registered():
        if attack.name in attacks and tell.begins(attack.name):
            given = [options[attack.name]] if attack.options else []
            attack.run(subject, *given)
    tell.end()
    return seen


class _Stages:
    """Tells a function (role, stage, share of the model's stages that is done) of the passes of each stage."""

    def __init__(self, tell: Any, role: str, stages: Sequence[str]):
        self.tell, self.role, self.stages, self.done = tell, role, stages, -1

    def begins(self, stage: str) -> bool:
        """Always True."""
        self.done += 1
        self(stage, 0, 1)
        return True

    def end(self) -> None:
        self.done = len(self.stages)
        if callable(self.tell):
            self.tell(self.role, "", 1.0)

    def __call__(self, description: str, done: int, total: int) -> None:
        if callable(self.tell):
            stage = self.stages[self.done]
            self.tell(self.role, stage, (self.done + done / total) / len(self.stages))
