"""The plan of a new training that can be replayed, from its rows and arguments; and what stands in its way."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable

import numpy as np
from torch.utils.data import Subset
from transformers import EarlyStoppingCallback

from ..config import ReadyConfig, step_rows
from ..data.checks import column_codes
from ..data.columns import column_names, column_values, first_ids, row_ids
from ..data.duplicates import Content, contents, twin_groups
from ..data.replay_order import ReplayOrder
from ..data.row_digests import unseeded_columns
from ..readiness import replay
from ..utils.checks import Wrong, shown
from .engines import is_first, replay_problem
from .replay_plan import ReplayPlan, places_of_rows, row_problems
from .replay_program import seed_all
from .same_run import HARMLESS, plain

logger = logging.getLogger(__name__)

# Where and how a run is computed: no part of what is trained, and yet of its bits.
OF_THE_BITS = {
    "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "activation_checkpointing", "activation_checkpointing_kwargs", "torch_compile",
    "torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "full_determinism",
    "meta_forward", "dataloader_drop_last", "ddp_bucket_cap_mb", "ddp_static_graph",
}  # fmt: skip
OF_THE_ORDER = {"snapshots", "tail", "slices", "revocable_epochs"}  # what they led to is in the plan's order


def arguments_of(args: ReadyConfig) -> dict:
    """The arguments that a replay must have again, JSON-ready."""
    names = [f.name for f in dataclasses.fields(args) if f.name not in (HARMLESS - OF_THE_BITS) | OF_THE_ORDER]
    return {name: plain(getattr(args, name)) for name in names}


def argument_problems(args: ReadyConfig, revocable: str | None, callbacks) -> list[str]:
    """Arguments under which the same program without some rows would not be well defined, or not be run to its end."""
    problems = []
    if revocable is None:
        problems.append(
            '`readiness="replay"` puts the rows that may be asked for last, so it must know them: mark them in a '
            'column `revocable`. Where anybody may ask, use "meta" with `revocable=None`.'
        )
    if problem := replay_problem(args):
        problems.append(problem)
    if args.load_best_model_at_end is True:
        problems.append(
            "`load_best_model_at_end` would end the training with weights that an evaluation chose; a replay ends with "
            "those of the last step. Leave it out."
        )
    problems += stopping_problems(callbacks if isinstance(callbacks, list) else ())
    if args.train_sampling_strategy != "random":
        said = f"is {shown(args.train_sampling_strategy)}; the order of the rows is that of the plan. Leave it out."
        problems.append(Wrong("train_sampling_strategy", said))
    for name in ("split_batches", "dispatch_batches"):
        if getattr(args.accelerator_config, name, None):
            problems.append(
                f"`accelerator_config` has `{name}`, which cuts a step's rows anew; a replay needs its own cut."
            )
    return problems


def stopping_problems(callbacks: Iterable) -> list[str]:
    """That a callback, or the class of one, would end a training early."""
    kinds = [callback if isinstance(callback, type) else type(callback) for callback in callbacks]
    if not any(issubclass(kind, EarlyStoppingCallback) for kind in kinds):
        return []
    return ["An `EarlyStoppingCallback` would end the training before the revocable rows. Leave it out."]


def own_tail(args: ReadyConfig, bare: ReplayOrder) -> float:
    """Share of the steps that a config's tail has."""
    return replay.default_tail(bare) if args.tail == "auto" else float(args.tail)


def own_slices(args: ReadyConfig) -> int:
    """Slices of a config, at most."""
    return int(args.slices) if args.slices != "auto" else replay.SLICES if args.slice_by else 1


def bare_order(args: ReadyConfig, stable: int, revocable: int, causal_lm: bool) -> ReplayOrder:
    """
    The order of a training of so many rows, without its tail, and with all revocable rows in one slice.

    Args:
        causal_lm: whether the model is a language model, whose rows take more visits to be learned.
    """
    seed = args.seed if args.data_seed is None else args.data_seed
    drop_last = bool(args.dataloader_drop_last)
    bare = ReplayOrder(stable, (revocable,), step_rows(args), 0, 0, seed, drop_last=drop_last)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * bare.steps_an_epoch)
    bare = dataclasses.replace(bare, steps=steps)
    epochs = float(bare.sizes.sum() / bare.rows)
    auto = args.revocable_epochs == "auto"
    often = replay.default_often(epochs, causal_lm) if auto else float(args.revocable_epochs) / epochs
    return dataclasses.replace(bare, often=often)


