"""The study's forest plot: which ratios it shows, with which ends."""

from __future__ import annotations

import json

import pytest

from recipes.study import forest
from recipes.study.forest import NOBODY_NAMED, ROWS_NAMED


@pytest.fixture(scope="module")
def published():
    return json.loads(forest.RESULTS.read_text(encoding="utf-8"))["tasks"]


def test_every_published_ratio_is_a_line(published):
    shown = forest.lines(published)
    for arm, group in forest.GROUPS.items():
        ratios = [one["figures"][arm]["ratio"] for one in published.values() if "ratio" in one["figures"].get(arm, {})]
        ours = [line for line in shown if line.group == group and (arm == "ready" or line.label.endswith(arm))]
        assert len(ours) == len(ratios) > 1
        assert [(line.value, line.low, line.high) for line in ours] == [
            (ratio["value"], ratio.get("low"), ratio.get("high")) for ratio in ratios
        ]


def test_losses_and_bounds_are_shown(published):
    by_label = {line.label: line for line in forest.lines(published)}
    worse = by_label["digits, any row"]
    assert worse.apart == "below" and worse.high < 1 and worse.group == NOBODY_NAMED
    assert by_label["digits 30 %"].bound == "≤" and by_label["people LoRA"].bound == "≥"
    assert by_label["people 30 %"].text.startswith("≥ 1.1 (") and "neither in 2" in by_label["people 30 %"].text


def line(value, low, high, bound="", apart=None):
    return forest.Line("task", ROWS_NAMED, value, low, high, bound, apart, "in words")


class Axis:
    """Records what is plotted."""

    def __init__(self):
        self.calls = []

    def plot(self, *args, **kwargs):
        self.calls.append((args, kwargs))

    def text(self, *args, **kwargs):
        pass

    def get_yaxis_transform(self):
        pass


@pytest.mark.parametrize(
    ("given", "ends", "heads"),
    [
        (line(2.0, 1.5, 3.0, apart="above"), (1.5, 3.0), []),
        (line(20.0, 0.05, 1405.0), forest.ENDS, ["<", ">"]),
        (line(19.0, None, None, "≥"), (19.0, forest.ENDS[1]), [">"]),
        (line(1.1, None, None, "≤"), (forest.ENDS[0], 1.1), ["<"]),
        (line(5.0, 2.0, None), (2.0, forest.ENDS[1]), [">"]),
    ],
)
def test_an_interval_beyond_the_axis_ends_in_an_arrow(given, ends, heads):
    axis = Axis()
    forest.draw_line(axis, 3, given)
    assert axis.calls[0][0] == (ends, [3, 3])
    assert [args[2] for args, _ in axis.calls[1:-1]] == heads
    assert axis.calls[-1][0] == (given.value, 3, "o") and ("markerfacecolor" in axis.calls[-1][1]) == bool(given.bound)


def test_a_single_value_has_no_interval():
    axis = Axis()
    forest.draw_line(axis, 0, line(3.0, None, None))
    assert len(axis.calls) == 1


def test_the_picture_is_small_and_grows_with_its_lines(tmp_path):
    from PIL import Image

    heights = []
    for n in (2, 6):
        path = tmp_path / "new" / f"{n}.png"
        forest.draw([line(2.0, 1.5, 3.0)] * n, path)
        heights.append(Image.open(path).size[1])
        assert path.stat().st_size < 30_000
    assert heights[1] > heights[0] + 50
