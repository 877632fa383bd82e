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
