"""The study's pictures: inline SVG in the report's manner, and one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_unlearn.report import plots
from recipes.study.outcomes import RETRAINED
from recipes.study.seeds import Passes
from recipes.study.trial import KEPT_MARK, RELEARNING

LOOKS = {  # arm -> the report's series (a colour), marker, line
    "retrained": ("tau", "s", "--"),
    "plain": ("soft", "o", "-"),
    "equal": ("unseen", "s", "-"),
    "reweighted": ("alpha", ">", "-"),
    "ready": ("ready-unlearned", "D", "-"),
    "any row": ("retain", "v", "-"),
    "any group": ("forget", "P", "-"),
    "any group far": ("retain", "P", ":"),
    "finite difference": ("unlearned", "X", ":"),
    "batch rows": ("retain", "v", ":"),
    "smaller step": ("unlearned", "D", ":"),
    "half step": ("unlearned", "D", ":"),
    "stronger": ("unseen", "o", ":"),
    "every other": ("soft", "X", ":"),
    "no cap": ("soft", "P", ":"),
    "no efficiency": ("forget", "P", ":"),
    "no retention": ("alpha", "D", ":"),
    "relearn": ("unseen", "s", ":"),
    "align": ("soft", "o", ":"),
}
OTHER = ("tau", "d", ":")  # an arm that has no look of its own
PAPER = {"soft": "#5a6370", "unseen": "#0a5fb8", "ready-unlearned": "#b0287a", "forget": "#b8420f", "retain": "#1b7a3a"}
WIDE, SMALL = (4.6, 3.2), (3.5, 3.0)  # inches


def look_of(arm: str) -> tuple[str, str, str]:
    return LOOKS.get(arm, OTHER)


def panels(arms: Sequence[str]) -> list[list[str]]:
    """Arms that can be told apart in one picture: the main ones, and ready with its variants."""
    main = [arm for arm in arms if look_of(arm)[2] != ":"]
    rest = [arm for arm in arms if arm not in main]
    return [main, *([["ready", *rest] if "ready" in arms else rest] if rest else [])]


def logarithmic(axis, values: Sequence[float]) -> None:
    """A log axis with round numbers on it, also where values lie close."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = min(values), max(values)
    if high / low < 4:
        middle = (low * high) ** 0.5
        low, high = middle / 2, middle * 2
    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("log")
    getattr(axis.axes, f"set_{name}lim")(low / 1.25, high * 1.25)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(lambda v, _: f"{v:,.0f}".replace(",", "\u2009") if v >= 1 else f"{v:g}")
    axis.set_minor_formatter(NullFormatter())
    axis.axes.tick_params(axis=name, which="minor", length=0)


def trade_off(lines: Mapping[str, Mapping[float, Sequence[tuple[float, float]]]], prefix: str) -> str:
    """SVG: arm -> learning rate -> (row passes until forgotten, share kept there) of each seed; a line of the means."""
    everything = [point for rates in lines.values() for points in rates.values() for point in points]

    def draw(figure):
        axis = figure.subplots()
        axis.axhline(KEPT_MARK, color=plots.SERIES["soft"], linewidth=1.0, linestyle=(0, (1, 2)))
        for arm, rates in lines.items():
            series, marker, line = look_of(arm)
            colour = plots.SERIES[series]
            means = []
            for rate in sorted(rates):
                passes, kept = np.array(rates[rate]).T
                axis.plot(passes, kept, marker, color=colour, markersize=3.2, alpha=0.45, markeredgewidth=0)
                means.append((np.exp(np.log(passes).mean()), kept.mean()))
            axis.plot(*np.array(means).T, line, color=colour, marker=marker, markersize=5, linewidth=1.3)
        logarithmic(axis.xaxis, [x for x, _ in everything])
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.4g} %")
        axis.set_xlabel("row passes until first forgotten")
        axis.set_ylabel("retain accuracy there, of plain's before")

    return plots.as_svg(draw, WIDE, prefix, "Row passes until forgotten, and what is kept there")


def recovery(curves: Mapping[str, Sequence[float]], bottom: float, top: float, prefix: str) -> str:
    """SVG: arm -> mean loss of held-out forget rows over the steps of a fine-tune."""

    def draw(figure):
        axis = figure.subplots()
        for arm, losses in curves.items():
            series, marker, line = look_of(arm)
            steps = np.arange(len(losses)) * RELEARNING["every"]
            width = 2.2 if arm == RETRAINED else 1.4
            axis.plot(steps, losses, line, color=plots.SERIES[series], linewidth=width, marker=marker, markersize=2.8)
        axis.set_ylim(bottom, top)
        axis.set_xlabel("fine-tuning step")
        axis.set_ylabel("loss of forget rows (nats)")

    return plots.as_svg(draw, SMALL, prefix, "Loss of forget rows while the models are fine-tuned")


