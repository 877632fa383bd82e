"""Options of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, make_dataclass

from ..objectives import registry
from ..utils.checks import Wrong, is_number, number, one_of, shown, whole
from .replay import ReplayRequestOptions

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


def request_problems(request) -> list[Wrong]:
    """What a ready checkpoint may set for a later request: options of unlearning, nothing else of the Trainer's."""
    if not isinstance(request, dict):
        return [Wrong("request", f"is {shown(request)}; it must be a JSON object of `UnlearnConfig` values.")]
    allowed = [f.name for f in fields(UnlearnOptions)] + list(REQUEST_ARGUMENTS)
    if unknown := sorted(set(request) - set(allowed), key=str):
        own = {name for name, _, _ in registry.fields_of_options()}
        named = ", ".join(name for name in allowed if name not in own)
        said = f"has {', '.join(map(shown, unknown))}; it may have {named}, and the objective's own options."
        return [Wrong("request", said)]
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
class UnlearnOptions(ReplayRequestOptions, ObjectiveOptions):
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
            "passes over the retain rows, but a hundred steps at least.",
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
            "help": "With `gap` `hinge`, while its gate is closed (the forget loss is at or beyond τ, so that term has "
            "no gradient), run the forget rows of every k-th step only, and likewise the simulated recovery. Raise "
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
        default="frozen",
        metadata={
            "metavar": "|".join(TARGETS),
            "help": "What τ is, the loss that the forget rows should come to: `frozen`, the model's loss on unseen "
            "rows before the first step; `current`, that loss as the model moves (the paper; capped), which a model "
            "that is being damaged drags up; `chance`, the loss of guessing: choose it to remove a whole class.",
        },
    )
    references: str = field(
        default="",
        metadata={
            "help": "Folder of the tables that an earlier run of the same model and rows has made (`_references` in "
            "its output folder), for objectives that compare with the model before the request. Left out: they are "
            "made before the first step, in the output folder. They tell what the rows say, those to forget too: "
            "delete them when no request will read them any more."
        },
    )
    saliency: float | None = field(
        default=None,
        metadata={
            "help": "Move only this share of the weights, those with the largest gradient of the forget rows' loss "
            "before the first step, e.g. 0.5 (SalUn); with any objective that takes steps. Left out: all move."
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
            "help": "Stop when the rows are forgotten or a budget is spent; false: always take all "
            "passes, as in the sources, which have no general texts either (`general_dataset` none)."
        },
    )
    retain_budget: float = field(
        default=0.1,
        metadata={
            "help": "Nats by which the retain rows' mean loss may be higher at the end than before the first step; "
            "0.1 means that their labels become about a tenth less likely (geometric mean). A run that reached its "
            "target goes on until it is .02, but no more than twice as long, or a hundred steps in all. Raise it "
            "where the run ends with `retain_budget_spent` before the rows are forgotten. During the run the loss may "
            "rise further, if it falls again; where it does not, or becomes no better than guessing, the last weights "
            "within the budget are put back, and those at the target where some were."
        },
    )

    general_budget: float | None = field(
        default=None,
        metadata={
            "help": "The same for the general texts that are only measured (`general_dataset`). Default: 0.05 nats, a "
            "perplexity 1.05 times as high, for texts that are given; 0.5 for the model's own words, at which no other "
            "model is as good. Raise it where the run ends with `general_budget_spent`."
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
        settled = settled or self.readiness_from == "none"
        kind = registry.OBJECTIVES.get(self.objective) if isinstance(self.objective, str) else None
        cases = []
        if not resists and (settled or "resistance" in given):
            said = '`resistance` is "none". Leave it out, or choose `resistance` "relearn".'
            cases.append((("lambda_resistance", "recovery_steps", "recovery_lr"), said))
        if kind and not resists and (settled or "objective" in given):
            without = f"the objective `{self.objective}`"
            if not kind.uses_alpha:
                own = ", ".join(f"`{field.name}`" for field in registry.option_fields(kind))
                said = f"{without} has no α; its own options are {own}." if own else f"{without} has no α."
                cases.append((("alpha",), f"{said} Leave it out."))
            if not kind.stops_at_target or (is_last and not registry.objective_of(self).closes):
                said = "the gate is that of a hinge on the mean forget loss, and there is none. Leave it out."
                cases.append((("gate_every",), said))
        term = getattr(kind, "usual_retain_term", None) if self.retain_term == "auto" else self.retain_term
        if term == "none" and (settled or {"objective", "retain_term"} <= {*given}):
            said = f"the objective `{self.objective}` is to have no retain term. Leave it out, or choose `retain_term` "
            cases.append((("beta",), f'{said}"nll" or "kl".'))
        if self.target in TARGETS[1:] and (settled or "target" in given):
            said = f'with `target` "{self.target}" τ is measured once. Leave it out, or choose "current".'
            cases.append((("unseen_every",), said))
        if self.method == "objective" and (settled or "method" in given):
            said = '`method` is "objective", which deletes no earlier model. Leave it out, or set that to "replay".'
            cases.append((("keep_superseded",), said))
        if not self.stop and (settled or "stop" in given):
            said = "`stop` is off, and nothing ends the run early. Leave one of the two out."
            cases.append((("retain_budget", "general_budget"), said))
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
        if self.saliency is not None:
            problems += number("saliency", self.saliency, low=0, high=1, open_low=True, open_high=True)
        if self.alpha is not None:
            problems += number("alpha", self.alpha, low=0, high=1)
        if self.general_budget is not None:
            problems += number("general_budget", self.general_budget, low=0, open_low=True)
        words = str(self.passes) if isinstance(self.passes, str) or is_number(self.passes) else ""
        if words != "auto" and not (re.fullmatch("[0-9]{1,9}", words) and int(words) >= 1):
            said = f'is {shown(self.passes)}; it must be "auto" or a whole number of at least 1, up to 999999999.'
            problems.append(Wrong("passes", said))
        return problems + self.replay_problems()
