import zlib

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from hf_unlearn.evaluation import compare, compare_membership, membership_inference, scores

TOKENS = [[0.5, 0.1, 3.0, 2.0, 1.0, 0.2, 0.3, 0.4, 0.6, 5.0], [0.25], [2.0, 2.0, 2.0, 2.0, 2.0], [1.0, 4.0, 0.0]]
Z = [[-1.0, 0.5, -4.0, 2.0, 0.0, 1.0, -2.5, 0.3, 0.2, 0.1], [0.75], [1.0] * 5, [-1.0, -3.0, 2.0]]


def token_table(nll=TOKENS, z=Z, **columns):
    lengths = [len(row) for row in nll]
    made = {
        "nll_sum": pa.array([float(sum(row)) for row in nll]),
        "n_labels": pa.array(lengths, pa.int64()),
        "entropy_sum": pa.array([2.0 * n for n in lengths]),
        "token_nll": pa.array(nll, pa.list_(pa.float32())),
        "token_z": pa.array(z, pa.list_(pa.float32())),
        "zlib_bytes": pa.array([40, 9, 11, 12][: len(nll)], pa.int64()),
    }
    return pa.table({**made, **columns})


def roc_by_sklearn(members, others):
    score = -np.concatenate([members, others])
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [len(members), len(others)]), score, drop_intermediate=False)
    return [np.trapezoid(tpr, fpr), tpr[fpr <= 0.01].max(), tpr[fpr <= 0.001].max()]


# ---------------------------------------------------------------------------------------------------------------
# scores
# ---------------------------------------------------------------------------------------------------------------


def test_scores_by_hand():
    found = scores(token_table())
    assert list(found) == ["loss", "entropy", "zlib", "min_k", "min_k_plus_plus"]
    # 20 % of 10, 1, 5 and 3 tokens are 2, at least 1, 1 and at least 1
    expected = {
        "loss": [1.31, 0.25, 2.0, 5 / 3],
        "entropy": [2.0] * 4,
        "zlib": [1.31 / 40, 0.25 / 9, 2 / 11, 5 / 3 / 12],  # the mean, as in Carlini's code and MUSE; not the sum
        "min_k": [(5 + 3) / 2, 0.25, 2.0, 4.0],
        "min_k_plus_plus": [(4 + 2.5) / 2, -0.75, -1.0, 3.0],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-7) and found[name].dtype == float
    everything = scores(token_table(), k=100)
    assert everything["min_k"] == pytest.approx(found["loss"], rel=1e-6)
    assert everything["min_k_plus_plus"] == pytest.approx([-np.mean(row) for row in Z], rel=1e-6)


@pytest.mark.parametrize("k", [1, 20, 33.3, 60])
def test_scores_are_a_plain_loops_also_on_slices_and_chunks(k):
    rng = np.random.default_rng(0)
    nll = [rng.exponential(size=n).round(1).tolist() for n in rng.integers(1, 30, 40)]  # with ties
    z = [rng.normal(size=len(row)).tolist() for row in nll]
    bytes_ = pa.array(rng.integers(9, 90, 40))
    whole = token_table(nll, z, zlib_bytes=bytes_)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 1), whole.slice(8)])
    plain = {"min_k": [], "min_k_plus_plus": []}
    for losses, normed in zip(nll, z, strict=True):
        taken = max(1, int(len(losses) * k / 100))
        plain["min_k"].append(np.mean(sorted(losses)[-taken:]))
        plain["min_k_plus_plus"].append(-np.mean(sorted(normed)[:taken]))
    for name, values in plain.items():
        assert scores(whole, k=k)[name] == pytest.approx(values, rel=1e-6)
        assert scores(pieces, k=k)[name] == pytest.approx(values, rel=1e-6)
        assert scores(whole.slice(5, 3), k=k)[name] == pytest.approx(values[5:8], rel=1e-6)


def test_scores_of_what_the_table_has_and_of_what_is_not_finite():
    table = token_table()
    assert list(scores(table.select(["nll_sum", "n_labels"]))) == ["loss"]
    assert list(scores(table.drop_columns(["zlib_bytes", "token_z"]))) == ["loss", "entropy", "min_k"]
    assert scores(table.slice(0, 0))["min_k"].shape == (0,)
    bad = token_table([[1.0, np.nan, 9.0, 8.0], [np.inf, 1.0]], [[np.nan, 1.0, 1.0, 1.0], [1.0, 1.0]])
    found = scores(bad)
    assert np.isnan(found["min_k"][0]) and found["min_k"][1] == np.inf
    assert np.isnan(found["min_k_plus_plus"][0]) and found["min_k_plus_plus"][1] == -1


