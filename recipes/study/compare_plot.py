"""Forgotten against kept, a point an objective: a picture of the published figures.

    python -m recipes.study.compare_plot

draws .github/study_objectives.png from recipes/study/results/compare.json.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from recipes.study.compare import MODELS
from recipes.study.compare_table import figures, ordered, points, read
from recipes.study.forest import GRID, INK, save
from recipes.study.replays import PLAIN, RETRAINED
from recipes.study.trial import KEPT_MARK

PICTURE = Path(__file__).resolve().parents[2] / ".github" / "study_objectives.png"
FLOOR = 0.8  # of kept: what lies below is drawn there
AREAS = (0.0, 1.2)  # of the colours
COLOURS = 160  # of the palette
PLACES = tuple((round(far * math.cos(turn)), round(0.8 * far * math.sin(turn)))
               for far in (9, 16, 25, 36, 50, 68, 90, 115) for turn in (math.pi * k / 8 for k in (
                   0, 8, 1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11, 4, 12)))  # fmt: skip
# pixels from a point to its label, the nearest first, and of these those beside it
LETTERS = 7  # points
NO_AREA = "#c8ced6"


def size(cost: float) -> float:
    """Area of a point in points²: a retraining's row passes are 150."""
    return 14 + 136 * min(cost, 1.0)


def across(task: Mapping[str, Mapping[int, Mapping]]) -> list[tuple[str, str]]:
    """(figure, label) of the panels of a task: of a whole class what is still answered, else the forget loss."""
    goal = next(iter(task[PLAIN].values()))["goal"]
    first = ("right", "rows of the class still answered right (retrained: 0)")
    if goal != "chance":
        first = ("distance", "forget loss, nats from the retrained model's")
    return [first, ("auc_distance", "membership AUC, distance from the retrained model's")]


def draw(tasks: Mapping[str, Mapping], path: Path) -> None:
    """A row of panels a task: how far from a retrained model, and what is kept; size: cost, colour: recovery."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.size": 8, "axes.linewidth": 0.6, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11.0, 4.4 * len(tasks)), layout="constrained", dpi=110)
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(tasks), 2, squeeze=False)
        colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(*AREAS), "viridis")
        labels = []
        for line, (name, task) in zip(axes, tasks.items(), strict=True):
            for axis, (key, label) in zip(line, across(task), strict=True):
                labels.append((axis, panel(axis, task, key, colours)))
                axis.set_xlabel(label)
            line[0].set_title(name, loc="left", weight="bold")
            line[0].set_ylabel("kept: retain and test accuracy, of the plain model's")
        bar = figure.colorbar(colours, ax=axes, shrink=0.6, aspect=40, pad=0.01)
        bar.set_label("recovery area, real rows (1: they come back as slowly as to a retrained model)")
        figure.canvas.draw()  # settles the layout, which labels are placed by
        for axis, some in labels:
            place_labels(axis, some)
        save(figure, path, COLOURS)


def panel(axis, task: Mapping[str, Mapping], key: str, colours) -> list[tuple[float, float, str]]:
    """The points of a panel, and `(x, y, name)` of each."""
    found = []
    for method in ordered(task):
        own = figures(task[method])
        x, kept = own[key]["value"], own["kept"]["value"]
        if x is None or method == RETRAINED:
            continue
        y, area = max(kept, FLOOR), own.get("area_real", {}).get("value")
        shape = "D" if method in MODELS else "o" if kept >= FLOOR else "v"
        face = NO_AREA if area is None else colours.to_rgba(area)
        dot = {"s": size(own["cost"]["value"]), "color": [face], "edgecolors": INK, "linewidths": 0.6}
        axis.scatter(x, y, marker=shape, zorder=3, **dot)
        low, high = own[key]["low"], own[key]["high"]
        if low is not None:
            axis.plot([max(low, 0.0), high], [y, y], color=INK, linewidth=0.5, alpha=0.35, zorder=2)
        found.append((x, y, method))
    axis.axhline(KEPT_MARK, color=INK, linewidth=0.6, linestyle=":")
    axis.grid(True, color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    low, high = min(y for _, y, _ in found), max(y for _, y, _ in found)
    axis.set_ylim(low - 0.12 * (high - low) - 0.005, high + 0.12 * (high - low) + 0.005)
    axis.set_xlim(-0.05 * max(x for x, _, _ in found), 1.15 * max(x for x, _, _ in found))
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return found


def place_labels(axis, shown: Sequence[tuple[float, float, str]]) -> None:
    """Writes each name beside its point, at the first of PLACES where it lies on no other name and on no point."""
    dots = [axis.transData.transform((x, y)) for x, y, _ in shown]
    taken: list = []
    for (x, y, name), dot in zip(shown, dots, strict=True):
        boxes = [box_at(axis, name, dot, place) for place in PLACES]
        costs = [
            10 * (not all(axis.bbox.contains(*corner) for corner in box.corners()))
            + 3 * sum(box.overlaps(other) for other in taken)
            + sum(box.padded(4).contains(*other) for other in dots)
            for box in boxes
        ]
        chosen = costs.index(min(costs))
        taken.append(boxes[chosen])
        axis.annotate(
            name, (x, y), PLACES[chosen], textcoords="offset pixels", ha=side_of(PLACES[chosen]), va="center", zorder=4,
            fontsize=LETTERS, arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": INK, "alpha": 0.5},
        )  # fmt: skip


def side_of(place: tuple[int, int]) -> str:
    """Which end of a label is at its place."""
    return "left" if place[0] > 4 else "right" if place[0] < -4 else "center"


@functools.cache
def points_wide(name: str) -> float:
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), name, size=LETTERS).get_extents().width


def box_at(axis, name: str, dot, place: tuple[int, int]):
    """What a label covers, in pixels."""
    from matplotlib.transforms import Bbox

    scale = axis.figure.dpi / 72
    width, height = scale * points_wide(name), scale * LETTERS
    left = dot[0] + place[0] - {"left": 0.0, "center": width / 2, "right": width}[side_of(place)]
    return Bbox.from_bounds(left, dot[1] + place[1] - height / 2, width, height).padded(2)


def main() -> None:
    draw(points(read()), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
