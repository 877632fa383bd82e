"""What a verb says while it runs, on stderr: a line at once, then one bar over all its steps; the first process speaks.
Light, since the line comes before the heavy imports."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LINES_EVERY = 30.0  # seconds between two lines of one step where there is no terminal to draw a bar on
FIRST_ESTIMATE = 0.05  # share of a step that must be done before its speed says how long the rest takes
SHORT = 0.02  # weight of a step that says nothing of how long the others take
WIDTH = 20  # of the bar, in characters


@dataclass(frozen=True)
class Step:
    """
    One of the steps of a run.

    Args:
        weight: how long it takes, in plain trainings.
        kind: steps of one kind take as long as their weights say, whatever those of another kind take: what the first
            of them took tells of the next ones.
    """

    title: str
    weight: float = 1.0
    kind: str = ""


def short(title: str) -> Step:
    return Step(title, SHORT)


def speaks() -> bool:
    """Whether this process is the first of its machine: the others run silently."""
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) in ("", "0", "-1")


def draws() -> bool:
    """Whether a bar is drawn: on a terminal, unless TQDM_DISABLE is set."""
    return sys.stderr.isatty() and os.environ.get("TQDM_DISABLE", "").lower() in ("", "0", "false")


def say(text: str) -> None:
    if speaks():
        print(text, file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """One bar is drawn, ours: not one for each file of weights that is read and each split that is tokenized."""
    import datasets
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    warnings.filterwarnings("ignore", message=".*pin_memory.*")  # there is no accelerator, and nothing to be done
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")  # between these two
    datasets.disable_progress_bars()
    downloads = not are_progress_bars_disabled()
    transformers.utils.logging.disable_progress_bar()  # of downloads, too
    if downloads and draws() and speaks():
        enable_progress_bars()


def how_long(seconds: float) -> str:
    """A length of time in a word or two."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """
    One bar over the steps of a run, or a line at the beginning of each where there is no terminal.

        with Progress([short("reading the rows"), Step("training"), short("saving")]) as progress:
            progress.next()
            …
            progress.next()
            progress.at(120, 900, "loss 0.53")

    Args:
        steps: in their order.
        bar: False draws none, on a terminal either.
        clock: gives seconds.
    """

    def __init__(self, steps: Sequence[Step], bar: bool = True, clock: Callable[[], float] = time.monotonic):
        self.steps, self.bar, self.clock = list(steps), bar, clock
        self.number = 0  # of the present step, from 1
        self.share, self.note, self.at_most = 0.0, "", False
        self._began = self._works = self._said = clock()  # `_works`: since when the present step gets on
        self._before = 0.0  # share of the present step that an earlier run had done
        self._took: list[tuple[Step, float, float]] = []  # steps, how much of their weight was done, in what seconds
        self._drawn = 0  # characters on the line

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self.end()

    def next(self) -> None:
        """The present step is done, the next one begins."""
        now = self.clock()
        if self.number and (weight := self._weight(1.0)):
            self._took.append((self.steps[self.number - 1], weight, now - self._began))
        self.number += 1
        self.share, self.note, self.at_most, self._before = 0.0, "", False, 0.0
        self._began = self._works = now
        self._show(always=True)

    def starts(self, done: float, total: float) -> None:
        """The work of the present step begins now, after what it took to get there; so much of it was done before."""
        self.share = self._before = min(1.0, done / total) if total else 0.0
        self._works = self.clock()

    def at(self, done: float, total: float, note: str = "", at_most: bool = False) -> None:
        """So much of the present step is done; `at_most`: the rest may be cut short."""
        self.share = max(self.share, min(1.0, done / total) if total else 0.0)  # what runs again takes nothing back
        self.note, self.at_most = note, at_most
        self._show()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self.end()
        say(text)

    def end(self) -> None:
        """Takes the bar away: what comes now begins on an empty line."""
        if self._drawn:
            sys.stderr.write("\r" + " " * self._drawn + "\r")
            sys.stderr.flush()
            self._drawn = 0

    # ---- what is shown ----

    def seconds_left(self) -> float | None:
        """
        By the seconds that a weight of one has taken so far, in steps of the same kind where there were any, else in
        all of them; of the present step, the more of it is done, the more by its own speed. None where nothing tells.
        """
        step, now, took = self.steps[self.number - 1], self.clock(), list(self._took)
        pace, rest = _pace(took, step.kind), 0.0
        expected = None if pace is None else pace * self._weight(1.0)
        done = (self.share - self._before) / (1 - self._before) if self._before < 1 else 1.0  # of what this run does
        if step.weight > SHORT and done >= FIRST_ESTIMATE and now - self._works > 2:
            own = (now - self._works) / done
            rest = (1 - done) * (own if expected is None else done * own + (1 - done) * expected)
            if not self.at_most and self._before < 1:  # it may end now: what that took is not known before
                took.append((step, self._weight(self.share), now - self._began))
        elif step.weight > SHORT and expected is not None:
            rest = max(0.0, expected - (now - self._began))
        elif step.weight > SHORT or not took:
            return None
        paces = [(one.weight, _pace(took, one.kind)) for one in self.steps[self.number :] if one.weight > SHORT]
        return None if any(one is None for _, one in paces) else rest + sum(weight * one for weight, one in paces)

    def _weight(self, share: float) -> float:
        """What this run does, or has done, of the present step's weight, up to this share of it; 0 of a short one."""
        weight = self.steps[self.number - 1].weight
        return weight * (share - self._before) if weight > SHORT else 0.0

    def text(self) -> str:
        """ "3 of 9, about 2 min: measuring unlearned, loss 0.53"."""
        left = self.seconds_left()
        last = all(one.weight <= SHORT for one in self.steps[self.number :])
        time_left = "" if left is None else f", {'at most' if self.at_most and last else 'about'} {how_long(left)}"
        note = f", {self.note}" if self.note else ""
        return f"{self.number} of {len(self.steps)}{time_left}: {self.steps[self.number - 1].title}{note}"

    def overall(self) -> float:
        """Share of the whole that is done."""
        done = sum(one.weight for one in self.steps[: self.number - 1])
        return (done + self.share * self.steps[self.number - 1].weight) / sum(one.weight for one in self.steps)

    def _show(self, always: bool = False) -> None:
        if not speaks():
            return
        now = self.clock()
        if self.bar and draws():
            if always or now - self._said >= 0.1:
                self._draw()
                self._said = now
        elif always or now - self._said >= LINES_EVERY:
            say(self.text())
            self._said = now

    def _draw(self) -> None:
        full = math.floor(self.overall() * WIDTH)
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = f"[{'#' * full}{'.' * (WIDTH - full)}] {self.text()}"[: columns - 1]
        sys.stderr.write("\r" + line.ljust(self._drawn))
        sys.stderr.flush()
        self._drawn = len(line)


def _pace(took: Sequence[tuple[Step, float, float]], kind: str) -> float | None:
    """Seconds of a weight of one, in steps of this kind where there are any; None where no step tells."""
    of = [one for one in took if one[0].kind == kind] or took
    return sum(seconds for _, _, seconds in of) / sum(weight for _, weight, _ in of) if of else None


class NoProgress(Progress):
    """Shows nothing: for a run inside another one."""

    def __init__(self):
        super().__init__([])

    def next(self) -> None:
        pass

    def starts(self, done: float, total: float) -> None:
        pass

    def at(self, done: float, total: float, note: str = "", at_most: bool = False) -> None:
        pass