def test_scores_refuse_what_they_cannot_read():
    for k in (0, 101, float("nan")):
        with pytest.raises(ValueError, match="`k` is"):
            scores(token_table(), k=k)
    with pytest.raises(ValueError, match=r"\['row'\].*`nll_sum`"):
        scores(pa.table({"row": [0]}))
    with pytest.raises(ValueError, match="`zlib_bytes`"):
        scores(token_table(zlib_bytes=pa.array([40, None, 3, 4])))
    with pytest.raises(ValueError, match="`token_nll` has 9 values in row 0, `n_labels` says 10"):
        scores(token_table(token_nll=pa.array([TOKENS[0][1:], *TOKENS[1:]])))
    with pytest.raises(ValueError, match="`token_z` has 0 values in row 1"):
        scores(token_table(token_z=pa.array([Z[0], None, *Z[2:]])))


# ---------------------------------------------------------------------------------------------------------------
# membership_inference
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 8])  # heavy, some and no ties
@pytest.mark.parametrize("sizes", [(60, 40), (150, 400), (3, 7), (80, 100), (50, 700), (30, 1100)])
def test_membership_inference_is_sklearns_roc(decimals, sizes):
    rng = np.random.default_rng(sizes[0])
    members, others = rng.normal(0, 1, sizes[0]).round(decimals), rng.normal(1, 1, sizes[1]).round(decimals)
    truth, score = np.repeat([1, 0], sizes), -np.concatenate([members, others])
    found = membership_inference(members, others, measures=["auc", "tpr_at_1fpr", "tpr_at_01fpr"], resamples=50)
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert [m["value"] for m in found.values()] == pytest.approx(roc_by_sklearn(members, others), abs=1e-12)
    assert found["auc"]["n"] == sum(sizes)


def test_membership_intervals_are_a_stratified_bootstrap():
    rng = np.random.default_rng(1)
    members, others = rng.normal(0, 1, 80), rng.normal(0.7, 1, 120)
    found = membership_inference(members, others, measures=["auc", "tpr_at_1fpr", "tpr_at_01fpr"], resamples=200)
    rng = np.random.default_rng([0, zlib.crc32(b"membership")])
    at_members, at_others = rng.integers(80, size=(200, 80)), rng.integers(120, size=(200, 120))
    draws = [roc_by_sklearn(members[i], others[j]) for i, j in zip(at_members, at_others, strict=True)]
    for measured, interval in zip(found.values(), np.percentile(draws, [2.5, 97.5], axis=0).T, strict=True):
        assert [measured["low"], measured["high"]] == pytest.approx(interval, abs=1e-12)


def test_membership_extremes():
    low, high = np.arange(20.0), np.arange(20.0) + 100
    apart = membership_inference(low, high)
    assert [apart[k]["value"] for k in ("auc", "tpr_at_1fpr", "accuracy")] == [1, 1, 1]
    assert apart["auc"]["low"] == apart["auc"]["high"] == 1
    over = membership_inference(high, low)
    assert over["auc"]["value"] == over["tpr_at_1fpr"]["value"] == 0 and over["accuracy"]["value"] == 1
    equal = membership_inference(np.ones(30), np.ones(30))
    assert equal["auc"]["value"] == 0.5 and equal["tpr_at_1fpr"]["value"] == 0
    assert equal["accuracy"]["value"] == 0.5


def test_attack_accuracy_is_balanced_and_out_of_fold():
    rng = np.random.default_rng(0)
    members, others = rng.normal(0, 1, 30), rng.normal(0, 1, 300)
    # Guessing "unseen" is right for 300 of 330 rows; balanced, there is nothing to learn.
    found = membership_inference(members, others)["accuracy"]
    assert found["n"] == 60 and found["low"] < 0.5 + 0.1 and found["value"] < 0.65
    assert found["low"] <= found["value"] <= found["high"]
    assert membership_inference(members, others)["accuracy"] == found
    # By hand: a threshold from one row of each side is wrong on the other two rows, or right on one of them, by how
    # the four rows fall into two folds. One from all four rows would be right on two.
    crossed = [membership_inference([0, 1], [0.9, -0.1], seed=s)["accuracy"]["value"] for s in range(12)]
    assert set(crossed) == {0, 0.5}
    # One feature, one threshold: the best that it can do on well-spread normals one deviation apart is .69.
    found = membership_inference(rng.normal(0, 1, 400), rng.normal(1, 1, 400))["accuracy"]
    assert found["value"] == pytest.approx(0.69, abs=0.04)


