"""The contract of an objective, and what a row brings to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 0.05  # of τ: a forget loss within it counts as having reached the target
NEEDS = ("row_nll", "token_nll", "logits", "hidden_states")
REFERENCES = ("none", "loss", "logits", "hidden_states")
ALTERNATES = ("none", "refusal", "column")
AVERAGES = ("rows", "labels", "later_labels")
SIDES = BOTH, FORGET, RETAIN = "both", "forget", "retain"  # rows that a step passes through the model
KINDS = LANGUAGE, CLASSES, SEVERAL = "language model", "classifier", "classifier of several labels a row"


@dataclass(frozen=True, eq=False, repr=False)
class RowOutputs:
    """
    What one forward pass has found for n rows. `token_nll`, `logits` and `hidden_states` are there only if the
    objective's `needs` names them, `target` and `reference` only for forget rows of an objective that declares them.

    Args:
        nll: sum of the losses of each row's labels, (n,), nats.
        items: number of each row's labels, (n,).
        labels: (n, T) of a language model, (n,) of a classifier, or (n, C) float of one of several labels a row; -100
            where there is no label. Position t of `logits` and of `token_nll` belongs to position t here: they are
            shifted already.
        token_nll: loss of each label, (n, T), 0 where there is none; (n, 1) of a classifier, (n, C) of one of several
            labels a row.
        logits: (n, T, V), or (n, C) of a classifier.
        hidden_states: output of the layer that [`Objective.hidden_layer`] names, (n, T, d).
        places: place of each row in the forget set, (n,); -1 for retain rows. For what is drawn once for a row.
        target: mean loss that each row is to have, (n,), nats.
        reference: sum of the losses of each row's labels before the request, (n,), nats.
        reference_logits: logits before the request, (n, T, V) or (n, C); 0 at places without a label.
        reference_hidden: hidden states before the request, (n, T, d); 0 at places without a label.
        alternate: of the row that stands beside each, with another answer to the same prompt, and its own `reference`.
        seed: of the run, for what is drawn once for a row.
    """

    nll: Tensor
    items: Tensor
    labels: Tensor | None = None
    token_nll: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Tensor | None = None
    places: Tensor | None = None
    target: Tensor | None = None
    reference: Tensor | None = None
    reference_logits: Tensor | None = None
    reference_hidden: Tensor | None = None
    alternate: RowOutputs | None = None
    seed: int = 0

    @property
    def loss(self) -> Tensor:
        """Mean loss of each row's labels, (n,), nats."""
        return self.nll / self.items

    def select(self, mask: Tensor) -> RowOutputs:
        """The rows where mask (n,) is True."""
        found = {k: v[mask] if hasattr(v, "shape") else v for k, v in vars(self).items()}
        return RowOutputs(**found)

    def only(self, needs: str) -> RowOutputs:
        """Without what an objective of these `needs` does not read."""
        kept = NEEDS.index(needs)
        return self if kept else RowOutputs(self.nll, self.items)

    def of_labels(self, values: Tensor) -> Tensor:
        """(n, T) values by position, or (n,) of a classifier, as (n, T) or (n, 1) that are 0 where no label is."""
        return values.where(self.labels.ne(-100), 0.0).view(len(values), -1)

    def __repr__(self) -> str:
        return f"RowOutputs({', '.join(f'{k} {tuple(v.shape)}' for k, v in vars(self).items() if hasattr(v, 'shape'))})"


@dataclass(frozen=True)
class Start:
    """
    What is known before the first step, for the rows' targets.

    Args:
        n: number of forget rows.
        target: the option `target`: "current", "frozen" or "chance".
        tau: τ before the first step, nats.
        unseen: mean loss of each unseen row, (m,), nats.
        measure: measures the mean loss of each forget row, (n,), nats; costs a forward pass over them.
        seed: of the run, for what is drawn.
    """

    n: int
    target: str
    tau: float
    unseen: Sequence[float] = dataclasses.field(repr=False)
    measure: Callable[[], Sequence[float]] = dataclasses.field(repr=False)
    seed: int = 0


UNBOUND = "nothing: only the guard ends the ascent (the loss of unseen rows, the retain budget)"


