"""Times of steps that are taken in turn: each trainer runs in a thread of its own and waits until it is let go."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from recipes.tools.bench.contenders import Bench

CYCLES = {"sparse": 4, "shut_8": 8, "plain": 3, "half": 4}  # steps of one round; others take two


class Stop(Exception):
    """Ends a contender's run."""


@dataclass
class Passes:
    """Rows through the forward and the backward of a model and of a second one beside it."""

    forward: int = 0
    backward: int = 0
    tokens: int = 0

    def watch(self, model) -> None:
        def after(module, args, kwargs, output):
            logits = output.logits
            self.forward += len(logits)
            self.tokens += logits.shape[0] * logits.shape[1]
            if logits.requires_grad:
                logits.register_hook(lambda grad: self.__setattr__("backward", self.backward + len(grad)))

        model.register_forward_hook(after, with_kwargs=True)

    @property
    def rows(self) -> float:
        return self.forward / 3 + self.backward * 2 / 3


@dataclass
class Contender:
    """A trainer that runs in a thread and waits before each step until it is let go."""

    name: str
    trainer: object
    passes: Passes = field(default_factory=Passes)
    times: list[float] = field(default_factory=list)  # seconds per step, one a round
    error: BaseException | None = None

    def __post_init__(self):
        from transformers import TrainerCallback

        outer = self
        self.go, self.here, self.over = threading.Semaphore(0), threading.Semaphore(0), False

        class Pace(TrainerCallback):
            def on_step_begin(self, *args, **kwargs):
                outer.here.release()
                outer.go.acquire()
                if outer.over:
                    raise Stop

        for model in (self.trainer.model, getattr(self.trainer, "reference_model", None)):
            if model is not None:
                self.passes.watch(model)
        self.trainer.add_callback(Pace())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self._arrive()

    def _run(self):
        try:
            self.trainer.train()
        except Stop:
            pass
        except BaseException as error:  # told to the main thread
            self.error = error
        finally:
            self.here.release()

    def _arrive(self):
        self.here.acquire()
        if self.error is not None:
            raise RuntimeError(f"The contender {self.name!r} failed.") from self.error

    def steps(self, n: int) -> float:
        """Seconds per step."""
        synchronise()
        start = time.perf_counter()
        for _ in range(n):
            self.go.release()
            self._arrive()
        synchronise()
        return (time.perf_counter() - start) / n

    def end(self):
        self.over = True
        self.go.release()
        self.thread.join()


def synchronise():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(bench: Bench, names: list[str], rounds: int) -> dict[str, Contender]:
    contenders = {name: Contender(name, bench.make(name)) for name in names}
    per_step = {}
    for name, contender in contenders.items():
        contender.steps(1)  # the first step allocates the optimizer's state
        before = Passes(**vars(contender.passes))
        cycle = CYCLES.get(name, 2)
        contender.steps(cycle)
        now = contender.passes
        per_step[name] = Passes(*((getattr(now, k) - getattr(before, k)) / cycle for k in vars(before)))
    order = list(names)
    for _ in range(rounds):
        random.Random(len(contenders[names[0]].times)).shuffle(order)
        for name in order:
            contenders[name].times.append(contenders[name].steps(CYCLES.get(name, 2)))
    for name, contender in contenders.items():
        contender.end()
        contender.passes = per_step[name]
    return contenders
