"""
Relearning: how fast forgotten rows come back under a short fine-tune, beside a model that never saw them.

Differs from the paper (Siddiqui et al. 2025, arXiv:2505.22310, who fine-tune on retain rows): the attacker may also
have similar rows or some of the forget rows, and the curve is summed up as an area relative to the retrained model's.
The default learning rate and number of forget rows are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ..catalogue import FINE_TUNES
from ..collection import collect
from ..forward import evaluating, kept_columns, logits_of, model_inputs, progress_bar, signature_of
from ..gates import RECOVERY_AREA, Gate, GateRule, Sides, Status, status_of
from ..intervals import summary
from ..measures.losses import answered_right
from ..roles import BEFORE
from ..rows import row_hashes, rows_at
from ..table_checks import WrongValuesError, raise_all
from ..tables import columns_of, has_several_labels
from ..weights import put_back
from .base import Attack, Attempt, AttemptRule, Seen, Subject

if TYPE_CHECKING:
    import torch

ROW_KINDS = tuple(FINE_TUNES)  # what the attacker has rows of
ATTACKED = (*BEFORE, "retrained", "retrained_again")  # roles of models that are attacked: those that should not know
MOST_REAL = 32  # forget rows given to the attacker by default: a quarter of them, at most so many
FORWARD = 1 / 3  # a forward pass alone, in row passes (forward and backward of one row), as the trainers count


def relearn(
    model: torch.nn.Module,
    rows: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    *,
    steps: int = 30,
    learning_rate: float = 1e-4,
    batch_size: int = 16,
    every: int = 5,
    seed: int = 0,
    trainable_only: bool = False,
    progress: bool = False,
) -> list[dict[str, float | int]]:
    """
    Fine-tunes `model` on `rows`, measures `held_out` on the way, and puts everything back.

    AdamW (PyTorch's defaults, weight decay 0, constant learning rate) on the batch's mean NLL per label, in eval mode:
    no dropout, no augmentation inside of the model, statistics of BatchNorm fixed, so the curve has no noise but the
    order of the rows, and that is a pure function of (`seed`, step): each pass over `rows` is a permutation of them.
    The model is as the attacker has it, all its floating-point parameters train. bfloat16 weights are trained from
    float32 copies, since steps smaller than their resolution would be lost.

    Afterwards weights, buffers, `.grad`, `requires_grad` and modes are as before, bit for bit, also after an error;
    the global random generators are untouched. Memory beside the model: its gradients, AdamW's two states (and the
    copies of bfloat16 weights) where it is, one copy of it on the CPU, and activations of one batch without gradient
    checkpointing, which works in training mode only. One process; a sharded model is not supported.

    Args:
        model: a causal language model or a classifier, as for [`collect`].
        rows: what is trained on. A `datasets.Dataset`, or a list of dicts.
        held_out: what is measured.
        data_collator: makes a batch with `labels` from a list of dicts.
        steps: optimizer steps.
        learning_rate: constant. The default is for models from the Hub; one trained from scratch with 1e-3 is
            moved by about that. Where no curve of a comparison moves, it says nothing: raise it.
        batch_size: rows a step (all, where there are fewer), and rows a forward pass of the measurement.
        every: steps between measurements; there is one before the first step and one after the last.
        seed: of the order of the rows.
        trainable_only: train the parameters with `requires_grad` only, of a PEFT model its adapter.
        progress: show a progress bar (after the first second).

    Returns:
        One dict per measurement: `step`; `loss` of `held_out` (nats per label: ratio of sums over the rows) and
        `accuracy` (share of labelled positions whose argmax is the label; of rows with several labels, of rows told
        right in every label); `row_passes` used so far (forward and backward of one row; a forward alone counts a
        third).

    Raises:
        ValueError: for no rows, rows without labels, arguments out of range, float16 weights, nothing to train; and
            all that [`collect`] raises.
        FloatingPointError: if a loss is not finite; the message names the step.
    """
    import torch

    sides = {"rows": rows, "held_out": held_out}
    empty = [f"`{name}` is empty: give at least one row." for name, side in sides.items() if len(side) == 0]
    raise_all(empty + _out_of_range(steps, learning_rate, batch_size, every, seed))
    _, named = signature_of(model)
    hashes = row_hashes(held_out)
    curve: list[dict[str, float | int]] = []
    passes = 0.0

    def look(step: int) -> None:
        nonlocal passes
        how = {"batch_size": batch_size, "model_hash": "relearnt", "hashes": hashes}
        try:
            table = collect(model, held_out, data_collator, **how)
        except WrongValuesError as error:
            raise FloatingPointError(
                f"the loss of `held_out` is not finite after step {step}: lower `learning_rate`. ({error})"
            ) from error
        passes += FORWARD * len(held_out)
        columns = columns_of(table, "held_out")
        nll, labels, right = (columns[name].sum() for name in ("nll_sum", "n_labels", "n_correct"))
        share = answered_right(columns).mean() if has_several_labels(table) else right / labels
        point = {"step": step, "loss": float(nll / labels), "accuracy": float(share)}
        curve.append({**point, "row_passes": round(passes, 3)})

    with_gradients = torch.inference_mode(False), torch.enable_grad()  # wherever it is called
    with with_gradients[0], with_gradients[1], _attacked(model, trainable_only) as params, evaluating(model):
        look(0)
        leaves = [p if p.dtype != torch.bfloat16 else p.detach().float().requires_grad_() for p in params]
        optimizer = torch.optim.AdamW(leaves, lr=learning_rate, weight_decay=0.0)
        for step in progress_bar(range(1, steps + 1), progress, "relearn"):
            chosen = [kept_columns(row, named) for row in rows_at(rows, batch_rows(len(rows), batch_size, seed, step))]
            loss = _mean_nll(model, data_collator(chosen), step)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss of `rows` is {loss.item()} in step {step}: lower `learning_rate` ({learning_rate:g}), "
                    "or look for broken rows."
                )
            loss.backward()
            _step(optimizer, params, leaves)
            passes += len(chosen)
            if step % every == 0 or step == steps:
                look(step)
    return curve


def _mean_nll(model: torch.nn.Module, batch: Mapping[str, Any], step: int) -> torch.Tensor:
    """Mean loss of a batch, nats per label, with its graph."""
    from ...objectives.row_nll import per_row_nll

    if batch.get("labels") is None:
        raise ValueError(f"`data_collator` returned {sorted(batch)} without `labels`: `rows` need labels.")
    inner, named = signature_of(model)
    extra = {"use_cache": False} if named is not None and "use_cache" in named else {}
    device = next(model.parameters()).device
    logits = logits_of(model(**model_inputs(batch, named, device), **extra), inner)
    nll, count = (part.sum() for part in per_row_nll(logits, batch["labels"].to(device)))
    if not count:
        raise ValueError(f"`rows` have no labels in the batch of step {step}: drop such rows, or label them.")
    return nll / count


def batch_rows(n: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Rows of the batch of a step (from 1) out of `n`: permutation after permutation, pure in the arguments."""
    from ...data.order import permutation

    size = min(batch_size, n)
    places = range((step - 1) * size, step * size)
    return [int(permutation(n, seed, place // n)[place % n]) for place in places]


def _step(optimizer: torch.optim.Optimizer, params: list[torch.Tensor], leaves: list[torch.Tensor]) -> None:
    import torch

    copied = [(p, leaf) for p, leaf in zip(params, leaves, strict=True) if p is not leaf]
    for p, leaf in copied:
        leaf.grad = None if p.grad is None else p.grad.float()
        p.grad = None
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for p, leaf in copied:
            p.copy_(leaf)
    torch.clear_autocast_cache()


@contextmanager
def _attacked(model: torch.nn.Module, trainable_only: bool):
    """Yields the parameters to train, with `requires_grad` and without `.grad`; the exit puts everything back."""
    import torch

    from ...readiness.moving_weights import moving_buffers

    everything = list(model.parameters())
    params = [p for p in everything if (p.requires_grad or not trainable_only) and p.is_floating_point()]
    if not params:
        raise ValueError(
            "`model` has no parameters to train: with `trainable_only`, at least one must have `requires_grad`."
        )
    if any(p.dtype == torch.float16 for p in params):
        raise ValueError("`model` has float16 weights, whose gradients underflow: load it in bfloat16 or float32.")
    devices = sorted({p.device.index for p in everything if p.device.type == "cuda"})
    flags = [(p, p.requires_grad, p.grad) for p in everything]
    try:
        with torch.random.fork_rng(devices), put_back([*params, *moving_buffers(model)]):
            ours = {id(p) for p in params}
            for p in everything:
                p.requires_grad_(id(p) in ours)
                p.grad = None
            try:
                yield params
            finally:
                for p in everything:
                    p.grad = None  # their memory is free before the weights come back
    finally:
        for p, requires_grad, grad in flags:
            p.requires_grad_(requires_grad)
            p.grad = grad


def recovery_area(
    curve: Sequence[Mapping[str, float]],
    reference: Sequence[Mapping[str, float]],
) -> float:
    """
    Area under a curve of [`relearn`] over that of the retrained model under the same fine-tune.

    Both areas are of the held-out loss over the steps, by trapezoids. 1: the forget rows come back no faster than a
    model that never saw them learns them; below 1: faster, there was something left; above 1: slower, or from a loss
    driven beyond that of unseen rows. The area holds the start of the curve too: a model whose forget loss is still
    low before the first step is below 1 whatever follows.

    Args:
        curve: `[{"step", "loss", ...}]` of the model in question.
        reference: the same of the retrained model.

    Raises:
        ValueError: if the steps of the two differ, if there are fewer than two, if a loss is not finite, or if the
            reference's area is 0.
    """
    steps, others = ([point["step"] for point in points] for points in (curve, reference))
    if steps != others:
        raise ValueError(
            f"`curve` has the steps {steps}, `reference` {others}: measure both with equal `steps` and `every`."
        )
    if len(steps) < 2:
        raise ValueError(f"`curve` has {len(steps)} point(s): an area needs at least two.")
    area, floor = _area(curve), _area(reference)
    if not (math.isfinite(area) and math.isfinite(floor)):
        raise ValueError(f"`curve` has the area {area}, `reference` {floor}: losses must be finite.")
    if floor == 0:
        raise ValueError("`reference` has an area of 0: its losses are all 0, so nothing can be compared with it.")
    return area / floor


def _area(curve: Sequence[Mapping[str, float]]) -> float:
    pairs = zip(curve[:-1], curve[1:], strict=True)
    return math.fsum((b["step"] - a["step"]) * (a["loss"] + b["loss"]) / 2 for a, b in pairs)


def recovery_curves(
    models: Mapping[str, torch.nn.Module],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    *,
    processing_class: Any = None,
    kinds: Iterable[str] = ROW_KINDS,
    k: int | None = None,
    seed: int = 0,
    **fine_tune: Any,
) -> dict[str, dict[str, list[dict[str, float | int]]]]:
    """
    Relearning curves of several models under the same fine-tunes: same rows, order and learning rate.

    An attacker may have (`kinds`) "retain": retain rows only; "similar": rows like the forgotten ones, the split
    `similar` or else `unseen`; "real": `k` of the forget rows. In all three the measured rows are the *other* forget
    rows, so the curves of all kinds and models compare. The "retain" attack is that of Siddiqui et al. 2025.

    Args:
        models: role -> model; with a model retrained without the forget rows among them, [`recovery_area`] of another
            model's curve and the retrained one's says how much faster the rows come back.
        splits: `forget` (at least two rows), and `retain` and `similar` or `unseen` for the kinds that train on them.
        data_collator: makes batches; None: [`hf_unlearn.default_collator`] of each model and `processing_class`.
        processing_class: tokenizer or image processor.
        kinds: any of "retain", "similar", "real".
        k: forget rows that are not measured, and trained on in the kind "real"; chosen by `seed`. None: a quarter of
            them, at least 1 and at most 32.
        seed: chooses the `k` rows, and the order of rows in [`relearn`].
        fine_tune: other arguments of [`relearn`], such as `steps` and `learning_rate`.

    Returns:
        role -> kind -> curve of [`relearn`]. The cost of a curve is the `row_passes` of its last point.

    Raises:
        ValueError: for no models, an unknown kind, a split that is missing or empty, `k` out of range; all that
            [`relearn`] raises, naming the model and kind.
        FloatingPointError: if a loss is not finite, naming model, kind and step.
    """
    from ...data.collate import default_collator

    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    given, held_out = rows_of_attacker(models, splits, kinds, k, seed)
    curves: dict[str, dict[str, list[dict[str, float | int]]]] = {}
    for role, model in models.items():
        collator = data_collator or default_collator(model, processing_class)
        curves[role] = {}
        for place, kind in enumerate(kinds):
            how = {**fine_tune, "progress": _share_of(fine_tune.get("progress", False), place, len(kinds))}
            try:
                curves[role][kind] = relearn(model, given[kind], held_out, collator, seed=seed, **how)
            except (ValueError, FloatingPointError) as error:
                problem = FloatingPointError if isinstance(error, FloatingPointError) else ValueError
                raise problem(f'model "{role}", relearning from {kind} rows: {error}') from error
    return curves


def _share_of(progress: Any, place: int, of: int) -> Any:
    """A function that is told of passes, for one of several fine-tunes; a bar is one for each."""
    if not callable(progress):
        return progress
    return lambda description, done, total: progress(description, place * total + done, of * total)


def rows_of_attacker(models, splits, kinds: list[str], k: int | None, seed: int) -> tuple[dict[str, Any], Any]:
    """(kind -> rows to train on, the forget rows to measure); all problems in one error, before a model runs."""
    from ...data.order import permutation

    splits = {name: rows for name, rows in splits.items() if rows is not None and len(rows)}
    sources = {"retain": "retain", "similar": "similar" if "similar" in splits else "unseen", "real": "forget"}
    n = len(splits.get("forget", ()))
    k = min(MOST_REAL, max(1, n // 4)) if k is None else k
    problems = []
    if not models:
        problems.append("`models` is empty: give a dict of role -> model.")
    if not kinds or set(kinds) - set(ROW_KINDS):
        problems.append(f"`kinds` is {kinds}: expected any of {', '.join(map(repr, ROW_KINDS))}.")
    if n < 2:
        problems.append(f"split `forget` has {n} rows: expected at least two, to train on some and measure others.")
    elif not 1 <= k < n:
        problems.append(f"`k` is {k} of {n} forget rows: expected 1 to {n - 1}.")
    for kind in kinds:
        if kind in ("retain", "similar") and sources[kind] not in splits:
            wanted = "`retain`" if kind == "retain" else "`similar` or `unseen`"
            problems.append(f'kind "{kind}" needs a split {wanted} with rows; there are {sorted(splits)}.')
    raise_all(problems)
    order = permutation(n, seed, 0).tolist()
    given = {kind: splits[sources[kind]] for kind in kinds if kind != "real"}
    if "real" in kinds:
        given["real"] = _select(splits["forget"], sorted(order[:k]))
    return given, _select(splits["forget"], sorted(order[k:]))


def _select(rows, indices: list[int]):
    return rows.select(indices) if hasattr(rows, "select") else [rows[i] for i in indices]


@dataclass(frozen=True)
class RelearnOptions:
    """
    Of the attack "relearn": arguments of [`relearn`], and `k` of [`recovery_curves`]. Those with `flag` are flags of
    `hf-unlearn evaluate`, too, with that default.
    """

    steps: int = field(
        default=30, metadata={"help": "steps of each fine-tune that tries to bring the rows back.", "flag": 30}
    )
    learning_rate: float = field(  # the flag's default is for the recipes' small models
        default=1e-4,
        metadata={"help": "its learning rate. Lower it for a model from the hub, e.g. to 1e-5.", "flag": 1e-3},
    )
    batch_size: int = field(default=16, metadata={"help": "rows of a step."})
    every: int = field(default=5, metadata={"help": "steps between two measurements."})
    seed: int = field(default=0, metadata={"help": "of the rows that are given away, and of their order."})
    trainable_only: bool = field(default=False, metadata={"help": "train the parameters with `requires_grad` only."})
    k: int | None = field(
        default=None, metadata={"help": "forget rows given to the attacker; None: a quarter of them, 1 to 32."}
    )

    def __post_init__(self):
        raise_all(_out_of_range(self.steps, self.learning_rate, self.batch_size, self.every, self.seed))
        if not (self.k is None or isinstance(self.k, Integral) and self.k >= 1):
            raise ValueError(f"`k` is {self.k!r}: expected an integer of at least 1, or None.")


def _out_of_range(steps, learning_rate, batch_size, every, seed) -> list[str]:
    problems = []
    for name, value in (("steps", steps), ("batch_size", batch_size), ("every", every)):
        if not (isinstance(value, Integral) and value >= 1):
            problems.append(f"`{name}` is {value!r}: expected an integer of at least 1.")
    if not (isinstance(seed, Integral) and seed >= 0):
        problems.append(f"`seed` is {seed!r}: expected an integer of at least 0.")
    if not (isinstance(learning_rate, Real) and 0 < learning_rate < math.inf):
        problems.append(f"`learning_rate` is {learning_rate!r}: expected a finite number above 0.")
    return problems


def _run(subject: Subject, options: RelearnOptions) -> None:
    """Curves of each kind of fine-tune that the splits allow, as details `recovery`."""
    splits = subject.splits
    if subject.role not in ATTACKED or not len(splits.get("forget", ())) > 1:
        return
    k = options.k or min(MOST_REAL, max(1, len(splits["forget"]) // 4))
    at_hand = {"retain": "retain" in splits, "similar": {"similar", "unseen"} & set(splits), "real": True}
    kinds = [kind for kind in ROW_KINDS if at_hand[kind]]
    how = {**asdict(options), "k": k, "kinds": kinds, "progress": subject.progress}
    try:
        curves = recovery_curves({subject.role: subject.model}, splits, subject.collator, **how)
    except FloatingPointError as error:
        subject.not_measured("recovery", error)
    else:
        subject.seen.details |= {"recovery": curves[subject.role], "relearning": {"k": k}}


def _measures(seen: Seen, retrained: Seen | None) -> dict[str, dict[str, Any]]:
    """`recovery_<rows>_area` of each curve that the retrained model has, too."""
    found = {}
    theirs = retrained.details.get("recovery", {}) if retrained is not None and retrained is not seen else {}
    for kind, curve in seen.details.get("recovery", {}).items():
        if theirs.get(kind):
            k = seen.details["relearning"]["k"]
            area = summary(recovery_area(curve, theirs[kind]), None, seen.tables["forget"].num_rows - k)
            found[f"recovery_{kind}_area"] = {**area, "k": k}
    return found


def _gate(sides: Sides) -> Gate:
    """Numbers: `areas` (kind of fine-tune -> area), `value` (the smallest), `limit`."""
    areas = {
        name.removeprefix("recovery_").removesuffix("_area"): m["value"]
        for name, m in sides.mine.items()
        if name.startswith("recovery_") and name.endswith("_area") and m["value"] is not None
    }
    if not areas:
        return Gate("recovery", Status.UNDECIDED)
    least = min(areas.values())
    numbers = {"areas": areas, "value": least, "limit": RECOVERY_AREA}
    return Gate("recovery", status_of(least >= RECOVERY_AREA), None, numbers)


def _attempt(run: Mapping[str, Any], sides: Sides) -> Attempt | None:
    """
    Relearning: `areas`, kind of fine-tune -> `{"value", "k", "fast"}`; without a retrained model `curves`, kind ->
    `{"first", "last", "steps"}` (losses of the other forget rows).
    """
    found = {kind: sides.mine.get(f"recovery_{kind}_area") or {} for kind in FINE_TUNES}
    areas = {
        kind: {"value": m["value"], "k": m.get("k"), "fast": m["value"] < RECOVERY_AREA}
        for kind, m in found.items()
        if m.get("value") is not None
    }
    if areas:
        return Attempt("recovery", any(area["fast"] for area in areas.values()), {"areas": areas})
    curves = {
        kind: {"first": curve[0]["loss"], "last": curve[-1]["loss"], "steps": curve[-1]["step"]}
        for kind, curve in _finite_curves(run).items()
    }
    return Attempt("recovery", False, {"curves": curves, "compared": sides.retrained}) if curves else None


def _finite_curves(run: Mapping[str, Any]) -> dict[str, list[Mapping]]:
    """Kind of fine-tune -> its points with a finite loss."""
    curves = (run.get("details") or {}).get("recovery") or {}
    finite = {kind: [point for point in curve if point.get("loss") is not None] for kind, curve in curves.items()}
    return {kind: curve for kind, curve in finite.items() if curve}


ATTACK = Attack(
    "relearn",
    "fine-tune unlearned and retrained models on retain, similar and some forget rows",
    _run,
    _measures,
    options=RelearnOptions,
    gate=GateRule(
        "recovery",
        _gate,
        title="Comes back no faster than a retrained model learns it",
        needs="Not measured: needs a retrained model under the same fine-tune.",
        against="fine-tuning brings the rows back faster than a retrained model learns them",
        lowers=False,  # fine-tuning teaches a retrained model these rows, too
    ),
    attempt=AttemptRule(
        "recovery", "relearning", _attempt, clause="bring rows back by fine-tuning", leaves="recovery_"
    ),
    turn=4,
)
