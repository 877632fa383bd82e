"""Pictures of what requests cost, as files of their own: SVG that is light or dark as whatever shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from .plots import INK, SERIES, as_svg

WIDTH = 4.8  # inches: the letters stay readable on a phone


def options_picture(options: Sequence[Mapping[str, Any]]) -> str:
    """
    A bar a way: its share of retraining. Filled: exact; hollow: approximate; a way that cannot be done is named so.

    Args:
        options: `way`, `guarantee`, `share_of_retraining`, `possible` of each (`hf_unlearn.trainers.planning.Option`).
    """

    def draw(figure):
        axis = figure.subplots()
        for place, one in enumerate(options):
            exact = one["guarantee"] == "exact"
            colour = SERIES["unlearned" if exact else "forget"]
            look = {"color": colour} if exact else {"facecolor": "none", "edgecolor": colour, "linewidth": 1.4}
            share = one["share_of_retraining"]
            axis.barh(place, share, height=0.55, **look)
            said = f"{100 * share:.3g} %" + ("" if one["possible"] else ", cannot be done now")
            axis.annotate(said, (share, place), (4, 0), textcoords="offset points", va="center")
        axis.set_yticks(range(len(options)), [f"{one['way']}\n{one['guarantee']}" for one in options])
        axis.set_ylim(len(options) - 0.5, -0.5)
        axis.set_xlim(0, 1.2 * max(1.0, *(one["share_of_retraining"] for one in options)))  # with room for the last
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axis.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
        axis.yaxis.grid(False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("row passes, share of retraining")

    size = (WIDTH, 0.8 + 0.45 * len(options))
    return as_file(as_svg(draw, size, "options", "What the ways to serve the request cost"))


LINES = ("unlearned", "forget", "retain", "alpha", "unseen", "ready-unlearned")  # series, tail by tail


def choices_picture(choices: Sequence[Mapping[str, Any]]) -> str:
    """
    A line a tail: the mean cost of a request over the number of slices. Dashed: a training refuses the tail; the dot:
    what the config itself would lead to.

    Args:
        choices: `tail`, `revocable`, `slices`, `request`, `chosen`, `is_crowded` of each
            (`hf_unlearn.trainers.planning_ahead.TrainingChoice`).
    """
    tails = list(dict.fromkeys(one["tail"] for one in choices))[::-1]  # the longest is the dearest

    def draw(figure):
        axis = figure.subplots()
        for tail, series in zip(tails, LINES * len(tails), strict=False):
            of = [one for one in choices if one["tail"] == tail]
            look = {"color": SERIES[series], "linestyle": "--" if of[0]["is_crowded"] else "-", "linewidth": 1.5}
            label = f"{tail:.2g} of the steps, {100 * of[0]['revocable']:.0f} % revocable"
            slices, shares = [one["slices"] for one in of], [one["request"] for one in of]
            axis.plot(slices, shares, marker="o", markersize=2.5, label=label, **look)
            for one in of:
                if one["chosen"]:
                    axis.plot(one["slices"], one["request"], "o", color=SERIES[series], markersize=7)
        axis.set_xticks(sorted({one["slices"] for one in choices}))
        axis.set_xlabel("slices (snapshots)")
        axis.set_ylim(0, 1.08 * max(one["request"] for one in choices))
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
        axis.set_ylabel("a request, share of retraining")
        figure.legend(loc="outside lower center", ncols=1, frameon=False, title="tail", labelcolor=INK)

    size = (WIDTH, 2.9 + 0.19 * len(tails))
    return as_file(as_svg(draw, size, "choices", "What a request costs, by tail and slices"))


def as_file(svg: str) -> str:
    """A picture of a page as a file: with the page's colours, light and dark, and its ground."""
    page = resources.files(__package__).joinpath("templates/page.css").read_text(encoding="utf-8")
    colours = page[: page.index("* {")]
    ground = '<rect width="100%" height="100%" style="fill: var(--bg)"/>'
    style = f"<style>{colours} svg {{ color: var(--ink); }}</style>{ground}"
    head = re.match(r"<svg[^>]*>", svg)[0]
    named = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{named}{style}{svg[len(head) :]}\n"
