"""The options that this package adds to `transformers.TrainingArguments`, and their checks. Imports nothing heavy, so
that `--help` answers at once; `config.py` joins them with `TrainingArguments`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, make_dataclass

from .objectives import registry
from .utils.checks import number, one_of, whole

META_GRADIENTS = ("first_order", "finite_difference", "exact")
EFFICIENCIES = ("gain", "loss")
RESISTANCES = ("none", "relearn", "align")
REQUEST_ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "per_device_train_batch_size",
)
TARGETS = ("current", "frozen", "chance")
FORWARDS = ("auto", "together", "in_turn")
GAIN_CAP = 2.0  # nats, the default of `gain_cap` (ours; recipes/study/README.md says on which tasks it was chosen)
INNER_LR, INNER_LR_ADAPTER = 0.005, 0.01  # defaults of `inner_lr` (ours, likewise)


def request_problems(request: dict) -> list[str]:
    """What a ready checkpoint may set for a later request: options of unlearning, nothing else of the Trainer's."""
    allowed = [f.name for f in fields(UnlearnOptions)] + list(REQUEST_ARGUMENTS)
    unknown = sorted(set(request) - set(allowed))
    if not unknown:
        return []
    return [f"`request` has {', '.join(map(repr, unknown))}; it may have {', '.join(allowed)}."]


