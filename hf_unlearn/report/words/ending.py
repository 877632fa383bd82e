"""How a request by steps has ended, in a sentence or two: from the data of `hf_unlearn.unlearning.ending`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...unlearning.stop_rule import BUDGET, DONE, GENERAL, INTERRUPTED, MAX_STEPS
from .numbers import number

ON = {  # stop reason of a run that was short of its target -> what to do
    DONE: "Raise `learning_rate` (three times), or `passes`.",
    BUDGET: "Lower `learning_rate`, train a LoRA adapter (`lora_r`), or give more retain rows.",
    GENERAL: "Lower `learning_rate`, train a LoRA adapter (`lora_r`), or raise `general_budget`.",
    MAX_STEPS: "Leave `max_steps` unset.",
    INTERRUPTED: "Go on by `resume_from_checkpoint`.",
}
PULLED_BACK = '`gap="squared"` pulls it back.'


def told(end: Mapping[str, Any], reason: str | None) -> str:
    """What the saved weights know of the rows, beside what rows that they never saw have; and what to do about it."""
    found = f"{number(end['forget_loss'])} nats, of {number(end['tau'])}"
    kept = f"The retain rows have {number(end['retain_loss'])}, before {number(end['retain_before'])}"
    kept += "." if end["kept"] else f": more than the {number(end['retain_limit'])} that the budget allows."
    if end.get("general_loss") is not None:
        times = math.exp(end["general_loss"] - end["general_before"])
        kept += f" The perplexity of general texts is {times:.3g} times what it was"
        kept += "." if end["able"] else f": more than the {math.exp(end['general_limit'] - end['general_before']):.3g}."
    if not end["forgotten"]:
        return f"Not forgotten: the forget rows' loss is {found}. {kept} {ON.get(reason, ON[DONE])}"
    beyond = f" It is far beyond, by which the rows stand out as deleted: {PULLED_BACK}" if end["beyond"] else ""
    return f"Forgotten by the mean loss: that of the forget rows is {found}.{beyond} {kept}"
