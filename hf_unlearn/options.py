"""The options that this package adds to `transformers.TrainingArguments`, and their checks. Imports nothing heavy, so
that `--help` answers at once; `config.py` joins them with `TrainingArguments`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, fields, make_dataclass

from .objectives import registry
from .utils.checks import Wrong, is_number, number, one_of, plain, shown, whole

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


def request_problems(request) -> list[Wrong]:
    """What a ready checkpoint may set for a later request: options of unlearning, nothing else of the Trainer's."""
    if not isinstance(request, dict):
        return [Wrong("request", f"is {shown(request)}; it must be a JSON object of `UnlearnConfig` values.")]
    allowed = [f.name for f in fields(UnlearnOptions)] + list(REQUEST_ARGUMENTS)
    if unknown := sorted(set(request) - set(allowed), key=str):
        return [Wrong("request", f"has {', '.join(map(shown, unknown))}; it may have {', '.join(allowed)}.")]
    return []


def unread(options, given, cases) -> list[Wrong]:
    """
    Options that were given a value, other than their default, which nothing reads beside the values of the others.

    Args:
        given: names of the options that somebody has set.
        cases: `(names, why)` of options that nothing reads.
    """
    defaults = {f.name: f.default for f in fields(options)}
    return [
        Wrong(name, f"is {shown(getattr(options, name))}, but nothing reads it: {why}")
        for names, why in cases
        for name in names
        if name in given and getattr(options, name) != defaults[name]
    ]


