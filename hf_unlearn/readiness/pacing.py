"""
When a training simulates requests: pure functions from its losses and its length to the step of the next request.

A training is cut into windows. Requests begin after the window whose mean loss says that the model has learned
(`begins`): before, they hold it back. There are as many as the budget of row passes pays for (`Rule.turns`), and they
begin no sooner than brings one on every fourth step (`Rule.earliest`), since the model forgets its readiness for what
it learns afterwards. They are spread evenly over the steps that are left, and weigh as much more as they are rarer
(`weight`). The loss of later
windows is their price: where it rises above the lowest since they began (`limit`), they pause until it is back, and
then come half as often. How far a simulated request raises the loss of its rows, its gain, says at the end whether any
of this was worth its cost (`gain_came`).

Differs from the paper: it simulates requests from the first step on; all of this is ours.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

WINDOWS = 20  # of a training
LEARNED = 0.1  # share of its first window's loss at which a model counts as one that has learned
FLAT = 0.05  # of the loss: what falls by less from one window to the second after it no longer falls
MOVED = 0.1  # of the first window's loss: what has fallen by less may only not have started yet
RISE, RISE_OF_FIRST = 0.1, 0.01  # of the lowest loss, and of the first window's: what requests may cost together
SPARSEST = 4  # steps from one request to the next
HEAVIEST = 5.0  # times that a request's efficiency term may weigh for the steps without one
ENOUGH_GAIN = 0.25  # of the gain's cap: below it requests take about as long as from a plain model
RECENT = 0.25  # weight of the last request in the running mean of gains


@dataclass(frozen=True)
class Rule:
    """
    The fixed part.

    Args:
        steps: of the training.
        warmup: steps before which no request comes, since the loss says nothing while the learning rate still rises.
        chance: loss of guessing in nats.
        budget: row passes that requests may add, as a share of those of the training without them.
        turn_cost: row passes that a request adds to its step, as a share of the step's.
        every: a request comes on every so manieth step at most.
    """

    steps: int
    warmup: int
    chance: float
    budget: float
    turn_cost: float
    every: int = 1

    @property
    def window(self) -> int:
        """Steps of a window."""
        return max(1, self.steps // WINDOWS)

    @property
    def turns(self) -> int:
        """Requests that the budget pays for."""
        return int(self.budget * self.steps / self.turn_cost + 1e-9)

    @property
    def earliest(self) -> int:
        """Step before which no request comes."""
        return max(self.warmup, self.steps - max(SPARSEST, self.every) * self.turns)


@dataclass(frozen=True)
class Pace:
    """
    The moving part; plain numbers, so that a checkpoint can hold it. Losses are mean main losses of a step, in nats.

    Args:
        step: steps done.
        total, count: sum and number of the finite losses of the present window.
        means: of the first window and of the last three whole ones.
        began: step of the first request; None: the model has not learned yet.
        lowest: mean loss of the window before, or of a later one that has less.
        paused: the loss has risen too far.
        backed_off: how often it has.
        turns: requests so far.
        due: step of the next one.
        gain_first, gain: of the first request, and the running mean of all; None: there was none.
    """

    step: int = 0
    total: float = 0.0
    count: int = 0
    means: tuple[float, ...] = ()
    began: int | None = None
    lowest: float = math.inf
    paused: bool = False
    backed_off: int = 0
    turns: int = 0
    due: float = 0.0
    gain_first: float | None = None
    gain: float | None = None

    def to_dict(self) -> dict:
        """JSON-ready: no inf."""
        return {**asdict(self), "means": list(self.means), "lowest": None if self.began is None else self.lowest}

    @classmethod
    def from_dict(cls, found: dict) -> Pace:
        lowest = math.inf if found["lowest"] is None else found["lowest"]
        return cls(**{**found, "means": tuple(found["means"]), "lowest": lowest})


def saw_loss(rule: Rule, pace: Pace, loss: float) -> Pace:
    """The pace after a step with this main loss, the same on all processes; one that is not finite is passed over."""
    pace = replace(pace, step=pace.step + 1)
    if math.isfinite(loss):
        pace = replace(pace, total=pace.total + loss, count=pace.count + 1)
    if pace.step % rule.window or not pace.count:
        return pace
    mean, first = pace.total / pace.count, pace.means[:1]
    pace = replace(pace, total=0.0, count=0, means=(*first, *(*pace.means[len(first) :], mean)[-3:]))
    if pace.began is None:
        return replace(pace, began=pace.step, due=pace.step, lowest=mean) if begins(rule, pace) else pace
    risen = mean > limit(pace)
    pace = replace(pace, lowest=min(pace.lowest, mean), backed_off=pace.backed_off + (risen and not pace.paused))
    return replace(pace, paused=risen)


def begins(rule: Rule, pace: Pace) -> bool:
    """
    Whether the model has learned: a tenth of its first loss is left, or the loss no longer falls. It must have fallen
    before that, or have been far below that of guessing from the start.
    """
    if pace.step <= rule.warmup or pace.step < rule.earliest or len(pace.means) < 2:
        return False
    first, last = pace.means[0], pace.means[-1]
    if last <= LEARNED * first:
        return True
    started = last <= (1 - MOVED) * first or first <= rule.chance / 2
    return started and len(pace.means) > 3 and pace.means[-3] - last <= FLAT * last


def limit(pace: Pace) -> float:
    """The loss in nats beyond which requests cost too much."""
    return (1 + RISE) * pace.lowest + RISE_OF_FIRST * pace.means[0]


def is_due(rule: Rule, pace: Pace) -> bool:
    """Whether the next step simulates a request, if it has the rows for one."""
    return pace.began is not None and not pace.paused and pace.turns < rule.turns and pace.step >= pace.due


def spacing(rule: Rule, pace: Pace) -> float:
    """Steps from one request to the next, without back-offs."""
    return max(1.0, rule.every, (rule.steps - pace.began) / max(1, rule.turns))


def weight(rule: Rule, pace: Pace) -> float:
    """
    Times that the efficiency term of a request weighs: it stands for the steps without one, too. Those that a back-off
    adds do not count.
    """
    return min(HEAVIEST, spacing(rule, pace))


def took_turn(rule: Rule, pace: Pace, gain: float | None) -> Pace:
    """The pace after a request, in the step that is not done yet; `gain` in nats, None where it was not measured."""
    every = spacing(rule, pace) * 2**pace.backed_off
    last = pace.due if pace.due > pace.step - 1 else pace.step  # after a pause nothing is made up for
    pace = replace(pace, turns=pace.turns + 1, due=last + every)
    if gain is None or not math.isfinite(gain):
        return pace
    mean = gain if pace.gain is None else (1 - RECENT) * pace.gain + RECENT * gain
    return replace(pace, gain=mean, gain_first=gain if pace.gain_first is None else pace.gain_first)


def gain_came(pace: Pace, cap: float) -> bool:
    """Whether simulated requests raise the loss of their rows enough for real ones to be shorter; `cap` in nats."""
    return pace.gain is None or pace.gain >= ENOUGH_GAIN * cap