def make_plan(
    args: ReadyConfig, rows, flags: np.ndarray, processing_class=None, causal_lm: bool = True
) -> tuple[ReplayPlan | None, np.ndarray, list[str]]:
    """
    `(plan, row number (N,) of each row, problems)`. The plan has no rows' digests yet.

    Args:
        flags: (N,) True for the revocable rows.
        processing_class: tokenizer that reads the text from token ids.
        causal_lm: of [`bare_order`].
    """
    problems = row_problems(rows, "training")
    stable, chosen = np.flatnonzero(~flags), np.flatnonzero(flags)
    if not len(stable) or not len(chosen):
        none, what = ("stable", "every row may") if not len(stable) else ("revocable", "no row may")
        problems.append(
            f"{what.capitalize()} be asked for by the column `revocable`: a replay needs some {none} rows. Use "
            '`readiness="none"`, or mark the rows.'
        )
    codes, weights, more = groups_of(rows, chosen, args.slice_by, args.ask_weight)
    problems += more
    if problems:
        return None, np.zeros(0, np.int64), problems
    same = twin_groups(_content(args, rows, chosen, processing_class))
    if args.slice_by is None:
        codes = np.unique(same, return_inverse=True)[1]  # rows of the same content stay in one slice
    bare = bare_order(args, len(stable), len(chosen), causal_lm)
    count, tail = own_slices(args), own_tail(args, bare)
    order, slice_of = replay.cut(bare, codes, weights, tail, count)
    problems += _twins_problems(rows, chosen, same, slice_of)
    visits = [Wrong("revocable_epochs", f"is {args.revocable_epochs}; it {v}") for v in replay.visits_problems(order)]
    problems += visits or [Wrong("tail", said) for said in replay.tail_problems(order, tail)]
    numbers = np.empty(len(flags), dtype=np.int64)
    numbers[stable] = np.arange(len(stable))
    numbers[chosen[np.argsort(slice_of, kind="stable")]] = len(stable) + np.arange(len(chosen))
    plan = ReplayPlan(
        order,
        tail,
        micro_batches=int(args.gradient_accumulation_steps),
        processes=args.world_size,
        warmup=args.get_warmup_steps(order.steps),
        schedule=_own_schedule(args),
        falls_from=replay.falls_from(order),
        arguments=arguments_of(args),
        deleted=np.zeros(len(flags), np.uint8),
    )
    return plan, numbers, problems


def _own_schedule(args: ReadyConfig) -> str | None:
    """The `lr_scheduler_type` that the user has set; None: the plan's schedule."""
    if "lr_scheduler_type" not in args.given:
        return None
    name = str(plain(args.lr_scheduler_type))
    warn_of_schedule(f"`lr_scheduler_type` is {name!r}")
    return name


def warn_of_schedule(what: str) -> None:
    """A warning that a user's own schedule takes the place of the plan's."""
    logger.warning(
        "%s, and the revocable rows come last: where the learning rate has fallen by then they are learned less than "
        "the others, or not at all. Left out, it is constant up to these rows and then falls.", what
    )  # fmt: skip


def _content(args: ReadyConfig, rows, chosen: np.ndarray, processing_class) -> Content:
    """What the revocable rows say."""
    (content,) = contents([selected(rows, chosen)], processing_class, {"revocable", args.slice_by, args.ask_weight})
    return content


def _twins_problems(rows, chosen: np.ndarray, same: np.ndarray, slice_of: np.ndarray) -> list[str]:
    """Revocable rows of one content in two slices; a warning names those of one slice."""
    ids = row_ids(rows)
    pairs = [(i, int(j)) for i, j in enumerate(same) if i != j]
    apart = [pair for pair in pairs if slice_of[pair[0]] != slice_of[pair[1]]]
    together = [pair for pair in pairs if slice_of[pair[0]] == slice_of[pair[1]]]

    def named(some: list) -> str:
        return first_ids([f"{ids[chosen[j]]} = {ids[chosen[i]]}" for i, j in some])

    if together and is_first():
        logger.warning(
            "%d revocable row(s) have the content of another one of their slice: %s. A request for one of the two "
            "leaves what it says in the model, by the other: name both.", len(together), named(together)
        )  # fmt: skip
    if not apart:
        return []
    return [
        f"{len(apart)} revocable row(s) have the content of one in another slice: {named(apart)}. A request for one "
        "would leave what it says in the model, by the other. Give both the same value in the column of `slice_by`, or "
        "take one out."
    ]


def selected(rows, places: np.ndarray):
    """Some rows of a set; of one that is no table a view, since its rows may be drawn when they are read."""
    if hasattr(rows, "select"):
        return rows.select(places)
    if isinstance(rows, (list, tuple)):
        return [rows[int(i)] for i in places]
    return Subset(rows, places.tolist())


