"""Intervals against scipy, closed forms, and a count by simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from qlayer_core import intervals


@pytest.mark.parametrize(
    "correct, n", [(8486, 10_000), (1, 10_000), (500, 1000), (3, 7), (0, 50), (50, 50), (1, 1)]
)
def test_wilson_equals_scipys(correct, n):
    expected = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert intervals.wilson(correct, n) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.002)


def test_wilson_in_closed_form():
    assert intervals.wilson(5, 10, z=2) == pytest.approx((100 * (0.5 - 14**-0.5), 100 * (0.5 + 14**-0.5)))
    assert intervals.wilson(0, 4, z=2) == (0.0, pytest.approx(50.0))


@pytest.mark.parametrize("correct, n", [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(correct, n):
    with pytest.raises(ValueError, match=f"{correct} correct of {n}: give 0 <= correct <= n and n > 0"):
        intervals.wilson(correct, n)


# ---- differences ----


def test_a_difference_in_closed_form():
    """Both ends add the two half-widths at right angles."""
    assert intervals.difference((60, 57, 64), (40, 37, 45)) == pytest.approx((20 - 34**0.5, 20 + 5))


def test_a_paired_difference_counts_only_images_on_which_the_models_differ():
    gap, low, high = intervals.paired(30, 10, 1000)
    assert gap == pytest.approx(2.0)
    centre, share = 20 / 1002, 41 / 1002  # half an image more on either side
    half = 1.96 * (share - centre**2) ** 0.5 / 1002**0.5
    assert (low, high) == pytest.approx((100 * (centre - half), 100 * (centre + half)))
    assert intervals.paired(10, 0, 10)[2] == 100, "no network is ahead by more"
    gap, low, high = intervals.paired(0, 0, 10)
    assert gap == 0 and low == -high < 0, "ten images without a difference don't show that there is none"


@pytest.mark.parametrize("images", [3, 4, 5, 6, 8, 12, 20])
def test_a_paired_interval_excludes_zero_where_the_test_of_mcnemar_does(images):
    """All images on which two models differ speak for one: the exact test, half of the observed case counted."""
    _, low, _ = intervals.paired(images, 0, 200)
    assert (low > 0) == (binomtest(images, images).pvalue / 2 < 0.05)


def test_a_paired_interval_holds_the_truth_in_about_95_percent():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        only_one, only_other, _ = generator.multinomial(2000, (0.05, 0.03, 0.92))
        _, low, high = intervals.paired(only_one, only_other, 2000)
        held += low <= 2 <= high
    assert held == pytest.approx(950, abs=30)


def _errs(factor: float) -> float:
    """Return how often a network errs whose images are harder by a factor."""
    return stats.beta(1, 4).expect(lambda hard: np.minimum(1, hard * factor))


TRUTH = _errs(1.2) - _errs(1.0)


def test_a_mean_difference_over_seeds_holds_the_truth_in_about_95_percent():
    """Three networks of a kind err on the same hard images more often than on others."""
    generator, held, n = np.random.default_rng(0), 0, 1000
    for _ in range(500):
        hard = generator.beta(1, 4, n)  # by image, how often a network errs
        one, other = ((generator.random((3, n)) > np.minimum(1, hard * more)).mean(0) for more in (1.0, 1.2))
        gaps = one - other
        mean, low, high = intervals.of_differences(gaps.sum(), (gaps**2).sum(), n)
        assert mean == pytest.approx(100 * gaps.mean())
        held += low <= 100 * TRUTH <= high
    assert held == pytest.approx(475, abs=20)


def test_an_interval_over_seeds_is_students():
    gaps = [1.0, 2.5, 4.0]
    expected = stats.ttest_1samp(gaps, 0).confidence_interval()
    assert intervals.over_seeds(gaps, ()) == pytest.approx((expected.low, expected.high))
    one, other = [80.0, 84.0, 79.0], [70.0, 71.0, 75.0]
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    low, high = intervals.over_seeds(one, other)
    assert low < welch.low < welch.high < high and low + high == pytest.approx(welch.low + welch.high)
    with pytest.raises(ValueError, match="1 and 3 seeds: a spread needs two or more"):
        intervals.over_seeds([80.0], other)


@pytest.mark.parametrize("counts", [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_impossible_pairs_are_refused(counts):
    with pytest.raises(ValueError, match="give counts >= 0 whose sum is at most n, and n > 0"):
        intervals.paired(*counts)
