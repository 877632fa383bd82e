"""How a request by steps has ended, in a sentence or two: from the data of `hf_unlearn.unlearning.ending`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...unlearning.stop_rule import BUDGET, DONE, GENERAL, INTERRUPTED, MAX_STEPS, REACHED
from .numbers import number

ON = {  # stop reason of a run that was short of its target -> what to do
    DONE: "Raise `learning_rate` (three times), or `passes`.",
    BUDGET: "Lower `learning_rate`, train a LoRA adapter (`lora_r`), or give more retain rows.",
    GENERAL: "Lower `learning_rate`, train a LoRA adapter (`lora_r`), or raise `general_budget`.",
    MAX_STEPS: "Leave `max_steps` unset.",
    INTERRUPTED: "Go on by `resume_from_checkpoint`.",
}
PULLED_BACK = '; `gap="squared"` pulls it back from there'  # of an objective with gaps
NO_CLAIM = "The run did not end by that, so its record claims nothing (`not_forgotten`)."
MOST = 700.0  # nats whose exponential is a number


def told(
    end: Mapping[str, Any], reason: str | None, strength: tuple[str, str] | None = None, has_gap: bool = True
) -> str:
    """
    What the saved weights know of the rows, beside what rows that they never saw have; and what to do about it.

    Args:
        strength: what makes a request without steps forget more, and what makes it keep more.
        has_gap: the objective has the option `gap`.
    """
    more, milder = strength or ("", "Lower `learning_rate`")
    kept = f"The retain rows have {number(end['retain_loss'])}, before {number(end['retain_before'])}"
    kept += "." if end["kept"] else f": more than the {number(end['retain_limit'])} that the budget allows."
    if end.get("general_loss") is not None:
        kept += f" The perplexity of general texts is {_times(end, 'general_loss')} times what it was"
        kept += "." if end["able"] else f": more than the {_times(end, 'general_limit')}."
    found = _found(end)
    if not end["forgotten"]:
        advice = f"{milder if reason in (BUDGET, GENERAL) else more}." if strength else ON.get(reason, ON[DONE])
        return f"Not forgotten{found} {kept} {advice}"
    said = [f"Forgotten{found}"]
    if end["beyond"]:
        said.append(
            f"It is far beyond, by which the rows stand out as deleted. {milder}{PULLED_BACK if has_gap else ''}."
        )
    if reason != REACHED:
        said.append(NO_CLAIM)
    return " ".join([*said, kept])


def _found(end: Mapping[str, Any]) -> str:
    """How far the forget rows are: their mean, or where each has a target of its own, all of them."""
    loss, tau = number(end["forget_loss"]), number(end["tau"])
    if end["by_rows"]:
        lacking = f"{number(end['shortfall'])}, of at most {number(end['tolerance'])}"
        return f", row by row: their shortfall is {lacking}; their mean loss is {loss} nats, τ {tau}."
    if end["forgotten"]:
        return f" by the mean loss: that of the forget rows is {loss} nats, of {tau}."
    return f": the forget rows' loss is {loss} nats, of {tau}."


def _times(end: Mapping[str, Any], now: str) -> str:
    """A perplexity over that before the request."""
    more = end[now] - end["general_before"]
    return f"{math.inf if more > MOST else math.exp(more):.3g}"