@dataclass
class ReadyOptions:
    """
    How ready a model is trained to be. Ready2Unlearn (Duan et al. 2025, arXiv:2505.10845), reconstructed: the paper
    fixes the three objectives and the dual loop, the formulas here are ours (see `hf_unlearn.readiness`).
    """

    inner_lr: float | None = field(
        default=None,
        metadata={
            "help": "Size of the ascent step that simulates a request: with `inner_normalize` its length as a "
            "share of the norm of the trainable parameters, else the factor on the gradient. Raise it where "
            "`probe.gain` in readiness.json stays near 0; lower it where training becomes unsteady. Default: "
            f"{INNER_LR:g}, for an adapter {INNER_LR_ADAPTER:g}."
        },
    )
    inner_steps: int = field(
        default=1,
        metadata={
            "help": "Ascent steps of a simulated request. More imitate a longer request, and each costs one "
            "more pass over its rows."
        },
    )
    inner_normalize: bool = field(
        default=True,
        metadata={
            "help": "Take ascent steps of a fixed length, so that one `inner_lr` fits models of all sizes. "
            "Leave it on unless the gradient's own length is to count."
        },
    )
    meta_gradient: str = field(
        default="first_order",
        metadata={
            "metavar": "|".join(META_GRADIENTS),
            "help": "How the gradient gets back through the simulated request: `first_order` leaves out the "
            "curvature and is the cheapest; `finite_difference` adds it by one more pass over the revocable "
            "rows, and needs float32 weights; `exact` is double backward on one device, to check the other two "
            "on a small model.",
        },
    )
    meta_every: int = field(
        default=1,
        metadata={
            "help": "Simulate a request on every k-th step (with `request_rows` 0: of those whose batch has "
            "revocable rows). Raise it to make training cheaper and the model less ready."
        },
    )
    request_rows: int = field(
        default=16,
        metadata={
            "help": "Revocable rows drawn for each simulated request, beside the step's batch and over all "
            "processes; a resistance term draws as many again. Lower it to make a step cheaper; 0: the batch's "
            "own revocable rows play the request."
        },
    )
    request_group: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "Where nobody is named as revocable (`revocable=None`, on the command line --revocable "
            "any): column whose values a request would name, such as a person, an author or a class. Each "
            "simulated request is drawn from random ones of them. Needs `request_rows`.",
        },
    )
    meta_rows: float = field(
        default=1.0,
        metadata={
            "help": "Share of a step's rows that pass through the model again after the simulated request: all "
            "revocable ones, and stable ones to fill the share. Lower it to make a step cheaper."
        },
    )
    meta_forward: str = field(
        default="auto",
        metadata={
            "metavar": "|".join(FORWARDS),
            "help": "How revocable and stable rows pass through the model after the simulated request: "
            "`together` (faster on small batches; first order and the usual losses only), `in_turn` (fewer "
            "activations in memory), `auto` by size.",
        },
    )
    meta_start: float = field(
        default=0.5,
        metadata={
            "help": "Share of the training before requests are simulated: a model learns first, then gets "
            "ready. Lower it for a model that knows its task already."
        },
    )
    gain_cap: float | None = field(
        default=None,
        metadata={
            "help": "Most nats that one simulated request can be rewarded for; more counts nothing, so that "
            f"training does not drive losses ever higher. Default: {GAIN_CAP:g}, or the loss of guessing (log of the "
            "number of classes or of the vocabulary) where that is less. A cap above the loss of guessing also raises "
            "the cap on the losses of a resistance term and of efficiency `loss`, which is the loss of guessing "
            "otherwise."
        },
    )
    lambda_efficiency: float = field(
        default=0.1,
        metadata={
            "help": "Weight of the efficiency term, which rewards a rise of the forget loss after a simulated "
            "request. Raise it for requests that take fewer steps; 0 leaves the term out."
        },
    )
    lambda_retention: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the retention term, which penalises the loss of the other rows after a simulated "
            "request. Raise it where requests cost accuracy on what is to be kept; 0 leaves the term out."
        },
    )
    lambda_resistance: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the resistance term, which penalises that training on like rows brings the "
            "forgotten ones back. Set it together with `resistance`, e.g. to 0.1."
        },
    )
    efficiency: str = field(
        default="gain",
        metadata={
            "metavar": "|".join(EFFICIENCIES),
            "help": "What the efficiency term rewards: `gain`, the rise of the forget loss by the request; "
            "`loss`, the forget loss after it, which also rewards not learning the rows at all.",
        },
    )
    resistance: str = field(
        default="none",
        metadata={
            "metavar": "|".join(RESISTANCES),
            "help": "Resistance term: `relearn` rewards a high forget loss after the request and a step of training on "
            "rows like the forgotten ones; `align` penalises that the gradients of such a step and of the forget rows "
            "agree (their cosine); `none`.",
        },
    )
    revocable_share: float = field(
        default=0.25,
        metadata={
            "help": "Where nobody is named as revocable and there is no `request_group`: share of each batch that "
            "plays the request."
        },
    )
    request: str | None = field(
        default=None,
        metadata={
            "metavar": "JSON",
            "help": "JSON object of `UnlearnConfig` values to recommend for requests to this checkpoint, e.g. "
            "'{\"learning_rate\": 1e-4}'. They travel in readiness.json and hold for whatever the one who "
            "unlearns does not set.",
        },
    )

    @property
    def readiness_is_on(self) -> bool:
        return any(w != 0 for w in (self.lambda_efficiency, self.lambda_retention, self.resistance_weight))

    @property
    def resistance_weight(self) -> float:
        return 0.0 if self.resistance == "none" else self.lambda_resistance

    def idle_options(self, given) -> list[Wrong]:
        """Options that were `given` and that nothing reads, whatever the rows. Where readiness is off, none is told."""
        if not self.readiness_is_on:
            return []
        cases = []
        if self.request_group:
            cases.append((("revocable_share",), "`request_group` says who asks. Leave one of the two out."))
        if not self.lambda_efficiency:
            said = "`lambda_efficiency` is 0. Leave it out, or set `lambda_efficiency`, e.g. to 0.1."
            capped = self.resistance == "relearn"
            cases.append((("efficiency",) if capped else ("efficiency", "gain_cap"), said))
        return unread(self, given, cases)

    def idle_beside_rows(self, given, named: bool) -> list[Wrong]:
        """
        Options that were `given` and that nothing reads with these rows.

        Args:
            named: whether a column says which rows are revocable.
        """
        if not self.readiness_is_on:
            return []
        cases = []
        if named:
            cases.append((("revocable_share",), "the rows say which of them are revocable. Leave it out."))
        elif not self.request_group and self.request_rows:
            said = (
                "where nobody is named as revocable, a share of each batch plays the request. Leave it out, and set "
                "`revocable_share`; or name a `request_group` to draw from."
            )
            cases.append((("request_rows",), said))
        return unread(self, given, cases)

    def request_defaults(self) -> dict:
        """
        The recommended values, JSON-ready; {} where there are none.

        Raises:
            ValueError: if `request` is no JSON object.
        """
        found = {} if self.request is None else self.request
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except RecursionError as error:
                raise ValueError("`request` is nested too deeply.") from error
        if not isinstance(found, dict):
            raise ValueError("`request` is no JSON object.")
        return {name: plain(value) for name, value in found.items()}

    def option_problems(self) -> list[str]:
        problems = [
            *(number("inner_lr", self.inner_lr, low=0, open_low=True) if self.inner_lr is not None else []),
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
        except ValueError:
            said = f"is {shown(self.request)}; it must be a JSON object of `UnlearnConfig` values."
            problems.append(Wrong("request", said))
        if not isinstance(self.request_group, (str, type(None))):
            problems.append(Wrong("request_group", f"is {shown(self.request_group)}; it must be the name of a column."))
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
    """How rows are unlearned: ∇τ (Trippa et al. 2024, arXiv:2403.14339). No option has to be set."""

    alpha: float | None = field(
        default=None,
        metadata={
            "help": "First weight α of ∇τ's forget term; that of the retain term is 1 − α. Raise it where too "
            "little is forgotten. Default: (5/3)·|forget| / |all|, never above .5."
        },
    )
    passes: str = field(
        default="auto",
        metadata={
            "metavar": "N|auto",
            "help": "Forget passes (each forget row once) that a request takes at most. Raise it where the run "
            "ends with all passes done before the rows are forgotten. `auto`: as many as make about three "
            "passes over the retain rows.",
        },
    )
    unseen_every: int = field(
        default=5,
        metadata={
            "help": "Forget passes between two measurements of τ on the unseen rows; a pass counts as one step "
            "at least. Raise it where there are many unseen rows and looks take long."
        },
    )
    gate_every: int = field(
        default=1,
        metadata={
            "help": "While the hinge gate is closed (the forget loss is at or beyond τ, so the forget term has no "
            "gradient), run the forget rows of every k-th step only, and likewise the simulated recovery. Raise "
            "it, e.g. to 8, where many such steps follow each other: it saves the forward passes of these rows."
        },
    )
    forget_forward: str = field(
        default="auto",
        metadata={
            "metavar": "|".join(FORWARDS),
            "help": "How forget and retain rows pass through the model: `together` (faster on small batches), "
            "`in_turn` (half the activations in memory, and no backward of forget rows while the hinge gate is "
            "closed), `auto` by size.",
        },
    )
    target: str = field(
        default="current",
        metadata={
            "metavar": "|".join(TARGETS),
            "help": "What τ is, the loss that the forget rows should come to: `current`, the model's loss on "
            "unseen rows as it moves (the paper; capped); `frozen`, that loss before the first step; `chance`, "
            "the loss of guessing: choose it to remove a whole class.",
        },
    )
    resistance: str = field(
        default="none",
        metadata={
            "metavar": "|".join(RESISTANCES[:2]),
            "help": "`relearn`: each step also plays an attacker who trains on half of its forget rows, and "
            "raises the loss of the other half after that to τ (after TAR). Choose it where others may "
            "fine-tune the model. A step then takes twice the row passes, and `gap` auto means `squared`.",
        },
    )
    lambda_resistance: float = field(
        default=1.0, metadata={"help": "Weight of the resistance term relative to α, the weight of ∇τ's forget term."}
    )
    recovery_steps: int = field(default=3, metadata={"help": "Steps of the attacker that `resistance` simulates."})
    recovery_lr: float = field(
        default=0.01,
        metadata={
            "help": "Length of each of the attacker's steps, as a share of the norm of the trainable parameters."
        },
    )
    stop: bool = field(
        default=True,
        metadata={
            "help": "Stop when the rows are forgotten or the retain budget is spent; false: always take all "
            "passes, as in the paper."
        },
    )
    retain_budget: float = field(
        default=0.1,
        metadata={
            "help": "Nats by which the retain rows' mean loss may be higher at the end than before the first step; "
            "0.1 means that their labels become about a tenth less likely (geometric mean). Raise it where the run "
            "ends with `retain_budget_spent` before the rows are forgotten. During the run the loss may rise further, "
            "if it falls again; where it does not, or becomes no better than guessing, the last weights within the "
            "budget are put back."
        },
    )
    readiness: str = field(
        default="auto",
        metadata={
            "metavar": "auto|none|MODEL",
            "help": "Where to take recommended values from: `auto`, the model's own readiness.json; a folder, "
            "file or hub id; `none`: nowhere. What you set yourself always stands.",
        },
    )

    def idle_options(self, given, settled: bool = False) -> list[Wrong]:
        """
        Options that were `given` and that nothing reads beside the others.

        Args:
            settled: nothing changes the others any more, and what "auto" stands for is in its place. Else a ready
                checkpoint may recommend values for those that nobody has set: only what rests on set ones is told.
        """
        is_last, resists = settled, self.resistance != "none"
        settled = settled or self.readiness == "none"
        kind = registry.OBJECTIVES.get(self.objective) if isinstance(self.objective, str) else None
        cases = []
        if not resists and (settled or "resistance" in given):
            said = '`resistance` is "none". Leave it out, or choose `resistance` "relearn".'
            cases.append((("lambda_resistance", "recovery_steps", "recovery_lr"), said))
        if kind and not resists and (settled or "objective" in given):
            without = f"the objective `{self.objective}`"
            if not kind.uses_alpha:
                own = " and ".join(f"`{field.name}`" for field in registry.option_fields(kind))
                said = f"{without} has no α; its own options are {own}." if own else f"{without} has no α."
                cases.append((("alpha",), f"{said} Leave it out."))
            if not kind.stops_at_target or (is_last and registry.objective_of(self).by_rows):
                said = "the gate is that of a hinge on the mean forget loss, and there is none. Leave it out."
                cases.append((("gate_every",), said))
        if self.target in TARGETS[1:] and (settled or "target" in given):
            said = f'with `target` "{self.target}" τ is measured once. Leave it out, or choose "current".'
            cases.append((("unseen_every",), said))
        if not self.stop and (settled or "stop" in given):
            said = "`stop` is off, and nothing ends the run early. Leave one of the two out."
            cases.append((("retain_budget",), said))
        return unread(self, given, cases)

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
        words = str(self.passes) if isinstance(self.passes, str) or is_number(self.passes) else ""
        if words != "auto" and not (re.fullmatch("[0-9]{1,9}", words) and int(words) >= 1):
            said = f'is {shown(self.passes)}; it must be "auto" or a whole number of at least 1, up to 999999999.'
            problems.append(Wrong("passes", said))
        if not isinstance(self.readiness, (str, os.PathLike)):
            said = f'is {shown(self.readiness)}; it must be "auto", "none", or a folder, file or hub id.'
            problems.append(Wrong("readiness", said))
        return problems
