"""After a way back no optimizer drives the weights on."""

from __future__ import annotations

import pytest
import torch
from torch import optim
from transformers import Adafactor

from hf_unlearn.unlearning.momenta import clear_momenta


class Lion(optim.Optimizer):
    """Its only state is a mean of gradients, whose sign is its step."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            mean = self.state[p].setdefault("mean", torch.zeros_like(p))
            p.sub_((0.9 * mean + 0.1 * p.grad).sign(), alpha=self.param_groups[0]["lr"])
            mean.lerp_(p.grad, 0.01)


class ScheduleFree(optim.Optimizer):
    """Weights on the line between the mean of all steps and the point `z` that takes them."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            z = self.state[p].setdefault("z", p.clone())
            z.sub_(p.grad, alpha=self.param_groups[0]["lr"])
            p.lerp_(z, 0.5)


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, 0.01, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adam": lambda p: optim.AdamW(p, 0.01, weight_decay=0.0, amsgrad=True),
    "nadam": lambda p: optim.NAdam(p, 0.01),
    "adamax": lambda p: optim.Adamax(p, 0.01),
    "radam": lambda p: optim.RAdam(p, 0.01),
    "adagrad": lambda p: optim.Adagrad(p, 0.01),
    "adadelta": lambda p: optim.Adadelta(p, 0.01),
    "rprop": lambda p: optim.Rprop(p, 0.01),
    "asgd": lambda p: optim.ASGD(p, 0.01, lambd=0.0, t0=0),
    "adafactor": lambda p: Adafactor(p, 0.01, beta1=0.9, relative_step=False, scale_parameter=False),
    "lion": lambda p: Lion(p, 0.01),
    "schedule-free": lambda p: ScheduleFree(p, 0.01),
}


def after_some_steps(make):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    optimizer = make(weights)
    for _ in range(4):
        for p in weights:
            p.grad = torch.randn_like(p) + 1
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_without_a_gradient_moves_nothing(make):
    weights, optimizer = after_some_steps(make)
    with torch.no_grad():
        for p in weights:
            p.mul_(0.99)  # the way back
    clear_momenta(optimizer.state)
    before = [p.detach().clone() for p in weights]
    for _ in range(3):
        for p in weights:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.allclose(p, b, rtol=0, atol=1e-9) for p, b in zip(weights, before, strict=True))


def test_what_scales_the_steps_stays():
    weights, optimizer = after_some_steps(OPTIMIZERS["adam"])
    kept = {k: v.clone() for k, v in optimizer.state[weights[1]].items() if k != "exp_avg"}
    clear_momenta(optimizer.state)
    assert set(kept) == {"exp_avg_sq", "max_exp_avg_sq", "step"} and float(kept["exp_avg_sq"].min()) > 0
    assert all(torch.equal(optimizer.state[weights[1]][k], v) for k, v in kept.items())
    assert not optimizer.state[weights[1]]["exp_avg"].any()


def test_a_state_in_eight_bits_begins_anew():
    """As bitsandbytes keeps it: codes, a table of their values, and a scale."""
    weight, other = torch.ones(3), torch.ones(2)
    code = {"state1": torch.tensor([0, 7, 255], dtype=torch.uint8), "qmap1": torch.linspace(-1, 1, 256)}
    states = {weight: {**code, "absmax1": torch.ones(1), "step": 3}, other: {"exp_avg": torch.tensor([-1.0, 1.0])}}
    clear_momenta(states)
    assert states[weight] == {} and not states[other]["exp_avg"].any()