def shortfall(forget_loss: float, tau: float) -> float:
    """(τ - L_f) / τ, what the forget rows' mean loss lacks of τ, as a share of it; negative beyond τ."""
    return (tau - forget_loss) / max(tau, 1e-12)


@dataclass(frozen=True)
class Objective:
    """
    What the steps of a request minimise. The loss of a step is

        mean_value(L_f, L_r) + mean_i row_value(forget row i) + mean_j retain_row_value(retain row j)

    with L_f and L_r the step's mean losses over all labels of its forget and of its retain rows. Subclasses must define
    `mean_value`; a part that they do not define counts as 0. If a subclass defines `row_value`, its `mean_value` must
    not depend on the forget loss. An objective may have targets for rows ([`targets`]) or a `reference`, not both.

    A subclass is a frozen dataclass. Its fields are options of `UnlearnConfig`, each with `metadata={"help": …}` and,
    where not every value of its type is allowed, `"check"`: (name, value) -> list of problems (`utils.checks`).

    Class attributes say what the trainer must provide; it refuses an objective that asks for more:

    * `name`, `citation`: how it is asked for, and the source that the model card names.
    * `needs`: what [`RowOutputs`] holds beside the rows' losses: `"row_nll"` (nothing more), `"token_nll"`, `"logits"`
      or `"hidden_states"`. Logits of the forget rows are then held twice.
    * `reference`: what a forget row brings from before the request: `"none"`, `"loss"` (from the column
      `reference_nll`, or measured before the first step), `"logits"` or `"hidden_states"` (from a table on the disk,
      made before the first step: no second model stays in memory). `retain_reference` is the same of retain rows.
    * `alternates`: another answer stands beside each forget row: a `"refusal"`, or one from a `"column"`.
    * `average`: row values are averaged over the step's `"rows"`, or summed over a row's labels and averaged over the
      step's `"labels"`, or over its `"later_labels"`: without the first label of each row of a language model.
    * `retain_average`: the same of the values of retain rows.
    * `kinds`: the kinds of models that it is for; rows of another kind are refused.
    * `formula`, `bound`: for lists of objectives: the loss in a line; what holds the ascent, `UNBOUND` where nothing
      in the formula does.
    * `recovers`: has a term on retain rows, so that a dip of what is kept can mend in the same run. Without one, a
      spent retain budget ends the run at once.
    * `uses_alpha`: reads `alpha`, so that `UnlearnConfig.alpha` is no option of one that does not.
    * `stops_at_target`: the forget term's gradient vanishes by itself as the forget rows come to τ.
    * `strength`: of one that takes no steps, what makes it forget more, and what makes it keep more, for messages.
    * `moving`: names of fields that [`after_step`] changes: no options, but state that a checkpoint keeps.
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    needs: ClassVar[str] = "row_nll"
    reference: ClassVar[str] = "none"
    alternates: ClassVar[str] = "none"
    average: ClassVar[str] = "rows"
    retain_average: ClassVar[str] = "rows"
    kinds: ClassVar[tuple[str, ...]] = KINDS
    formula: ClassVar[str] = ""
    bound: ClassVar[str] = UNBOUND
    recovers: ClassVar[bool] = True
    uses_alpha: ClassVar[bool] = True
    stops_at_target: ClassVar[bool] = False
    strength: ClassVar[tuple[str, str] | None] = None
    moving: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        problems = [
            problem
            for field in dataclasses.fields(self)
            if "check" in field.metadata
            for problem in field.metadata["check"](field.name, getattr(self, field.name))
        ]
        if problems:
            raise ValueError(" ".join(problems))

    # ---- the loss of a step ----

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        """
        The part () of the loss that depends on the step's mean forget loss () and mean retain loss (), nats. Any
        function of the forget loss, plus a constant times the retain loss.
        """
        raise NotImplementedError

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        """The part of the loss that each forget row has, (n,)."""
        raise NotImplementedError

    def retain_row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        """The part of the loss that each retain row has beside its share of L_r, (n,)."""
        raise NotImplementedError

    def hidden_layer(self, layers: int) -> int:
        """Which of the model's layers gives `hidden_states`, 0 … layers - 1; for `needs = "hidden_states"`."""
        raise NotImplementedError

    def edited(self, weights: Tensor, of_forget: Tensor, of_all: Tensor) -> Tensor:
        """
        For an objective that edits the weights, once, and takes no step: what becomes of some weights, of any shape.

        Args:
            of_forget, of_all: means of the squared gradients of a row's mean loss, over the forget rows and over forget
                and retain rows, of the same shape.
        """
        raise NotImplementedError

    def idle_edit(self, most: float, n_forget: int, n: int) -> str:
        """
        Why an edit has moved no weight, and what to do.

        Args:
            most: the largest `of_forget` / `of_all` of a weight; 0 where no weight matters for any forget row.
            n_forget, n: forget rows, and all rows.
        """
        return f"The largest ratio of a weight's two means is {most:.3g}."

    @property
    def edits(self) -> bool:
        """Whether it edits the weights and takes no step."""
        return self.has("edited")

    @property
    def by_rows(self) -> bool:
        """Whether the forget rows' part of the loss is a mean over rows, and not a function of their mean loss."""
        return self.has("row_value")

    @property
    def meets_by_rows(self) -> bool:
        """Whether each forget row has a target of its own; else [`shortfall`] is the distance of their mean from τ."""
        return self.by_rows and self.has("targets")

    @property
    def retains_by_rows(self) -> bool:
        """Whether retain rows have a part of the loss beside their share of L_r."""
        return self.has("retain_row_value")

    @property
    def retain_needs(self) -> str:
        """What [`RowOutputs`] of retain rows holds; as `needs`."""
        return self.needs if self.retains_by_rows else NEEDS[0]

    @property
    def retain_reference(self) -> str:
        """What a retain row brings from before the request; as `reference`, but for `"loss"`."""
        return REFERENCES[0]

    @property
    def side(self) -> str:
        """Which rows the coming step passes through the model: `BOTH`, `FORGET` alone or `RETAIN` alone."""
        return BOTH

    @property
    def row_passes(self) -> float:
        """Row passes of a step for each forget row in it, with the retain row that is paired with it."""
        return (2.0 if self.side == BOTH else 1.0) + (self.alternates != "none")

    @property
    def tolerance(self) -> float:
        """The shortfall that counts as having reached the target."""
        return TOLERANCE

    @property
    def closes(self) -> bool:
        """Whether the forget rows have no gradient at all where their mean loss is at or beyond τ."""
        return self.stops_at_target and not self.by_rows

    def has(self, hook: str) -> bool:
        """Whether the class defines a method that [`Objective`] leaves open."""
        return getattr(type(self), hook) is not getattr(Objective, hook)

    def after_step(self, forget_loss: Tensor, retain_loss: Tensor) -> Objective:
        """
        The objective of the next step, with the `moving` fields moved, from this step's mean losses (), detached; NaN
        where a loss was not finite or the forget rows were not looked at.
        """
        return self

    # ---- how far the forget rows are ----

    def targets(self, start: Start) -> list[float] | None:
        """A target of its own for each forget row, (n,), mean loss in nats; None: the mean loss has one, τ."""
        return None

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        """
        What the forget rows lack of their target, as a share of it; negative beyond it.

        Args:
            forget_loss: mean loss over all labels of the forget set, nats.
            row_losses: mean loss of each forget row, (n,), nats.
            targets: what [`targets`] gave for these rows.
        """
        return shortfall(forget_loss, tau)

    def shortfall_of_mean(self, forget_loss: float, *, tau: float, targets) -> float:
        """An estimate of [`shortfall`] from a mean loss alone, that of a few batches."""
        return shortfall(forget_loss, tau)

    # ---- options ----

    @classmethod
    def fitting(cls, options, of_tokens: bool = False) -> dict:
        """Option -> value, for options of this class whose value depends on the other options (`gap="auto"`)."""
        return {}

    def state(self) -> dict[str, float]:
        """The `moving` fields as plain numbers, for a checkpoint."""
        return {name: float(getattr(self, name)) for name in self.moving}

    def settings(self) -> dict:
        """Option -> value of this class's options, for records and cards."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.moving}
