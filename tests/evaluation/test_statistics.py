import math
import warnings

import numpy as np
import pytest
from scipy.stats import ks_2samp

from hf_unlearn.evaluation import ks_detectable


def smallest_by_enumeration(n, m, alpha):
    """Over all distances that two samples can have, by two-valued samples with that distance."""
    found = []
    for i in range(n + 1):
        for j in range(m + 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                test = ks_2samp([0.0] * i + [1.0] * (n - i), [0.0] * j + [1.0] * (m - j))
            if test.pvalue < alpha:
                found.append(test.statistic)
    return min(found, default=None)


@pytest.mark.parametrize(("n", "m", "alpha"), [(8, 6, 0.05), (8, 7, 0.1), (7, 7, 0.01), (4, 3, 0.05), (1, 9, 0.3)])
def test_ks_detectable_is_the_smallest_of_all_distances(n, m, alpha):
    found = ks_detectable(n, m, alpha)
    assert found == pytest.approx(smallest_by_enumeration(n, m, alpha), abs=1e-12)
    assert ks_detectable(m, n, alpha) == found


def test_ks_detectable_of_forty_rows():
    assert ks_detectable(40, 40) == pytest.approx(13 / 40)  # 12/40 has p = .054
    assert ks_detectable(40, 400) < 0.23 and ks_detectable(400, 400) < 0.1
    # Two real samples, one just too close and one just seen.
    first = np.arange(40.0)
    for shift, seen in ((12, False), (13, True)):
        test = ks_2samp(first, first + shift)
        assert test.statistic == pytest.approx(shift / 40) and (test.pvalue < 0.05) == seen


def test_ks_detectable_of_many_rows_is_the_asymptotic_one():
    # Beyond 10 000 rows scipy is asymptotic: Q(D sqrt(nm/(n+m))) = alpha at 1.358.
    found = ks_detectable(20_000, 10_001)
    assert found == pytest.approx(1.358 * math.sqrt(30_001 / (20_000 * 10_001)), rel=0.01)


def test_ks_detectable_names_what_is_wrong():
    assert ks_detectable(3, 3) is None and ks_detectable(4, 4) == 1  # p of no overlap: .1 and .029
    with pytest.raises(ValueError, match="`n` and `m` are 0 and 4"):
        ks_detectable(0, 4)
    for alpha in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="`alpha` is"):
            ks_detectable(4, 4, alpha)
