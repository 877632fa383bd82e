"""What requests would cost, by the tail and the slices of a training that has not begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..config import ReadyConfig
from ..memory.table import bytes_as_text
from ..readiness import replay
from ..report.words.numbers import number
from ..utils.aligned import aligned
from ..utils.checks import Wrong, raise_problems, shown
from ..utils.checks import number as number_problems
from .making_plans import bare_order, own_slices, own_tail
from .models import is_causal_lm
from .snapshot_size import snapshot_bytes

TIMES = (1.5, 2.0, 3.0, 4.0)  # tails, in shares of revocable rows
SLICES = (1, 4, 10, 20)


@dataclass(frozen=True)
class TrainingChoice(replay.Choice):
    """
    A [`hf_unlearn.readiness.replay.Choice`] with what it takes of the disk.

    Args:
        times: the tail, in shares of the revocable rows.
        disk: bytes of all snapshots; None where no model was given.
        chosen: whether it is what the config itself would lead to.
    """

    times: float
    disk: int | None
    chosen: bool


class TrainingChoices(tuple):
    """
    The choices that there are, tail by tail; prints itself as a table.

    Attributes:
        retraining: what a year's requests cost, in retrainings, where each is served by one.
    """

    retraining: float

    def __str__(self) -> str:
        head = ("tail", "× share", "slices", "revocable in a step", "one request", "dearest", "a year", "disk", "")
        rows = [
            (
                f"{c.tail:.2f}", f"{c.times:.3g}", str(c.slices), f"{c.revocable:.2f}", f"{c.request:.3f}",
                f"{c.worst:.3f}", f"{c.yearly:.3f}", "–" if c.disk is None else bytes_as_text(c.disk),
                " ".join(["← this config"] * c.chosen + ["too crowded"] * c.is_crowded),
            )
            for c in self
        ]  # fmt: skip
        return "\n".join([aligned([head, *rows], left=(8,)), "", *self.notes()])

    def notes(self) -> list[str]:
        """What the columns mean, in sentences."""
        expected = number(self.retraining)
        refused = f"; above {replay.CROWDED:g} the training is refused" if any(c.is_crowded for c in self) else ""
        return [
            "Requests are in retrainings, each replayed by itself; the mean goes by how likely each group is to ask.",
            f"A year expects {expected} requests: retraining for each would cost {expected} trainings.",
            "The larger the share of revocable rows in a tail step, the more the model forgets of the others: by "
            f"default it is {replay.FULL:g}, or {replay.FULLER:g} where they come often{refused}.",
        ]

    def to_list(self) -> list[dict]:
        """JSON-ready."""
        return [{**asdict(choice), "is_crowded": choice.is_crowded} for choice in self]


def plan_training(
    args: ReadyConfig,
    stable: int,
    groups: Sequence[int],
    ask: float | Sequence[float] = 0.02,
    model=None,
    causal_lm: bool | None = None,
    times: Sequence[float] = TIMES,
    slices: Sequence[int] = SLICES,
) -> TrainingChoices:
    """
    The expected cost of requests, for tails and slices to choose from, before a training begins.

    Args:
        args: of the training: batch, length and seed count, and its own `tail` and `slices`, which are marked.
        stable: number of rows that nobody may ask for.
        groups: (G,) rows of each group that may ask, such as a person.
        ask: requests a year of each group, one number for all or (G,).
        model: that is to be trained, with its adapter; its weights may be on the meta device. None: the bytes of the
            snapshots are not said.
        causal_lm: whether it is a language model. None: as `model` is, and without one it is.
        times: tails, in shares of the revocable rows.
        slices: numbers of slices.

    Returns:
        A tuple of [`TrainingChoice`], which prints itself as a table; its `retraining` is what a year costs where each
        request is served by a training from the start.

    Raises:
        ArgumentError: if sizes or rates are no numbers of rows and requests.
    """
    groups = list(groups)
    rates = np.full(len(groups), ask, dtype=float) if np.ndim(ask) == 0 else np.asarray(ask, dtype=float)
    raise_problems(_problems(stable, groups, rates))
    if causal_lm is None:
        causal_lm = model is None or is_causal_lm(model)
    bare = bare_order(args, stable, sum(groups), causal_lm)
    share = sum(groups) / bare.rows
    own = (own_tail(args, bare), own_slices(args))
    tails = sorted({min(1.0, t * share) for t in times} | {own[0]})
    size = None if model is None else snapshot_bytes(model, str(getattr(args.optim, "value", args.optim)))
    found: dict[tuple, TrainingChoice] = {}
    for tail in tails:
        for count in sorted({*slices, own[1]}):
            choice = replay.weigh(bare, groups, rates, tail, count)
            chosen = (tail, count) == own
            key = (choice.tail, choice.slices)  # several may lead to the same
            chosen |= key in found and found[key].chosen
            disk = None if size is None else size * choice.slices
            found[key] = TrainingChoice(**asdict(choice), times=tail / share, disk=disk, chosen=chosen)
    choices = TrainingChoices(found.values())
    choices.retraining = float(rates.sum())
    return choices


def _problems(stable: int, groups: list, rates: np.ndarray) -> list[str]:
    problems = []
    if not isinstance(stable, (int, np.integer)) or stable < 1:
        problems.append(Wrong("stable", f"is {shown(stable)}; it must be a number of rows, at least 1."))
    if not groups or any(not isinstance(n, (int, np.integer)) or n < 1 for n in groups):
        problems.append(Wrong("groups", "must hold the number of rows of each group that may ask, each at least 1."))
    if rates.shape != (len(groups),):
        problems.append(Wrong("ask", f"has shape {rates.shape}; it must be one number, or one for each group."))
    elif wrong := [p for rate in rates.tolist() for p in number_problems("ask", rate, low=0)]:
        problems.append(wrong[0])
    elif len(rates) and not rates.any():
        problems.append(Wrong("ask", "is 0 for all groups; if nobody asks, there is nothing to plan."))
    return problems
