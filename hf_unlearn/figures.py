"""The report's pictures: inline SVG that takes its colours from the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Drawn in sentinel colours, which become CSS colours: one drawing for light, dark and paper.
_INK, _GRID = "#010203", "#010204"
_SERIES = {"forget": "#010205", "unseen": "#010206", "retain": "#010207", "alpha": "#010208", "tau": "#010209"}
_CSS = {_INK: "currentColor", _GRID: "var(--grid)", **{hex_: f"var(--{name})" for name, hex_ in _SERIES.items()}}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.unicode_minus": False,
}
_CURVES_SIZE = (4.6, 3.2)  # inches: about the width of a phone, so that the letters stay readable there
_HISTOGRAM_SIZE = (3.5, 2.1)
_MAX_POINTS = 300  # of one curve
BINS = 24
CURVES = (  # key in the log, series, line style, label
    ("forget_loss", "forget", "-", "forget rows, batch"),
    ("look_forget_loss", "forget", ":", "forget rows, all"),
    ("unseen_loss", "unseen", "-", "unseen rows, all"),
    ("tau", "tau", "--", "τ, the target"),
    ("retain_loss", "retain", "-", "retain rows, batch"),
    ("look_retain_loss", "retain", ":", "retain rows, all"),
)


def loss_curves(histories: Sequence[Sequence[Mapping[str, Any]]], prefix: str) -> tuple[str, list[dict]] | None:
    """
    Loss over the steps of an unlearning run, α below. `histories`: logs of the seeds of one run (lists of dicts with
    `step` and any of the keys of CURVES and `alpha`). Returns the SVG and its legend, or None if nothing was logged.
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
                axes[0].plot(steps, values, linestyle=line, color=_SERIES[series], linewidth=1.3, **dots)
            if with_alpha:
                axes[1].plot(*_series(history, "alpha"), color=_SERIES["alpha"], linewidth=1.3)
        axes[0].set_ylabel("loss (nats)")
        axes[0].set_ylim(bottom=0)
        if with_alpha:
            axes[1].set_ylabel("α")
            axes[1].set_ylim(bottom=0)
            axes[1].locator_params(axis="y", nbins=3)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        figure.align_ylabels(axes)

    labels = {key: label for key, _, _, label in present}
    svg = _svg(draw, _CURVES_SIZE, prefix, f"Loss curves: {', '.join(labels.values())}")
    legend = [{"series": series, "line": line, "label": label} for _, series, line, label in present]
    if with_alpha:
        legend.append({"series": "alpha", "line": "-", "label": "α, the forget weight"})
    return svg, legend


def loss_histogram(forget: np.ndarray, unseen: np.ndarray, edges: np.ndarray, prefix: str) -> str:
    """
    SVG: share of forget (filled) and unseen rows (outline) by row loss (nats). Rows beyond an end are counted in its
    bin. The axis is logarithmic where the first edge is above 0.
    """

    def draw(figure):
        axis = figure.subplots()
        for series, losses in (("forget", forget), ("unseen", unseen)):
            share = _shares(losses, edges)
            if series == "forget":
                axis.stairs(share, edges, fill=True, color=_SERIES[series], alpha=0.55, linewidth=0)
            else:
                axis.stairs(share, edges, color=_SERIES[series], linewidth=1.6)
        if edges[0] > 0:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
            axis.minorticks_off()
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("loss of a row (nats)")
        axis.set_ylabel("share of rows")
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")

    return _svg(draw, _HISTOGRAM_SIZE, prefix, "Histogram of the losses of forget and unseen rows")


def _shares(losses: np.ndarray, edges: np.ndarray) -> np.ndarray:
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


def _svg(draw, size: tuple[float, float], prefix: str, description: str) -> str:
    """An inline SVG: no ids shared with another figure, no address of any kind, colours from the page."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for sentinel, colour in _CSS.items():
        svg = svg.replace(sentinel, colour)
    svg = re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg, count=1)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
