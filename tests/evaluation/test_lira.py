import numpy as np
import pyarrow as pa
import pytest
from scipy.special import logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from hf_unlearn.evaluation import lira_measures, logit_confidence, shadow_plan
from hf_unlearn.evaluation.measures.lira import lira

# ---------------------------------------------------------------------------------------------------------------
# logit_confidence
# ---------------------------------------------------------------------------------------------------------------


def test_logit_confidence_of_a_language_model():
    loss, n_labels = np.array([0.01, 0.5, np.log(2), 3.0, 20.0]), np.array([1, 7, 2, 3, 5])
    found = logit_confidence(pa.table({"nll_sum": loss * n_labels, "n_labels": n_labels}))
    assert found == pytest.approx(logit(np.exp(-loss)), rel=1e-9, abs=1e-12)


def test_logit_confidence_at_the_ends():
    tiny = 2.0**-20
    found = logit_confidence(pa.table({"nll_sum": [0.0, 1e-30, tiny, 800.0, np.nan, np.inf], "n_labels": [1] * 6}))
    assert found[0] == found[1] == pytest.approx(24 * np.log(2), abs=1e-6)  # clamped at 2**-24
    assert found[2] == pytest.approx(20 * np.log(2) - tiny / 2, abs=1e-9)
    assert found[3] == -800 and np.isnan(found[4]) and found[5] == -np.inf


def test_logit_confidence_of_a_classifier_is_its_margin():
    table = pa.table({"nll_sum": [9.0, 9.0], "n_labels": [1, 1], "margin": [40.5, -3.0]})
    assert logit_confidence(table).tolist() == [40.5, -3.0]
    assert logit_confidence(table.drop_columns(["margin"]))[0] == pytest.approx(logit(np.exp(-9)))
    with pytest.raises(ValueError, match="expected `margin`"):
        logit_confidence(table.select(["nll_sum"]))


# ---------------------------------------------------------------------------------------------------------------
# shadow_plan
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_rows", "n_shadows"), [(2, 4), (7, 4), (10, 6), (101, 8), (400, 64)])
def test_shadow_plan_is_balanced_both_ways(n_rows, n_shadows):
    plan = shadow_plan(n_rows, n_shadows, seed=3)
    assert plan.shape == (n_shadows, n_rows) and plan.dtype == bool
    assert (plan.sum(0) == n_shadows // 2).all()
    assert np.ptp(plan.sum(1)) <= 1
    state = np.random.get_state()[1].copy()
    assert (shadow_plan(n_rows, n_shadows, seed=3) == plan).all() and (np.random.get_state()[1] == state).all()
    assert (shadow_plan(n_rows, n_shadows + 2, seed=3)[:n_shadows] == plan).all()


def test_shadow_plan_depends_on_its_seed_and_treats_rows_alike():
    plans = np.stack([shadow_plan(40, 8, seed) for seed in range(60)])
    assert len({plan.tobytes() for plan in plans}) == 60
    assert abs(plans[:, 0].mean(0) - 0.5).max() < 0.25  # each row in the first shadow for about half of the seeds
    together = np.einsum("psi,psj->ij", plans.astype(float), plans) / (60 * 8)
    np.fill_diagonal(together, 0.25 * 39 / 40)
    assert abs(together - 0.25 * 39 / 40).max() < 0.1  # two rows are in one shadow as often as chance has it


def test_shadow_plan_refuses():
    for n_shadows in (0, 2, 5, -4):
        with pytest.raises(ValueError, match=f"`n_shadows` is {n_shadows}: expected an even number of at least 4"):
            shadow_plan(10, n_shadows)
    with pytest.raises(ValueError, match="`n_rows` is 1"):
        shadow_plan(1, 4)


# ---------------------------------------------------------------------------------------------------------------
# lira
# ---------------------------------------------------------------------------------------------------------------


def world(n=1500, n_shadows=8, shift=1.5, spread=0.7, seed=0):
    """Rows as hard as they please; what was unlearned lies `shift` above what was never seen."""
    rng = np.random.default_rng(seed)
    hard = 5 * rng.normal(size=n)
    plan = shadow_plan(n, n_shadows, seed)
    shadows = hard + shift * plan + spread * rng.normal(size=plan.shape)
    is_forget = rng.permutation(n) < n // 2
    target = hard + shift * is_forget + spread * rng.normal(size=n)
    return target, shadows, plan, ~plan, is_forget


@pytest.mark.parametrize("variance", ["pooled", "per_row"])
def test_lira_is_two_gaussians_per_row(variance):
    target, shadows, unlearned, never, _ = world(n=12, n_shadows=10)
    never[np.argmax(never, axis=0), range(12)] = False  # one shadow a row on neither side: 5 against 4
    shadows[~unlearned & ~never] = np.nan
    found = lira(target, shadows, unlearned, never, variance=variance)
    by_side = []
    for mask in (unlearned, never):
        rows = [shadows[mask[:, i], i] for i in range(12)]
        if variance == "pooled":
            squares = sum(((row - row.mean()) ** 2).sum() for row in rows)
            deviation = [np.sqrt(squares / sum(len(row) - 1 for row in rows))] * 12
        else:
            deviation = [row.std(ddof=1) for row in rows]
        by_side.append([norm.logpdf(t, row.mean(), s) for t, row, s in zip(target, rows, deviation, strict=True)])
    assert found == pytest.approx(np.subtract(*by_side), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("n_shadows", "variance"), [(62, "pooled"), (64, "per_row")])
def test_variance_per_row_from_32_shadows_on_each_side(n_shadows, variance):
    rows = world(n=5, n_shadows=n_shadows)[:4]
    assert (lira(*rows) == lira(*rows, variance=variance)).all()
    other = {"pooled": "per_row", "per_row": "pooled"}[variance]
    assert (lira(*rows) != lira(*rows, variance=other)).all()


@pytest.mark.parametrize(("n_shadows", "variance"), [(64, "auto"), (64, "pooled"), (8, "auto")])
def test_lira_recovers_the_analytic_auc(n_shadows, variance):
    """
    The ratio of two Gaussians apart by d: AUC = Phi(d / (s sqrt 2)). With means from S/2 shadows each, over rows the
    ratio is (t - middle) * (d + error), as good as t - middle up to errors of the order s^2/S: the middle's variance
    s^2/S adds to the row's.
    """
    shift, spread = 1.5, 0.7
    *rows, is_forget = world(shift=shift, spread=spread, n_shadows=n_shadows)
    ratio = lira(*rows, variance=variance)
    expected = norm.cdf(shift / (spread * np.sqrt(1 + 1 / n_shadows) * np.sqrt(2)))
    found = roc_auc_score(is_forget, ratio)
    assert found == pytest.approx(expected, abs=0.02)
    # The raw confidence, without shadows, drowns in how hard rows are.
    assert roc_auc_score(is_forget, rows[0]) < 0.7 < found


def test_lira_finds_nothing_where_unlearned_is_as_never_seen():
    measured = lira_measures(*world(shift=0), seed=1, resamples=200)["auc"]
    assert measured["value"] == pytest.approx(0.5, abs=0.04) and measured["low"] < 0.5 < measured["high"]


def test_lira_where_all_shadows_agree():
    plan = shadow_plan(4, 4)
    shadows = np.zeros((4, 4))
    shadows[plan] = 1
    for variance in ("pooled", "per_row"):
        ratio = lira([1.0, 0.0, 0.5, 1e6], shadows, plan, ~plan, variance=variance)
        # Deviation 1e-3, the floor: half a squared distance of a thousand.
        assert ratio == pytest.approx([5e5, -5e5, 0, 1e12], abs=1e-3, rel=1e-5) and np.isfinite(ratio).all()
    same = lira([0.3] * 4, np.full((4, 4), 0.3), plan, ~plan)
    assert (same == 0).all()


def test_lira_measures_are_those_of_the_ratio():
    *rows, is_forget = world(n=300)
    found = lira_measures(*rows, is_forget, seed=2, resamples=50)
    ratio = lira(*rows)
    assert list(found) == ["auc", "tpr_at_1fpr", "tpr_at_01fpr"]
    assert (
        found["auc"]["value"] == pytest.approx(roc_auc_score(is_forget, ratio), abs=1e-12) and found["auc"]["n"] == 300
    )
    assert found["tpr_at_01fpr"]["value"] == (ratio[is_forget] > ratio[~is_forget].max()).mean()
    assert found["tpr_at_01fpr"]["resolution"] == 1 / 150
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]
    assert lira_measures(*rows, is_forget, seed=2, resamples=50) == found


