"""The weights that a request may return to."""

from __future__ import annotations

import torch

from hf_unlearn.unlearning.snapshots import KEYS, Snapshots


class Weights:
    """One weight, and how often it was asked for."""

    def __init__(self, value: float):
        self.weight, self.asked = torch.nn.Parameter(torch.tensor([value])), 0

    def __call__(self) -> list[torch.Tensor]:
        self.asked += 1  # where weights are sharded, this makes them shards again
        return [self.weight]

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)


def test_going_back_halves_the_way_and_asks_for_the_weights_before_each_write():
    weights, seen = Weights(1.0), []
    shots = Snapshots(weights, 0)
    weights.set(5.0)
    shots.candidate = shots.now(3)
    asked = weights.asked

    def measure():
        seen.append(weights.weight.item())
        return {"shortfall": 2.2 - seen[-1]}

    found = shots.go_back(measure, 0.05)
    assert seen == [3.0, 2.0, 2.5, 2.25] and found == {"shortfall": 2.2 - 2.25}
    assert weights.asked == asked + 1 + len(seen)
    assert shots.candidate is None  # the next batches say nothing of weights beyond the target


def test_rows_that_began_beyond_the_target_go_back_to_where_they_began():
    weights, seen = Weights(1.0), []
    shots = Snapshots(weights, 0)
    weights.set(5.0)

    def measure():
        seen.append(weights.weight.item())
        return {"shortfall": 0.2 - seen[-1]}

    shots.go_back(measure, 0.05, ahead=2.0)
    assert seen == [3.0, 2.0, 2.5, 2.25]


def test_restore_good_takes_the_first_weights_within_the_budget_on_the_way_to_the_good_ones():
    weights = Weights(1.0)
    shots = Snapshots(weights, 0)
    weights.set(2.0)
    shots.accept_candidate(short=True)
    assert shots.good[0] == 0  # there was no candidate
    shots.candidate = shots.now(4)
    weights.set(9.0)
    shots.accept_candidate(short=False)
    assert (shots.good[0], shots.short_of_target[0], shots.measured[0]) == (4, 0, 0)
    assert shots.restore_good(lambda: weights.weight.item() <= 1.5) == 4  # half of the way from 1 to 2
    assert weights.weight.item() == 1.5
    assert shots.restore_good(lambda: False) == 0 and weights.weight.item() == 1.0  # none of the way: measured's step
    weights.set(1.5)
    shots.accept_now(6, short=True)
    weights.set(9.0)
    assert shots.restore_good(lambda: False) == 6 and weights.weight.item() == 1.5  # measured: nothing to ask
    assert shots.short_of_target[0] == 6


def test_snapshots_survive_saving_and_loading(tmp_path):
    shots = Snapshots(Weights(1.0), 3)
    shots.candidate, shots.reached = shots.now(5), shots.now(4)
    assert list(shots.to_dict()) == ["good", "measured", "below", "candidate", "reached"]
    torch.save(shots.to_dict(), tmp_path / "weights.pt")
    other = Snapshots(Weights(7.0), 0)
    other.load(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert [getattr(other, key)[0] for key in KEYS] == [3, 3, 3, 5, 4]
    assert other.good[1] is other.measured[1] and other.good[1][0].item() == 1.0
    other.load({key: shots.to_dict()[key] for key in ("good", "measured", "below", "candidate")})  # of an older file
    assert other.reached is None


def test_snapshots_print_their_steps_and_no_weights():
    shots = Snapshots(Weights(1.0), 3)
    assert repr(shots) == "Snapshots(good: step 3, measured: step 3, short_of_target: step 3)"
