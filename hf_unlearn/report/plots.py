"""The report's pictures: inline SVG that takes its colours from the page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Drawn in sentinel colours, which become CSS colours: one drawing for light, dark and paper.
INK, GRID = "#010203", "#010204"
SERIES = {"forget": "#010205", "unseen": "#010206", "retain": "#010207", "alpha": "#010208", "tau": "#010209"}
SERIES |= {"soft": "#01020a", "unlearned": "#01020b", "ready-unlearned": "#01020c"}
_CSS = {INK: "currentColor", GRID: "var(--grid)", **{hex_: f"var(--{name})" for name, hex_ in SERIES.items()}}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.unicode_minus": False,
}
_CURVES_SIZE = (4.6, 3.2)  # inches: about the width of a phone, so that the letters stay readable there
_HISTOGRAM_SIZE = (3.5, 2.1)
_SQUARE_SIZE = (3.5, 3.1)
_MAX_POINTS = 300  # of one curve
_ROC_POINTS = 120
_LEGIBLE = 60  # steps of a batch loss that are drawn as they are; more of them are averaged
_ROOM = 1.08  # above the highest value of an axis, so that no line is cut
_MAX_LETTERS = 26  # of the name of a class
_MAX_NAMES = 9  # layers named on an axis
BINS = 24
ROLE_LINES = {  # role -> series, line style
    "original": ("soft", ":"),
    "ready": ("ready-unlearned", ":"),
    "unlearned": ("unlearned", "-"),
    "ready_unlearned": ("ready-unlearned", "-"),
    "retrained": ("tau", "--"),
    "retrained_again": ("tau", ":"),
}
ROLE_DOTS = {  # role -> marker, whether it is filled
    "original": ("o", False),
    "unlearned": ("o", True),
    "ready_unlearned": ("s", True),
    "retrained": ("D", False),
}
BATCH_LOSSES = ("forget_loss", "retain_loss")  # of CURVES: one noisy value a step
CURVES = (  # key in the log, series, line style, label
    ("forget_loss", "forget", "-", "forget rows, batch"),
    ("look_forget_loss", "forget", ":", "forget rows, all"),
    ("unseen_loss", "unseen", "-", "unseen rows, all"),
    ("tau", "tau", "--", "τ, the target"),
    ("retain_loss", "retain", "-", "retain rows, batch"),
    ("look_retain_loss", "retain", ":", "retain rows, all"),
)


def loss_curves(
    histories: Sequence[Sequence[Mapping[str, Any]]], prefix: str, top: float | None = None
) -> tuple[str, list[dict]] | None:
    """
    Loss over the steps of an unlearning run, α below. `histories`: logs of the seeds of one run (lists of dicts with
    `step` and any of the keys of CURVES and `alpha`); `top`: upper end of the loss axis, to be shared by the figures
    that are to be compared. Returns the SVG and its legend, or None if nothing was logged.

    The loss of a batch is noise where there are hundreds of steps: beyond `_LEGIBLE` of them the line is a running
    mean over [`smoothing`] steps, and each step is drawn pale behind it.
    """
    present = [curve for curve in CURVES if any(_series(history, curve[0])[0].size for history in histories)]
    with_alpha = any(_series(history, "alpha")[0].size for history in histories)
    if not present:
        return None

    def draw(figure):
        ratios = [3, 1] if with_alpha else [1]
        axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
        for history in histories:
            for key, series, line, _ in present:
                steps, values = _series(history, key)
                dots = {"marker": "o", "markersize": 2.5} if line == ":" or len(steps) < 3 else {}
                window = smoothing(history) if key in BATCH_LOSSES else 1
                if window > 1:
                    axes[0].plot(steps, values, color=SERIES[series], linewidth=0.5, alpha=0.3)
                    values = _running_mean(values, window)
                axes[0].plot(steps, values, linestyle=line, color=SERIES[series], linewidth=1.3, **dots)
            if with_alpha:
                axes[1].plot(*_series(history, "alpha"), color=SERIES["alpha"], linewidth=1.3)
        axes[0].set_ylabel("loss (nats)")
        axes[0].set_ylim(0, _ROOM * (top or top_loss(histories)) or 1.0)
        if with_alpha:
            axes[1].set_ylabel("α")
            axes[1].set_ylim(0, _ROOM * max(_highest(history, "alpha") for history in histories) or 1.0)
            axes[1].locator_params(axis="y", nbins=3)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        figure.align_ylabels(axes)

    labels = {key: label for key, _, _, label in present}
    svg = as_svg(draw, _CURVES_SIZE, prefix, f"Loss curves: {', '.join(labels.values())}")
    legend = [{"series": series, "line": line, "label": label} for _, series, line, label in present]
    if with_alpha:
        legend.append({"series": "alpha", "line": "-", "label": "α, the forget weight"})
    return svg, legend


def smoothing(history: Sequence[Mapping[str, Any]]) -> int:
    """Steps over which the batch losses of a log are averaged to be legible; 1: they are drawn as they are."""
    points = max((len(_series(history, key)[0]) for key in BATCH_LOSSES), default=0)
    return 1 if points <= _LEGIBLE else max(3, points // (_LEGIBLE // 2))


def top_loss(histories: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """
    The highest loss that the curves of these logs are to show: the highest, but of batch losses that are averaged one
    in a hundred may be cut off.
    """
    found = [0.0]
    for history in histories:
        averaged = smoothing(history) > 1
        for key, *_ in CURVES:
            values = _series(history, key)[1]
            cut = averaged and key in BATCH_LOSSES and len(values)
            found.append(float(np.quantile(values, 0.99)) if cut else float(values.max(initial=0.0)))
    return max(found)


def _highest(history: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(_series(history, key)[1].max(initial=0.0))


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the `window` values around each one; at the ends over those that there are."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def loss_histogram(
    forget: np.ndarray, unseen: np.ndarray, edges: np.ndarray, prefix: str, top: float | None = None
) -> str:
    """
    SVG: share of forget (filled) and unseen rows (outline) by row loss (nats). Rows beyond an end are counted in its
    bin. The axis is logarithmic where the first edge is above 0. `top`: upper end of the axis of shares, to be shared
    by the figures that are to be compared.
    """

    def draw(figure):
        axis = figure.subplots()
        for series, losses in (("forget", forget), ("unseen", unseen)):
            share = shares(losses, edges)
            if series == "forget":
                axis.stairs(share, edges, fill=True, color=SERIES[series], alpha=0.55, linewidth=0)
            else:
                axis.stairs(share, edges, color=SERIES[series], linewidth=1.6)
        if edges[0] > 0:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
            axis.minorticks_off()
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(0, _ROOM * (top or max(shares(side, edges).max() for side in (forget, unseen))))
        axis.set_xlabel("loss of a row (nats)")
        axis.set_ylabel("share of rows")
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")

    return as_svg(draw, _HISTOGRAM_SIZE, prefix, "Histogram of the losses of forget and unseen rows")


def relearning_curves(lines: Sequence[tuple[str, np.ndarray, np.ndarray]], top: float, prefix: str) -> str:
    """
    SVG: loss of the held-out forget rows (nats) over the steps of a fine-tune. `lines`: (role, steps, losses); `top`:
    upper end of the loss axis, to be shared by the figures that are to be compared.
    """

    def draw(figure):
        axis = figure.subplots()
        for role, steps, losses in lines:
            series, line = ROLE_LINES[role]
            axis.plot(steps, losses, line, color=SERIES[series], linewidth=1.6, marker="o", markersize=2.2)
        axis.set_ylim(0, 1.05 * top or 1.0)
        axis.set_xlim(left=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("fine-tuning step")
        axis.set_ylabel("loss (nats; high is good)")

    return as_svg(draw, _SQUARE_SIZE, prefix, "Loss of forget rows while the models are fine-tuned")


def roc_curves(lines: Sequence[tuple[str, np.ndarray, np.ndarray]], prefix: str) -> str:
    """
    SVG: share of forget rows found over the share of unseen rows accused wrongly. `lines`: (role, scores of the forget
    rows, of the unseen rows), the lower the more likely a member.
    """

    def draw(figure):
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=GRID, linewidth=2.5)
        axis.axvline(0.01, color=SERIES["soft"], linewidth=1.2, linestyle=(0, (1, 1)))
        for role, forget, unseen in lines:
            series, line = ROLE_LINES[role]
            axis.plot(*_roc(forget, unseen), line, color=SERIES[series], linewidth=1.5)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks([0, 0.25, 0.5, 0.75, 1])
            side.set_major_formatter(lambda v, _: f"{100 * v:g} %")
        axis.set_xlabel("unseen rows accused wrongly")
        axis.set_ylabel("forget rows found")

    return as_svg(draw, _SQUARE_SIZE, prefix, "ROC curve: forget rows found over unseen rows accused wrongly")


def weight_lines(lines: Sequence[tuple[str, Mapping[str, float]]], prefix: str) -> str:
    """SVG: relative distance of the weights, layer by layer in the order of the model. `lines`: (role, layer -> it)."""
    names = list(dict.fromkeys(name for _, layers in lines for name in layers))

    def draw(figure):
        axis = figure.subplots()
        for role, layers in lines:
            series, line = ROLE_LINES[role]
            at = [i for i, name in enumerate(names) if layers.get(name) is not None]
            values = [layers[names[i]] for i in at]
            axis.plot(at, values, line, color=SERIES[series], linewidth=1.3, marker="o", markersize=3)
        shown = list(range(0, len(names), -(-len(names) // _MAX_NAMES)))
        axis.set_xticks(shown, [_short(names[i]) for i in shown], rotation=35, ha="right", rotation_mode="anchor")
        axis.set_xlim(-0.4, len(names) - 0.6)
        highest = max(value for _, layers in lines for value in layers.values() if value is not None)
        axis.set_ylim(0, _ROOM * highest or 1.0)
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
        axis.set_ylabel("distance, share of the norm")
        axis.set_xlabel("layer")

    return as_svg(draw, _SQUARE_SIZE, prefix, "Relative distance of the weights by layer")


def class_dots(
    classes: Sequence[str], lines: Sequence[tuple[str, Mapping[str, float]]], marked: Sequence[str], prefix: str
) -> str:
    """
    SVG: share of the rows of each class that is answered right, a row of dots for each class. `classes`: names, from
    the top; `lines`: (role, class -> share); `marked`: classes to point out, those that were asked to be forgotten.
    """

    def draw(figure):
        axis = figure.subplots()
        for role, right in lines:
            (series, _), (marker, filled) = ROLE_LINES[role], ROLE_DOTS[role]
            shown = [(right[name], place) for place, name in enumerate(classes) if right.get(name) is not None]
            look = {"fillstyle": "full" if filled else "none", "markersize": 5.5, "linewidth": 0, "alpha": 0.9}
            axis.plot([x for x, _ in shown], [y for _, y in shown], marker, color=SERIES[series], **look)
        axis.set_yticks(range(len(classes)), [_plain(name, name in marked) for name in classes])
        axis.set_ylim(len(classes) - 0.5, -0.5)
        axis.set_xlim(-0.03, 1.03)
        axis.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
        axis.set_xlabel("answered right")

    size = (_CURVES_SIZE[0], 0.9 + 0.21 * len(classes))
    return as_svg(draw, size, prefix, "Share of the rows answered right, class by class")


def _plain(name: str, marked: bool) -> str:
    """A class's name as it is: nothing in it is read as mathematics."""
    short = name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…"
    return short.replace("$", "\\$") + (" (asked for)" if marked else "")