def test_true_positives_at_a_thousandth():
    # 1 of 1000 others may be a false positive, and no more: the 0 at -3, but not the two at -2.
    others = np.concatenate([[-3.0, -2.0, -2.0], np.ones(997)])
    members = np.array([-4.0, -3.0, -2.5, -2.0, 0.0])
    found = membership_inference(members, others, resamples=20)
    assert found["tpr_at_01fpr"]["value"] == 3 / 5 and found["tpr_at_1fpr"]["value"] == 1
    assert found["tpr_at_01fpr"]["resolution"] == found["tpr_at_1fpr"]["resolution"] == 1 / 1000
    assert list(found) == ["auc", "tpr_at_1fpr", "tpr_at_01fpr", "accuracy"] and "resolution" not in found["auc"]
    # With 999, none may: the members below every other row.
    few = membership_inference(members, others[:999], resamples=20)["tpr_at_01fpr"]
    assert few["value"] == 1 / 5 and few["resolution"] == 1 / 999
    assert few["low"] <= few["value"] <= few["high"] and few["n"] == 1004


def test_membership_of_scores_that_are_missing_or_not_finite():
    nothing = {"value": None, "low": None, "high": None, "n": 3}
    found = membership_inference([1.0, np.nan], [2.0])
    assert found["auc"] == nothing and found["tpr_at_01fpr"] == {**nothing, "resolution": 1.0}
    empty = membership_inference([1.0, 2.0, 3.0], [])
    assert empty["auc"] == nothing and empty["tpr_at_1fpr"] == {**nothing, "resolution": None}
    with pytest.raises(ValueError, match="`resamples` is 0"):
        membership_inference([1.0, 2.0], [2.0, 3.0], measures=["auc"], resamples=0)


# ---------------------------------------------------------------------------------------------------------------
# compare_membership
# ---------------------------------------------------------------------------------------------------------------


def pairs(m=30, n=25, seed=0, decimals=1):
    """Scores of two models that agree on most of what makes a row easy."""
    rng = np.random.default_rng(seed)
    easy, also_easy = rng.normal(size=m), rng.normal(size=n)
    noise = [0.3 * rng.normal(size=size) for size in (m, n, m, n)]
    made = (easy + noise[0] - 0.8, also_easy + noise[1], easy + noise[2], also_easy + noise[3])
    return [a.round(decimals) for a in made]


