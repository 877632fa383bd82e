"""The study's ratios with their intervals, a line a task: a forest plot, drawn from the published figures.

    python -m recipes.study.forest

draws .github/study_ratios.png from recipes/study/results/study.json.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.study import words
from recipes.study.outcomes import READY

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "study.json"
PICTURE = HERE.parents[1] / ".github" / "study_ratios.png"
ROWS_NAMED, NOBODY_NAMED = "rows named in training", "nobody named"
GROUPS = {READY: ROWS_NAMED, "any group": NOBODY_NAMED, "any row": NOBODY_NAMED}  # arm -> part of the picture
ENDS = (0.1, 200.0)  # of the axis; what reaches beyond gets an arrow head
COLOURS = {"above": "#1b7a3a", "below": "#b8420f", None: "#5a6370"}  # by the side of 1 on which the interval lies
INK, GRID = "#1c2128", "#e3e7ec"
COLOURS_OF_PNG = 48  # a palette: a third of the bytes
EMPTY = {"value": None, "low": None, "high": None, "apart": None, "bound": "", "of": "mean"}


@dataclass(frozen=True)
class Line:
    """
    One ratio.

    Args:
        label: task, and the kind of readiness where nobody was named.
        group: ROWS_NAMED or NOBODY_NAMED.
        value: control ÷ arm, how many times the row passes the control takes.
        low, high: ends of the 95 % interval; None where there is none, or where it is not bounded on that side.
        bound: "≥" or "≤" where the value is a bound, since one of the two never finished in a seed; else "".
        apart: "above" or "below" where the interval excludes 1, else None.
        text: value, interval and n in words.
    """

    label: str
    group: str
    value: float
    low: float | None
    high: float | None
    bound: str
    apart: str | None
    text: str


def two_digits(value: float) -> str:
    return words.number(float(f"{value:.2g}"))


def lines(tasks: Mapping[str, Mapping]) -> list[Line]:
    """
    Args:
        tasks: task -> `figures` (arm -> `ratio`), as in study.json or as `recipes.study.outcomes.study` returns them.
    """
    found = []
    for arm, group in GROUPS.items():
        for task, one in tasks.items():
            ratio = one["figures"].get(arm, {}).get("ratio")
            if not ratio or ratio.get("value") is None:
                continue
            ratio = {**EMPTY, **ratio, "seeds": ()}  # in the file they are text
            label = f"{task}, {arm}" if GROUPS[arm] == NOBODY_NAMED else task
            text = words.inline(ratio, two_digits).replace("\u00a0", " ")
            part = {key: ratio[key] for key in ("value", "low", "high", "bound", "apart")}
            found.append(Line(label, group, **part, text=text))
    return found


def draw(shown: Sequence[Line], path: Path) -> None:
    """A PNG on white: dot and interval a line; hollow: a bound; green or red: the interval excludes 1."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.size": 9, "axes.linewidth": 0.6, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}
    with matplotlib.rc_context(style):
        heads = list(dict.fromkeys(line.group for line in shown))
        figure = Figure(figsize=(9.0, 0.9 + 0.24 * (len(shown) + len(heads))), layout="constrained", dpi=110)
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        places, labels = [], []
        y = 0
        for head in heads:
            axis.text(-0.02, y, head, transform=axis.get_yaxis_transform(), ha="right", va="center", weight="bold")
            y += 1
            for line in (line for line in shown if line.group == head):
                draw_line(axis, y, line)
                places.append(y)
                labels.append(line.label)
                y += 1
        axis.axvline(1, color=INK, linewidth=0.9)
        axis.set_xscale("log")
        axis.set_xlim(*ENDS)
        axis.set_ylim(y - 0.4, -0.6)
        axis.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_yticks(places, labels)
        axis.tick_params(axis="y", length=0, pad=9)
        axis.grid(True, axis="x", color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.set_xlabel("row passes of a request: control (as much training, plain) ÷ ready; 1: nothing is saved")
        save(figure, path)


def save(figure, path: Path, colours: int = COLOURS_OF_PNG) -> None:
    """A matplotlib figure as a PNG of so many colours at most, on white."""
    from PIL import Image

    pixels = io.BytesIO()
    figure.savefig(pixels, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(pixels).convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def draw_line(axis, y: float, line: Line) -> None:
    colour = COLOURS[line.apart]
    ends = [line.low, line.high]
    if line.bound:  # the value is one end, nothing is known of the other
        ends = [line.value, None] if line.bound == "≥" else [None, line.value]
    has_interval = bool(line.bound) or line.low is not None or line.high is not None
    if has_interval:
        low, high = (edge if end is None else end for end, edge in zip(ends, ENDS, strict=True))
        inside = max(low, ENDS[0]), min(high, ENDS[1])
        axis.plot(inside, [y, y], color=colour, linewidth=1.4, linestyle=":" if line.bound else "-")
        for end, edge, marker in ((low, ENDS[0], "<"), (high, ENDS[1], ">")):
            if (end <= edge) if marker == "<" else (end >= edge):
                axis.plot(edge, y, marker, color=colour, markersize=5, clip_on=False)
    hollow = {"markerfacecolor": "white"} if line.bound else {}
    axis.plot(min(max(line.value, ENDS[0]), ENDS[1]), y, "o", color=colour, markersize=5.5, **hollow)
    axis.text(1.02, y, line.text, transform=axis.get_yaxis_transform(), va="center", color=INK)


def main() -> None:
    tasks = json.loads(RESULTS.read_text(encoding="utf-8"))["tasks"]
    draw(lines(tasks), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
