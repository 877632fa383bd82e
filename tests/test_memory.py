"""Measured peaks, by hand."""

from __future__ import annotations

import pytest
import tiny
import torch

from hf_unlearn.memory import peak_bytes

MB = 1_000_000  # bytes of the square tensors below


def square() -> torch.Tensor:
    return torch.ones(500, 500)


def test_peak_of_tensors_that_come_and_go():
    def run():
        x = square()
        y = x.exp()
        del x
        return y.exp()

    assert peak_bytes(square, "cpu") == MB
    assert peak_bytes(run, "cpu") == 2 * MB
    assert peak_bytes(lambda: None, "cpu") == 0


def test_peak_sees_the_temporary_inside_an_operation():
    x = square().t()
    assert peak_bytes(lambda: torch.nn.functional.linear(x, x), "cpu") == MB  # nothing beside the result
    inside = peak_bytes(lambda: torch.softmax(x, 0), "cpu")  # the result and a contiguous copy of x
    assert 2 * MB <= inside < 2.1 * MB


def test_peak_of_a_backward():
    w = square().requires_grad_()

    def run():
        y = (square() @ w).exp()  # saved: ones, exp; the product is gone after exp
        y.sum().backward()  # beside them exp's gradient, then the weight's

    first = peak_bytes(run, "cpu")
    assert 4 * MB <= first < 4.1 * MB
    assert w.grad is not None
    w.grad = None
    assert peak_bytes(run, "cpu") == first


def test_peak_does_not_mind_what_an_earlier_run_left():
    kept = []
    assert peak_bytes(lambda: kept.append(square()), "cpu") == MB

    def run():
        kept.clear()
        return square().exp()

    assert peak_bytes(run, "cpu") == 2 * MB


def test_peak_of_a_step_is_the_same_each_time():
    model = tiny.lm(hidden=32, layers=2)
    batch = tiny.batch_of(model, tiny.lm_list(4))

    def run():
        model(**batch).loss.backward()
        model.zero_grad()

    peaks = {peak_bytes(run, "cpu") for _ in range(3)}
    assert len(peaks) == 1
    assert peaks.pop() > sum(p.nbytes for p in model.parameters())


def test_peak_needs_a_device_that_counts():
    with pytest.raises(ValueError, match="'meta'; peaks are measured on 'cpu' and 'cuda'"):
        peak_bytes(square, "meta")