@dataclass
class ReadyOptions:
    """
    How ready a model is trained to be. Ready2Unlearn (Duan et al. 2025, arXiv:2505.10845), reconstructed: the paper
    fixes the three objectives and the dual loop, the formulas here are ours (see `meta.py`).
    """

    inner_lr: float | None = field(
        default=None,
        metadata={
            "help": "Size of the simulated request's ascent step. With `inner_normalize` the step's length as a share "
            "of the norm of the trainable parameters, else the factor on the gradient. Default: "
            f"{INNER_LR:g}, for an adapter {INNER_LR_ADAPTER:g}."
        },
    )
    inner_steps: int = field(default=1, metadata={"help": "Ascent steps of the simulated request."})
    inner_normalize: bool = field(
        default=True, metadata={"help": "Take steps of fixed length, so that `inner_lr` carries over between models."}
    )
    meta_gradient: str = field(
        default="first_order",
        metadata={
            "help": "`first_order` drops the curvature; `finite_difference` adds it by one more pass over the "
            "revocable rows (needs fp32 weights); `exact` is double backward on one device, the oracle for tests."
        },
    )
    meta_every: int = field(
        default=1,
        metadata={"help": "Readiness terms on every k-th step (with `request_rows` 0: of those with revocable rows)."},
    )
    request_rows: int = field(
        default=16,
        metadata={
            "help": "Revocable rows drawn for each simulated request, beside the step's batch and over all processes; "
            "a resistance term draws as many again. 0: the batch's own revocable rows play the request."
        },
    )
    request_group: str | None = field(
        default=None,
        metadata={
            "help": "With `revocable=None`: column whose values a request would name (class, person, author). Each "
            "simulated request is drawn from random ones of them. Needs `request_rows`."
        },
    )
    meta_rows: float = field(
        default=1.0,
        metadata={
            "help": "Share of a step's rows that pass through the model again at the moved weights: all revocable "
            "ones, and stable ones to fill the share."
        },
    )
    meta_forward: str = field(
        default="auto",
        metadata={
            "help": "Forward of revocable and stable rows at the moved weights: `together` (faster on small batches; "
            "first order and the usual losses only), `in_turn` (fewer activations), `auto` by size."
        },
    )
    meta_start: float = field(
        default=0.5,
        metadata={
            "help": "Share of the training before the readiness terms begin: a model learns first, then gets ready."
        },
    )
    gain_cap: float | None = field(
        default=None,
        metadata={
            "help": f"Nats that one simulated request can gain; more counts nothing. Default: {GAIN_CAP:g}, or the "
            "loss of guessing (log of the number of classes or of the vocabulary), if that is less. One "
            "above the loss of guessing also raises the cap on the losses of a resistance term and of efficiency "
            "`loss`, which is else the loss of guessing."
        },
    )
    lambda_efficiency: float = field(default=0.1, metadata={"help": "Weight of: a request raises the forget loss."})
    lambda_retention: float = field(default=1.0, metadata={"help": "Weight of: after it, the other rows are kept."})
    lambda_resistance: float = field(default=0.0, metadata={"help": "Weight of: it is not undone by later training."})
    efficiency: str = field(
        default="gain",
        metadata={
            "help": "`gain`: the rise of the loss by the request; `loss`: the loss after it (leaks into ascent)."
        },
    )
    resistance: str = field(
        default="none",
        metadata={"help": "`relearn`: simulated recovery step; `align`: cosine of recovery and forget gradient."},
    )
    revocable_share: float = field(
        default=0.25, metadata={"help": "With `revocable=None`: share of each batch that plays the request."}
    )
    request: str | None = field(
        default=None,
        metadata={
            "help": "JSON object of `UnlearnConfig` values that `readiness.json` passes on as defaults to whoever "
            "unlearns from this checkpoint, e.g. '{\"learning_rate\": 1e-4}'."
        },
    )

    @property
    def readiness_is_on(self) -> bool:
        return any(w != 0 for w in (self.lambda_efficiency, self.lambda_retention, self.resistance_weight))

    @property
    def resistance_weight(self) -> float:
        return 0.0 if self.resistance == "none" else self.lambda_resistance

    def request_defaults(self) -> dict:
        return json.loads(self.request) if isinstance(self.request, str) else dict(self.request or {})

    def option_problems(self) -> list[str]:
        problems = [
            *(number("inner_lr", self.inner_lr, low=0) if self.inner_lr is not None else []),
            *whole("inner_steps", self.inner_steps, low=1),
            *whole("meta_every", self.meta_every, low=1),
            *whole("request_rows", self.request_rows, low=0),
            *number("meta_rows", self.meta_rows, low=0, high=1, open_low=True),
            *one_of("meta_forward", self.meta_forward, FORWARDS),
            *number("meta_start", self.meta_start, low=0, high=1),
            *number("lambda_efficiency", self.lambda_efficiency, low=0),
            *number("lambda_retention", self.lambda_retention, low=0),
            *number("lambda_resistance", self.lambda_resistance, low=0),
            *number("revocable_share", self.revocable_share, low=0, high=0.5, open_low=True),
            *one_of("meta_gradient", self.meta_gradient, META_GRADIENTS),
            *one_of("efficiency", self.efficiency, EFFICIENCIES),
            *one_of("resistance", self.resistance, RESISTANCES),
        ]
        if self.request_group and not self.request_rows:
            problems.append("`request_group` is set but `request_rows` is 0; say how many rows a request draws.")
        if self.gain_cap is not None:
            problems += number("gain_cap", self.gain_cap, low=0, open_low=True)
        if self.lambda_resistance and self.resistance == "none":
            problems.append('`lambda_resistance` is set but `resistance` is "none"; choose "relearn" or "align".')
        if self.resistance in RESISTANCES and self.resistance != "none" and not self.lambda_resistance:
            problems.append(f'`resistance` is "{self.resistance}" but `lambda_resistance` is 0; set it, e.g. to 0.1.')
        try:
            problems += request_problems(self.request_defaults())
        except (TypeError, ValueError):
            problems.append(f"`request` is {self.request!r}; it must be a JSON object of `UnlearnConfig` values.")
        return problems


ObjectiveOptions = make_dataclass(
    "ObjectiveOptions",
    [
        (
            "objective",
            "str",
            field(
                default="nabla_tau",
                metadata={
                    "help": f"What the steps minimise: {', '.join(f'`{name}`' for name in registry.OBJECTIVES)}. Its "
                    "own options say `… only` below. A request ends where the forget rows look unseen, whichever it is."
                },
            ),
        ),
        *registry.fields_of_options(),
    ],
    namespace={"__module__": __name__, "__doc__": "The objective of a request, and the options of all objectives."},
)