def _short(name: str) -> str:
    """`model.layers.3` -> 3; `model.embed_tokens` -> embed_tokens."""
    last = name.split(".")[-1]
    return last if len(last) <= 14 else f"{last[:13]}…"


def _roc(forget: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rates from (0, 0) to (1, 1); ties are one step, as in an AUC where they count half."""
    thresholds = np.unique(np.concatenate([forget, unseen]))
    rates = [np.searchsorted(np.sort(side), thresholds, side="right") / len(side) for side in (unseen, forget)]
    false, true = (np.concatenate([[0.0], rate]) for rate in rates)
    if len(false) > _ROC_POINTS:  # evenly along the curve, so that neither its steep nor its flat part is lost
        way = false + true
        ends = np.searchsorted(way, np.linspace(0, 2, _ROC_POINTS))
        keep = np.unique(np.concatenate([[0, len(false) - 1], np.clip(ends, 0, len(false) - 1)]))
        false, true = false[keep], true[keep]
    return false, true


def shares(losses: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(losses, edges[0], edges[-1]), edges)[0] / max(len(losses), 1)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [
        (e["step"], e[key]) for e in history if e.get("step") is not None and isinstance(e.get(key), (int, float))
    ]
    if not points:
        return np.empty(0), np.empty(0)
    steps, values = np.array(points, float).T
    if len(steps) > _MAX_POINTS:
        keep = np.unique(np.linspace(0, len(steps) - 1, _MAX_POINTS).round().astype(int))
        steps, values = steps[keep], values[keep]
    return steps, values


def as_svg(draw, size: tuple[float, float], prefix: str, description: str) -> str:
    """An inline SVG: no ids shared with another figure, no address of any kind, colours from the page."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": prefix}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        with warnings.catch_warnings():  # letters that this machine's fonts lack: the reader's may have them
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'(?<=[ "(,])-?\d+\.\d{3,}', lambda found: f"{float(found[0]):.2f}", svg)  # hundredths of a point
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for sentinel, colour in _CSS.items():
        svg = svg.replace(sentinel, colour)
    svg = re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg, count=1)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