@pytest.mark.parametrize("chunk", [1_000_000, 200])
def test_compare_membership_is_a_loop_over_the_same_draws(monkeypatch, chunk):
    monkeypatch.setattr("hf_unlearn.evaluation.intervals.CHUNK_ELEMENTS", chunk)
    rows, per_chunk, left = pairs(), [], 60
    while left:
        per_chunk.append(min(left, chunk // 55))
        left -= per_chunk[-1]
    rng = np.random.default_rng([5, zlib.crc32(b"membership")])

    def auc(members, others):
        below = (members[:, None] < others).mean()
        return below + (members[:, None] == others).mean() / 2

    def both(i, j):
        mine, theirs = auc(rows[0][i], rows[1][j]), auc(rows[2][i], rows[3][j])
        return mine - theirs, 100 * ((1 - mine) / (1 - theirs) - 1), 100 * (mine / theirs - 1)

    draws = []
    for size in per_chunk:
        at_members, at_others = rng.integers(30, size=(size, 30)), rng.integers(25, size=(size, 25))
        draws += [both(i, j) for i, j in zip(at_members, at_others, strict=True)]
    found = compare_membership(*rows, seed=5, resamples=60)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    for i, kind in enumerate(("auc_gap", "privleak", "rel_diff")):
        expected = {"value": both(slice(None), slice(None))[i], "low": low[i], "high": high[i], "n": 55}
        assert found[kind] == pytest.approx({**expected, "detectable": (high[i] - low[i]) / 2}, abs=1e-10)
    # The same rows as those of the single model's interval.
    single = membership_inference(*rows[:2], measures=["auc"], seed=5, resamples=60)["auc"]
    reference = membership_inference(*rows[2:], measures=["auc"], seed=5, resamples=60)["auc"]
    assert found["auc_gap"]["value"] == pytest.approx(single["value"] - reference["value"])


def test_pairing_sees_smaller_gaps_and_misses_as_often_as_it_says():
    rows = pairs(100, 100, decimals=8)
    paired = compare_membership(*rows, resamples=300)["auc_gap"]
    single = membership_inference(*rows[:2], measures=["auc"], resamples=300)["auc"]
    assert paired["detectable"] < 0.6 * (single["high"] - single["low"]) / 2
    # Without a true gap, |gap| beyond `detectable` in about 5 % of samples.
    beyond = 0
    for seed in range(100):
        rows = pairs(40, 40, seed)
        gap = compare_membership(rows[0] + 0.8, *rows[1:], resamples=80, seed=seed)["auc_gap"]
        beyond += abs(gap["value"]) > gap["detectable"]
    assert 1 <= beyond <= 12


def test_compare_membership_where_the_bootstrap_cannot_tell():
    nothing = {"value": None, "low": None, "high": None, "detectable": None}
    members, others, *_ = pairs()
    same = compare_membership(members, others, members, others, resamples=20)
    assert same["auc_gap"] == {"value": 0, "low": 0, "high": 0, "n": 55, "detectable": None}
    apart = compare_membership([0, 1, 2], [5, 6], [0, 1, 2], [5, 5], resamples=20)["rel_diff"]
    assert apart["value"] == 0 and apart["detectable"] is None
    ties = compare_membership([1, 1], [1, 1], [0, 0], [1, 1], resamples=20)
    assert ties["auc_gap"]["value"] == -0.5 and ties["rel_diff"]["value"] == -50
    assert ties["privleak"] == {**nothing, "n": 4}  # AUC 1 of the retrained model, 0 as MUSE counts: no ratio
    zero = compare_membership([0, 1], [5, 6], [9, 9], [5, 6], resamples=20)  # the other way round
    assert zero["auc_gap"]["value"] == 1 and zero["rel_diff"] == {**nothing, "n": 4}
    assert zero["privleak"]["value"] == -100
    one = compare_membership([1.0], [2.0, 3.0], [2.5], [2.0, 3.0], resamples=20)["auc_gap"]
    assert one == {"value": 0.5, "low": None, "high": None, "n": 3, "detectable": None}
    assert compare_membership([np.inf, 1], [1], [0, 1], [1])["auc_gap"] == {**nothing, "n": 3}
    assert compare_membership([], [1], [], [1])["auc_gap"] == {**nothing, "n": 1}
    with pytest.raises(ValueError, match=r"`others` has the shape \(2,\) and `reference_others` \(3,\)"):
        compare_membership([0, 1], [5, 6], [0, 1], [5, 6, 7])
    with pytest.raises(ValueError, match="`resamples` is 0"):
        compare_membership([0, 1], [5, 6], [0, 1], [5, 6], resamples=0)


def test_privleak_is_muses_sign_and_base():
    """-100 where nothing was unlearned, above 0 where the rows stand out as deleted; `rel_diff` is the plain ratio."""
    retrained = [0.0, 5.0], [1.0, 6.0]  # AUC 3/4
    kept = compare_membership([0.0, 1.0], [5.0, 6.0], *retrained, resamples=20)
    assert kept["privleak"]["value"] == pytest.approx(-100) and kept["rel_diff"]["value"] == pytest.approx(100 / 3)
    over = compare_membership([7.0, 8.0], [5.0, 6.0], *retrained, resamples=20)
    assert over["privleak"]["value"] == pytest.approx(300) and over["rel_diff"]["value"] == pytest.approx(-100)


def test_privleak_takes_forty_per_cent_of_the_tokens_as_in_muse():
    rng = np.random.default_rng(2)

    def side(n):
        nll, z = rng.gamma(2.0, 1.0, size=(n, 10)), rng.normal(size=(n, 10))
        return token_table(nll.tolist(), z.tolist(), zlib_bytes=pa.array([30] * n))

    def with_rest(table):
        return table.append_column("row", pa.array(range(table.num_rows))).append_column("n_correct", table["n_labels"])

    mine, theirs = ({"forget": with_rest(side(12)), "unseen": with_rest(side(9))} for _ in range(2))
    found = compare(mine, theirs, resamples=10)
    for k, kind in ((20, "auc_gap"), (20, "rel_diff"), (40, "privleak")):
        sides = [scores(of[split], k=k)["min_k"] for of in (mine, theirs) for split in ("forget", "unseen")]
        assert found[f"forget_mia_min_k_{kind}"] == compare_membership(*sides, resamples=10)[kind], kind
