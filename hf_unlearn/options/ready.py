"""Options of a training that makes a model ready for later requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields

from ..utils.checks import Wrong, number, one_of, plain, shown, whole
from .replay import ReplayOptions
from .unlearn import FORWARDS, RESISTANCES, request_problems, unread

META_GRADIENTS = ("first_order", "finite_difference", "exact")
EFFICIENCIES = ("gain", "loss")
GAIN_CAP = 2.0  # nats, the default of `gain_cap` (ours; recipes/study/README.md says on which tasks it was chosen)
PLANNED_START = 0.5  # of the steps (ours): `meta_start` of a training whose simulated requests are planned in advance
INNER_LR, INNER_LR_ADAPTER = 0.005, 0.01  # defaults of `inner_lr` (ours, likewise)


@dataclass
class ReadyOptions(ReplayOptions):
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
            "revocable rows); with `meta_start` auto on no more than these. Raise it to make training cheaper and the "
            "model less ready."
        },
    )
    request_rows: int = field(
        default=16,
        metadata={
            "help": "Revocable rows drawn for each simulated request, beside the step's batch and over all "
            "processes; a resistance term draws as many again. Lower it to make a step cheaper, which with "
            "`meta_start` auto makes more steps simulate one; 0: the batch's "
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
    meta_start: str = field(
        default="auto",
        metadata={
            "metavar": "auto|SHARE",
            "help": "When requests begin to be simulated. `auto`: once the training loss says that the model has "
            "learned (a tenth of its first loss is left, or it no longer falls); they then keep within `meta_budget`, "
            "and pause where the loss rises. A number: after that share of the steps, whatever the loss and the cost. "
            "With `replay+meta`, where all is planned in advance, `auto` is half.",
        },
    )
    meta_budget: float = field(
        default=0.25,
        metadata={
            "help": "With `meta_start` auto: row passes that simulated requests may add, as a share of those of the "
            "training without them. They are spread evenly over the last steps, at most four steps apart, and weigh as "
            "much more as they are rarer. Raise it for shorter requests and a longer training.",
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

    memory_config: str | None = field(
        default=None,
        metadata={
            "metavar": "JSON",
            "help": "With `memory`: JSON object of `MemoryConfig` values, e.g. '{\"layers\": [6, 12]}'; what is not "
            "there has its default.",
        },
    )

    def memory_values(self) -> dict:
        """
        `memory_config` as a dict; {} where there is none.

        Raises:
            ValueError: if it is no JSON object.
        """
        found = {} if self.memory_config is None else self.memory_config
        found = json.loads(found) if isinstance(found, str) else found
        if not isinstance(found, dict):
            raise ValueError(f"it must be a JSON object; it is {shown(self.memory_config)}.")
        return found

    @property
    def readiness_is_on(self) -> bool:
        """Whether requests are simulated."""
        return self.readiness in ("meta", "replay+meta") and any(
            w != 0 for w in (self.lambda_efficiency, self.lambda_retention, self.resistance_weight)
        )

    @property
    def is_paced(self) -> bool:
        """Whether the training loss says when requests are simulated."""
        return self.readiness == "meta" and self.readiness_is_on and self.meta_start == "auto"

    @property
    def planned_start(self) -> float:
        """Share of the steps before which no request is simulated, where the loss does not say when."""
        return PLANNED_START if self.meta_start == "auto" else float(self.meta_start)

    @property
    def resistance_weight(self) -> float:
        return 0.0 if self.resistance == "none" else self.lambda_resistance

    def idle_options(self, given) -> list[Wrong]:
        """Options that were `given` and that nothing reads, whatever the rows. Where readiness is off, none is told."""
        if self.readiness == "replay":
            said = '`readiness` is "replay", without simulated requests. Leave it out, or set that to "replay+meta".'
            return unread(self, given, [(options_of_simulated_requests(), said)])
        if not self.readiness_is_on:
            return []
        cases = []
        if not self.is_paced:
            said = "simulated requests keep within it only with `readiness` meta and `meta_start` auto. Leave it out."
            cases.append((("meta_budget",), said))
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
            *self._start_problems(),
            *number("meta_budget", self.meta_budget, low=0, open_low=True),
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
        return problems + self.replay_problems()

    def _start_problems(self) -> list[str]:
        try:
            return [] if self.meta_start == "auto" else number("meta_start", float(str(self.meta_start)), low=0, high=1)
        except ValueError:
            return [Wrong("meta_start", f'is {shown(self.meta_start)}; it must be "auto" or a share of the steps.')]


def options_of_simulated_requests() -> list[str]:
    """Names of the options that only `readiness` "meta" and "replay+meta" read."""
    others = {f.name for f in fields(ReplayOptions)} | {"request", "memory_config"}
    return [f.name for f in fields(ReadyOptions) if f.name not in others]
