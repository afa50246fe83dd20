"""Fixed base draws: the exact moments that `symmetric_draws` promises, and the law of `normal_draws`."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from jensen._math import sobol
from jensen._math.noise import normal_draws, symmetric_draws

SIZES = [(2, 1), (8, 1), (16, 3), (64, 3), (64, 16), (30, 7), (100, 50), (256, 64), (10, 40)]


@pytest.mark.parametrize(("num_draws", "dim"), SIZES)
def test_odd_moments_vanish_and_second_moments_are_one(num_draws, dim):
    z = symmetric_draws(num_draws, dim, seed=3)
    assert z.shape == (num_draws, dim)
    np.testing.assert_array_equal(z[: num_draws // 2], -z[num_draws // 2 :])
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose((z**3).mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose((z**2).mean(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("num_draws", "dim"), [(8, 1), (16, 3), (64, 16), (256, 64), (200, 50)])
def test_with_enough_pairs_the_covariance_is_the_identity(num_draws, dim):
    z = symmetric_draws(num_draws, dim, seed=5)
    assert num_draws // 2 >= 2 * dim
    np.testing.assert_allclose(z.T @ z / num_draws, np.eye(dim), atol=1e-12)


def test_with_fewer_pairs_it_is_not_and_the_law_sees_it():
    z = symmetric_draws(10, 8, seed=5)
    assert np.abs(z.T @ z / 10 - np.eye(8)).max() > 0.05


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    np.testing.assert_array_equal(symmetric_draws(32, 4, seed=1), symmetric_draws(32, 4, seed=1))
    assert not np.allclose(symmetric_draws(32, 4, seed=1), symmetric_draws(32, 4, seed=2))


def test_the_dtype_is_the_one_asked_for():
    assert symmetric_draws(8, 2, seed=0, dtype=np.float32).dtype == np.float32
    assert normal_draws(8, 2, seed=0, dtype=np.float32).dtype == np.float32
    assert symmetric_draws(8, 2, seed=0).dtype == np.float64


@pytest.mark.parametrize("num_draws", [-2, 0, 1, 7])
def test_an_odd_or_empty_number_of_draws_is_refused(num_draws):
    with pytest.raises(ValueError, match="even"):
        symmetric_draws(num_draws, 2, seed=0)


def test_more_coordinates_than_sobol_points_have():
    z = symmetric_draws(4, stats.qmc.Sobol.MAXDIM + 1, seed=0)
    np.testing.assert_allclose((z**2).mean(axis=0), 1.0, rtol=1e-12)
    assert np.isfinite(z).all()


def test_rows_of_normal_draws_are_standard_normal_over_seeds():
    # 2000 seeds, four independent tests at p > 1e-4: a false alarm in 0.04 % of keys; the seeds are fixed.
    first = np.stack([normal_draws(5, 2, seed) for seed in range(2000)])
    for row in (0, 4):
        for column in (0, 1):
            assert stats.kstest(first[:, row, column], "norm").pvalue > 1e-4
    assert stats.kstest(first[:, 0, 0] * 1.3, "norm").pvalue < 1e-4  # the same law refuses a 30 % wider one


def test_normal_draws_are_more_even_than_independent_ones():
    z = normal_draws(1024, 4, seed=0)
    # The mean of 1024 independent draws has standard deviation 0.031; a scrambled net's is some thirty times smaller.
    assert np.abs(z.mean(axis=0)).max() < 0.005
    assert normal_draws(1000, 4, seed=0).shape == (1000, 4)
    assert np.isfinite(normal_draws(1, 1, seed=0)).all()


@pytest.mark.parametrize(("count", "dim", "seed"), [(1, 1, 0), (3, 2, 1), (256, 24, 5), (1000, 300, 9)])
def test_sobol_points_are_those_of_scipy(count, dim, seed, monkeypatch):
    """To the bit, also where SciPy's numbers are not where they are looked for."""
    engine = qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed))
    expected = engine.random_base2(int(np.ceil(np.log2(count))))[:count]
    np.testing.assert_array_equal(sobol.sobol(count, dim, seed), expected)
    monkeypatch.setattr(sobol, "_FILE", Path("nowhere"))
    np.testing.assert_array_equal(sobol.sobol(count, dim, seed), expected)