@dataclass
class UnlearnOptions(ObjectiveOptions):
    """How rows are unlearned: ∇τ (Trippa et al. 2024, arXiv:2403.14339). No value needs a touch."""

    alpha: float | None = field(
        default=None, metadata={"help": "First α of ∇τ. Default: (5/3)·|forget| / |all|, never above .5."}
    )
    passes: str = field(
        default="auto", metadata={"help": "Forget passes at most. `auto`: about three passes over the retain rows."}
    )
    unseen_every: int = field(
        default=5,
        metadata={"help": "Forget passes between two measurements of τ (a pass counts as one step at least)."},
    )
    gate_every: int = field(
        default=1,
        metadata={
            "help": "While the gate is shut (the hinge, forget loss beyond τ), look at a step's forget rows on every "
            "k-th step only; likewise for the simulated recovery."
        },
    )
    forget_forward: str = field(
        default="auto",
        metadata={
            "help": "Forward of forget and retain rows: `together` (faster on small batches), `in_turn` (half the "
            "activations, and no backward behind a shut gate), `auto` by size."
        },
    )
    target: str = field(
        default="current",
        metadata={
            "help": "What τ is: `current`, the model's loss on unseen rows as it moves (the paper; capped); `frozen`, "
            "that loss before the first step; `chance`, the loss of guessing (to remove a whole class)."
        },
    )
    resistance: str = field(
        default="none",
        metadata={
            "help": "`relearn`: each step also plays an attacker who trains on half of its forget rows, and raises the "
            "loss of the other half after that to τ (after TAR). A step then takes twice the row passes, and the hinge "
            "becomes the squared gap."
        },
    )
    lambda_resistance: float = field(
        default=1.0, metadata={"help": "Weight of this term relative to α, that of ∇τ's forget term."}
    )
    recovery_steps: int = field(default=3, metadata={"help": "Steps of the simulated recovery."})
    recovery_lr: float = field(
        default=0.01, metadata={"help": "Length of each of them, as a share of the norm of the trainable parameters."}
    )
    stop: bool = field(
        default=True, metadata={"help": "Stop at the target or at the budget; false: the paper's fixed length."}
    )
    retain_budget: float = field(
        default=0.1,
        metadata={
            "help": "Nats by which the retain rows' mean loss may have risen at the end; 0.1 is a tenth of their "
            "labels' probability (geometric mean). A dip on the way may recover; where it does not, or where the loss "
            "becomes no better than guessing, the last weights within the budget are put back."
        },
    )
    readiness: str = field(
        default="auto",
        metadata={
            "help": "Folder, file or hub id with the `readiness.json` to take defaults from; `auto`: the model's own; "
            "`none`: ignore it."
        },
    )

    def resistance_parameters(self) -> dict:
        on = self.resistance != "none"
        names = ("resistance", *(("lambda_resistance", "recovery_steps", "recovery_lr") if on else ()))
        return {name: getattr(self, name) for name in names}

    def option_problems(self) -> list[str]:
        problems = [
            *one_of("objective", self.objective, registry.OBJECTIVES),
            *registry.option_problems(self),
            *one_of("target", self.target, TARGETS),
            *one_of("forget_forward", self.forget_forward, FORWARDS),
            *whole("unseen_every", self.unseen_every, low=1),
            *whole("gate_every", self.gate_every, low=1),
            *number("retain_budget", self.retain_budget, low=0, open_low=True),
            *one_of("resistance", self.resistance, RESISTANCES[:2]),
            *number("lambda_resistance", self.lambda_resistance, low=0, open_low=True),
            *whole("recovery_steps", self.recovery_steps, low=1),
            *number("recovery_lr", self.recovery_lr, low=0, open_low=True),
        ]
        if self.alpha is not None:
            problems += number("alpha", self.alpha, low=0, high=1)
        if self.passes != "auto" and not (str(self.passes).isdigit() and int(self.passes) >= 1):
            problems.append(f'`passes` is {self.passes!r}; it must be "auto" or a whole number of at least 1.')
        return problems