def dots(figure, points: Mapping[str, Mapping[str, Sequence[Passes]]], colours: Mapping[str, str], ink: str) -> None:
    """
    Row passes by category, arms side by side: a dot a seed, a bar at the median (where it is finite), a hollow triangle
    at the last look of a seed that never finished.
    """
    axis = figure.subplots()
    arms = list(dict.fromkeys(arm for some in points.values() for arm in some))
    step = 0.7 / max(len(arms), 2)
    counts = []
    for i, some in enumerate(points.values()):
        for arm, passes in some.items():
            series, marker, _ = look_of(arm)
            colour = colours[series]
            at = i + (arms.index(arm) - (len(arms) - 1) / 2) * step
            spread = np.linspace(-0.25, 0.25, len(passes)) * step if len(passes) > 1 else np.zeros(1)
            for x, p in zip(at + spread, passes, strict=True):
                if p.reached:
                    axis.plot(x, p.count, marker, color=colour, markersize=4.2, alpha=0.75, markeredgewidth=0)
                else:
                    axis.plot(x, p.count, "^", color=colour, markersize=6.5, markerfacecolor="none")
            counts += [p.count for p in passes]
            values = sorted(p.count if p.reached else np.inf for p in passes)
            middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
            if np.isfinite(middle):
                axis.plot([at - 0.4 * step, at + 0.4 * step], [middle] * 2, "-", color=ink, linewidth=1.1)
    axis.set_xticks(range(len(points)), [name.replace(" ", "\n", 1) for name in points])
    axis.set_xlim(-0.6, len(points) - 0.4)
    axis.grid(False, axis="x")
    logarithmic(axis.yaxis, counts)
    axis.set_ylabel("row passes, forgotten and kept")


def passes(points: Mapping[str, Mapping[str, Sequence[Passes]]], prefix: str, description: str) -> str:
    """SVG of [`dots`]."""
    size = (max(3.5, 1.2 + 0.75 * len(points)), 3.2)
    return plots.as_svg(lambda figure: dots(figure, points, plots.SERIES, plots.INK), size, prefix, description)


def sizes(lines: Mapping[str, Sequence[tuple[float, Mapping]]], prefix: str) -> str:
    """SVG: label -> (share of the rows asked for, ratio figure): ratio and interval over the share."""
    shares = [share for points in lines.values() for share, _ in points]
    ends = [f[key] for points in lines.values() for _, f in points for key in ("value", "low", "high") if f[key]]

    def draw(figure):
        axis = figure.subplots()
        axis.axhline(1, color=plots.SERIES["soft"], linewidth=1.2, linestyle=(0, (1, 2)))
        for arm, points in lines.items():
            series, marker, line = look_of(arm)
            colour = plots.SERIES[series]
            axis.plot([x for x, _ in points], [f["value"] for _, f in points], line, color=colour, linewidth=1.3)
            for x, f in points:
                hollow = {"markerfacecolor": "none"} if f["bound"] else {}
                axis.plot(x, f["value"], marker, color=colour, markersize=5, **hollow)
                if f["low"] is not None or f["high"] is not None:
                    ends_ = [f[key] if f[key] is not None else f["value"] for key in ("low", "high")]
                    axis.plot([x, x], ends_, color=colour, linewidth=1.0)
        logarithmic(axis.xaxis, shares)
        logarithmic(axis.yaxis, [*ends, 1])
        axis.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
        axis.set_xlabel("rows asked for, of all")
        axis.set_ylabel("row passes, equal compute ÷ arm")

    return plots.as_svg(draw, SMALL, prefix, "How many times fewer row passes, by the size of the request")


def picture(points: Mapping[str, Mapping[str, Sequence[Passes]]], names: Mapping[str, str], path: Path) -> None:
    """[`dots`] of tasks as a PNG on white, with a legend, for the README."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    style = {key: "#1c2128" if value == plots.INK else value for key, value in plots.STYLE.items()}
    with matplotlib.rc_context({**style, "grid.color": "#e3e7ec"}):
        figure = Figure(figsize=(max(5.0, 1.5 + 0.85 * len(points)), 3.3), layout="constrained", dpi=120)
        FigureCanvasAgg(figure)
        dots(figure, points, PAPER, "#1c2128")
        arms = list(dict.fromkeys(arm for some in points.values() for arm in some))
        handles = [
            Line2D([], [], linestyle="", marker=look_of(arm)[1], color=PAPER[look_of(arm)[0]], label=names[arm])
            for arm in arms
        ]
        if any(not p.reached for some in points.values() for seeds in some.values() for p in seeds):
            hollow = {"markerfacecolor": "none", "color": "#5a6370"}
            handles.append(Line2D([], [], linestyle="", marker="^", label="never finished", **hollow))
        figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, handletextpad=0.2)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor="white", pil_kwargs={"optimize": True}, metadata={"Software": None})
