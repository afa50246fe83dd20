"""Small linear algebra: known factors, and invariance to the units of the coordinates."""

import numpy as np
import pytest

from jensen._math import linalg

UNITS = [np.ones(4), np.array([1e-6, 1.0, 1e6, 1e3]), np.array([1e-9, 1e9, 1e-3, 1.0])]
units = pytest.mark.parametrize("scale", UNITS, ids=["one", "wide", "wider"])


def correlation():
    rng = np.random.default_rng(7)
    factor = rng.normal(size=(4, 4)) + 2 * np.eye(4)
    matrix = factor @ factor.T
    root = np.sqrt(np.diag(matrix))
    return matrix / np.outer(root, root)


@units
def test_cholesky_reconstructs_whatever_the_units(scale):
    matrix = correlation() * np.outer(scale, scale)
    factor = linalg.cholesky(matrix)
    np.testing.assert_array_equal(factor, np.tril(factor))
    np.testing.assert_allclose(factor @ factor.T / matrix, 1.0, rtol=1e-10)
    assert (np.diag(factor) > 0).all()
    assert linalg.log_det_factor(factor) == pytest.approx(
        0.5 * np.linalg.slogdet(correlation())[1] + np.log(scale).sum(), abs=1e-9
    )


@units
def test_inverse_factor_inverts_the_precision(scale):
    precision = np.linalg.inv(correlation()) / np.outer(scale, scale)
    factor = linalg.inverse_factor(precision)
    np.testing.assert_array_equal(factor, np.tril(factor))
    np.testing.assert_allclose(factor @ factor.T / (correlation() * np.outer(scale, scale)), 1.0, rtol=1e-9)


@units
def test_positive_definiteness_does_not_depend_on_units(scale):
    good, bad = correlation(), correlation()
    bad[0, 1] = bad[1, 0] = 1.1
    assert linalg.is_positive_definite(good * np.outer(scale, scale))
    assert not linalg.is_positive_definite(bad * np.outer(scale, scale))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_matrices_that_are_not_finite_are_not_positive_definite(value):
    matrix = np.eye(2)
    matrix[0, 1] = matrix[1, 0] = value
    assert not linalg.is_positive_definite(matrix)
    assert not linalg.is_positive_definite(np.array([[value]]))


def test_zero_and_negative_diagonals_are_not_positive_definite():
    assert not linalg.is_positive_definite(np.diag([1.0, 0.0]))
    assert not linalg.is_positive_definite(np.diag([1.0, -1.0]))
    assert linalg.is_positive_definite(np.array([[1e-300]]))


def test_solve_lower_and_symmetrise():
    factor = linalg.cholesky(correlation())
    right = np.arange(4.0)
    np.testing.assert_allclose(factor @ linalg.solve_lower(factor, right), right, atol=1e-12)
    np.testing.assert_array_equal(linalg.symmetrise(np.array([[1.0, 2.0], [4.0, 3.0]])), [[1.0, 3.0], [3.0, 3.0]])


@units
def test_lower_factor_keeps_the_outer_product(scale):
    root = scale[:, None] * np.random.default_rng(3).normal(size=(4, 6))
    factor = linalg.lower_factor(root)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (np.diag(factor) > 0).all()
    assert np.abs(factor @ factor.T - root @ root.T).max() <= 1e-12 * (scale**2).max() * 10
    np.testing.assert_allclose((factor @ factor.T) / np.outer(scale, scale), (root @ root.T) / np.outer(scale, scale))


def test_regularised_factor_of_a_definite_precision_is_the_exact_one():
    precision = np.linalg.inv(correlation())
    factor = linalg.regularised_inverse_factor(precision, np.ones(4), ceiling=100.0)
    np.testing.assert_allclose(factor @ factor.T, correlation(), atol=1e-10)


def test_regularised_factor_takes_moduli_and_bounds_flat_directions():
    scale = np.array([2.0, 1e3, 5.0])
    precision = np.diag([4.0, -1e-2, 0.0])  # curvatures 16, -10⁴ and 0 in the units of `scale`
    factor = linalg.regularised_inverse_factor(precision, scale, ceiling=3.0)
    np.testing.assert_allclose(np.diag(factor), [0.5, 10.0, 15.0])
    broken = np.full((2, 2), np.nan)
    np.testing.assert_allclose(linalg.regularised_inverse_factor(broken, np.ones(2), ceiling=3.0), 3 * np.eye(2))
