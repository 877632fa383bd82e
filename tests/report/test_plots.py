import numpy as np
import pytest

from hf_unlearn.report import plots
from hf_unlearn.report.panels import panels


def test_curves_keep_their_ends_and_are_thinned():
    log = [{"step": i, "forget_loss": float(i), "retain_loss": True if i == 3 else 0.5} for i in range(100_000)]
    steps, values = plots._series(log, "forget_loss")
    assert len(steps) <= 300 and (steps[0], steps[-1], values[-1]) == (0, 99_999, 99_999)
    svg, legend = plots.loss_curves([log], "c")
    assert len(svg) < 60_000 and [item["series"] for item in legend] == ["forget", "retain"]
    assert plots.loss_curves([[{"step": 1, "loss": 2.0}]], "c") is None


def test_the_area_under_a_roc_curve_is_the_auc():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 9, 50) / 3, rng.integers(2, 12, 70) / 3  # with ties
    many = rng.normal(size=2000), rng.normal(0.3, 2.0, size=2000)
    for (forget, unseen), error in ((few, 1e-12), (many, 1e-3)):
        false, true = plots._roc(forget, unseen)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1) and len(false) <= 2 + plots._ROC_POINTS
        pairs = forget[:, None] - unseen
        area = (np.diff(false) * (true[1:] + true[:-1]) / 2).sum()
        assert area == pytest.approx((pairs < 0).mean() + (pairs == 0).mean() / 2, abs=error)


def test_histograms_share_an_axis_and_count_every_row():
    edges = np.linspace(0, 4, 5)
    assert plots.shares(np.array([0.5, 1.5, 9.0, -1.0]), edges).tolist() == [0.5, 0.25, 0, 0.25]
    rng = np.random.default_rng(0)

    def histograms(scale):
        rows = [
            {"task": "t", "model": role, "seed": 0, "split": split, "loss": scale(rng)}
            for role in ("original", "retrained")
            for split in ("forget", "unseen")
        ]
        return panels({"runs": []}, "t", rows, (), "0")

    assert not histograms(lambda g: g.uniform(1, 2, 50))["logarithmic"]
    assert histograms(lambda g: 10 ** g.uniform(-5, 1, 50))["logarithmic"]  # one bar on a linear axis
    zeros = histograms(lambda g: np.zeros(5))
    assert len(zeros["histograms"]) == 2 and not zeros["clipped"]


def drawn(monkeypatch, draw):
    """The figures that a call draws, before they become SVG."""
    figures, plain = [], plots.as_svg

    def kept(draw, size, *more):
        def and_keep(figure):
            draw(figure)
            figures.append(figure)

        return plain(and_keep, size, *more)

    monkeypatch.setattr(plots, "as_svg", kept)
    draw()
    return figures


def noisy(steps, height=1.0):
    rng = np.random.default_rng(0)
    values = height * rng.gamma(0.5, 1.0, (steps, 2))
    return [{"step": i, "forget_loss": f, "retain_loss": r, "alpha": 0.19} for i, (f, r) in enumerate(values)]


def test_hundreds_of_noisy_steps_become_a_mean_and_few_stay_as_they_are(monkeypatch):
    assert plots.smoothing(noisy(20)) == 1 and 5 <= plots.smoothing(noisy(200)) <= 10
    (few,) = drawn(monkeypatch, lambda: plots.loss_curves([noisy(20)], "a"))
    assert len(few.axes[0].lines) == 2
    (many,) = drawn(monkeypatch, lambda: plots.loss_curves([noisy(400)], "b"))
    pale, mean = many.axes[0].lines[:2]
    assert pale.get_alpha() < 0.5 and len(pale.get_ydata()) == len(mean.get_ydata()) == 300
    assert np.abs(np.diff(mean.get_ydata())).mean() < 0.2 * np.abs(np.diff(pale.get_ydata())).mean()
    assert plots._running_mean(np.ones(9), 4).tolist() == [1.0] * 9  # nothing falls off at the ends


def test_no_line_is_cut_and_losses_of_a_task_share_an_axis(monkeypatch):
    logs = {"unlearned": noisy(20, 1.0), "ready_unlearned": noisy(20, 9.0)}
    histories = [{"task": "t", "model": role, "seed": 0, "log_history": log} for role, log in logs.items()]
    figures = drawn(monkeypatch, lambda: panels({"runs": []}, "t", (), histories, "0"))
    assert len({figure.axes[0].get_ylim() for figure in figures}) == 1
    for figure in figures:
        for axis in figure.axes:
            assert max(line.get_ydata().max() for line in axis.lines) < 0.97 * axis.get_ylim()[1]


def test_histograms_of_a_task_share_both_axes(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [
        {"task": "t", "model": role, "seed": 0, "split": split, "loss": rng.uniform(0, width, 50)}
        for role, width in (("original", 0.1), ("retrained", 4.0))
        for split in ("forget", "unseen")
    ]
    figures = drawn(monkeypatch, lambda: panels({"runs": []}, "t", rows, (), "0"))
    figures = figures[-2:]  # before them the ROC curves
    assert len({(*figure.axes[0].get_xlim(), *figure.axes[0].get_ylim()) for figure in figures}) == 1


def classes(right, **more):
    return [{"label": i, "name": name, "n": 9, "accuracy": a, "loss": 1.0} for i, (name, a) in enumerate(right.items())]


def test_classes_are_drawn_by_name_and_those_asked_for_are_pointed_out(monkeypatch):
    right = {"<cat>": 0.0, "$dog$ & $x$": 1.0, "fox": 0.5}
    details = {"classes": {"test": classes(right), "forget": classes({"fox": 1.0})}}
    roles = ("original", "unlearned", "retrained_again")
    runs = [{"task": "t", "model": role, "seed": 0, "details": details} for role in roles]
    request = {"by": "class", "values": ["fox"]}
    card = {"runs": runs, "provenance": {"t": {"request": request}}}
    found = panels(card, "t", (), (), "0")
    assert [figure["label"] for figure in found["classes"]] == ["Test rows"]  # the forget rows are of one class
    assert [role["name"] for role in found["class_roles"]] == ["original", "unlearned"]
    svg = found["classes"][0]["svg"]
    assert "&lt;cat&gt;" in svg and "$dog$ &amp; $x$" in svg and "fox (asked for)" in svg and "<cat>" not in svg
    many = {f"c{i}": 1.0 for i in range(100)}
    before, after = ({**run, "details": {"classes": {"test": classes(many)}}} for run in runs[:2])
    after["details"] = {"classes": {"test": classes({**many, "c7": 0.2})}}
    (figure,) = panels({"runs": [before, after]}, "t", (), (), "0")["classes"]
    assert figure["label"] == "Test rows (40 of 100 classes, those that moved most)" and ">c7<" in figure["svg"]