@dataclasses.dataclass
class Planned:
    """
    What a training that can be replayed starts from.

    Args:
        plan: None where there are problems.
        rows: those to train on.
        at: (N,) place in `rows` of each row number; -1: deleted.
        flags: (n,) of `rows`, True for the revocable ones.
        commitment: `(all rows, row number of each)` whose digests the plan still lacks; None: it has them.
    """

    plan: ReplayPlan | None
    rows: object
    at: np.ndarray
    flags: np.ndarray | None = None
    commitment: tuple | None = None


def planned(
    args: ReadyConfig,
    rows,
    flags: np.ndarray | None,
    deleted: Iterable,
    plan: ReplayPlan | None,
    processing_class=None,
    causal_lm: bool = True,
) -> tuple[Planned, list[str]]:
    """
    The training of these rows without the deleted ones, by their own plan or by that of an earlier training.

    Args:
        flags: (N,) True for the revocable rows; not needed with a plan.
        deleted: ids of rows to leave out; with a plan those that it knows as deleted stay out, too.
        processing_class: tokenizer that reads the text from token ids.
        causal_lm: of [`bare_order`]; not needed with a plan.
    """
    drawn = _drawing_problems(rows)
    if plan is None:
        plan, numbers, problems = make_plan(args, rows, flags, processing_class, causal_lm)
        if plan is None:
            return Planned(None, rows, numbers), problems + drawn
        number_of = {str(i): int(n) for i, n in zip(row_ids(rows), numbers, strict=True)}
        holes = np.array([number_of.get(str(i), -1) for i in deleted], dtype=np.int64)
        at, commitment = np.full(len(numbers), -1, dtype=np.int64), (rows, numbers)
        at[numbers] = np.arange(len(numbers))
    else:
        holes = plan.numbers_of_ids(deleted, plan.key)
        at, problems = places_of_rows(plan, rows, plan.key)
        commitment = None
        if row_problems(rows, "training"):
            return Planned(plan, rows, at), problems + drawn
    problems += drawn
    if unknown := [i for i, hole in zip(deleted, holes, strict=True) if hole < 0]:
        problems.append(f"`deleted` names {first_ids(unknown)}, which no row of the training has as its `id`.")
    holes = holes[holes >= 0]
    new = holes[plan.deleted[holes] == 0]
    plan.deleted[new] = plan.next_request
    at[holes] = -1
    if lacking := np.flatnonzero((at < 0) & (plan.deleted == 0)).tolist():
        problems.append(
            f"{len(lacking)} of the {plan.order.rows} rows of the training are neither here nor asked for: a replay "
            "needs all rows that stay. Their ids are known by digests alone."
        )
    there = at[at >= 0]
    if not len(there):
        problems.append("No row is left to train on.")
    if problems:
        return Planned(plan, rows, at), problems
    kept = np.sort(there)
    if len(kept) < len(rows):
        at[at >= 0] = np.searchsorted(kept, there)
        rows = selected(rows, kept)
    numbers = np.empty(len(kept), dtype=np.int64)
    numbers[at[at >= 0]] = np.flatnonzero(at >= 0)
    return Planned(plan, rows, at, numbers >= plan.order.stable, commitment), problems


def _drawing_problems(rows) -> list[str]:
    """That rows are drawn from a generator which the program does not seed."""
    if not (columns := unseeded_columns(rows, seed_all)):
        return []
    return [
        f"The training rows are other ones each time they are read ({', '.join(map(repr, columns))}), from a generator "
        "of their own, so no replay could draw them again. Draw from `random`, `numpy.random` or torch's global "
        "generator, which are seeded for each row, or draw before the training."
    ]


def groups_of(
    rows, chosen: np.ndarray, slice_by: str | None, ask_weight: str | None
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """
    `(codes, weights, problems)` of the revocable rows: the group (R,) of each, its own where there is no column, and
    how likely (R,) each is to be asked for, None where no column says so.

    Args:
        chosen: (R,) places of the revocable rows.
        slice_by, ask_weight: columns.
    """
    codes, problems = np.arange(len(chosen)), []
    if slice_by is not None:
        found = column_codes(rows, slice_by, "slice_by")
        problems += found if isinstance(found, list) else []
        codes = codes if problems else np.unique(found[1][chosen], return_inverse=True)[1]
    if ask_weight is None:
        return codes, None, problems
    if ask_weight not in column_names(rows):
        said = f"is {ask_weight!r}; the rows have {', '.join(map(repr, column_names(rows)))}."
        return codes, None, [*problems, Wrong("ask_weight", said)]
    values, ids = column_values(rows, ask_weight), row_ids(rows)
    wrong = [ids[i] for i in chosen if not isinstance(values[i], (int, float)) or not 0 <= values[i] < math.inf]
    if wrong:
        said = f"holds numbers below 0, or none, in rows {first_ids(wrong)}."
        return codes, None, [*problems, Wrong("ask_weight", said)]
    return codes, np.array([values[i] for i in chosen], dtype=float), problems