def test_lira_names_what_is_wrong():
    target, shadows, unlearned, never, is_forget = world(n=6, n_shadows=4)

    def broken(match, **changes):
        arguments = {"target": target, "shadows": shadows, "unlearned": unlearned, "never": never, **changes}
        with pytest.raises(ValueError, match=match):
            lira(**arguments)

    broken(r"`variance` is 'both': expected one of 'auto', 'pooled', 'per_row'", variance="both")
    broken(r"`target` has the shape \(5,\) and `shadows` \(4, 6\)", target=target[:5])
    broken(r"`shadows` \(6,\)", shadows=shadows[0])
    broken(r"`never` is bool \(3, 6\): expected bool \(4, 6\)", never=never[:3])
    broken(r"`unlearned` is int64 \(4, 6\)", unlearned=unlearned.astype(np.int64))
    broken("shadow 0 is said to have unlearned row . and never to have seen it", never=np.ones_like(never))
    broken(
        r"`target` has 1 value\(s\) that are not finite, the first nan at \(2,\)",
        target=np.where(np.arange(6) == 2, np.nan, target),
    )
    broken(r"`shadows` has 24 value.* the first inf at \(0, 0\)", shadows=np.full((4, 6), np.inf))
    fewer = unlearned.copy()
    fewer[np.argmax(fewer[:, 3]), 3] = False
    broken(r"row 3 has 1 shadow model\(s\) in `unlearned`, 1 row\(s\)", unlearned=fewer)
    broken(r"row 0 has 0 shadow model\(s\) in `never`, 6 row\(s\)", never=np.zeros_like(never))
    with pytest.raises(ValueError, match=r"`is_forget` is int64 \(6,\): expected bool \(6,\)"):
        lira_measures(target, shadows, unlearned, never, is_forget.astype(np.int64))
    # A pool with no unseen rows: nothing to tell apart.
    alone = lira_measures(target, shadows, unlearned, never, np.ones(6, bool), resamples=20)
    assert alone["auc"]["value"] is None and alone["tpr_at_1fpr"]["resolution"] is None
