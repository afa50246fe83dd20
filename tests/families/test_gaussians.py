"""Laws of every Gaussian family: the density is that of scipy, host and device agree, draws have the stated moments."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from jensen._families import FullRank, LowRank, MeanField
from jensen._math.precision import working
from tests.zoo import FAMILIES

DIMS = (1, 4)
families = pytest.mark.parametrize(("name", "dim"), [(name, dim) for name in FAMILIES for dim in DIMS])


def member(name, dim, seed=11):
    return FAMILIES[name](dim, np.random.default_rng(seed))


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


@families
def test_log_prob_is_that_of_the_normal_with_its_mean_and_covariance(name, dim):
    q = member(name, dim)
    normal = stats.multivariate_normal(np.asarray(q.loc), q.covariance())
    points = np.random.default_rng(0).normal(size=(7, dim)) * 3
    expected = normal.logpdf(points).reshape(7)
    np.testing.assert_allclose(jax.vmap(q.log_prob)(points), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(q.host_log_prob(points), expected, rtol=1e-12, atol=1e-12)
    assert float(q.entropy()) == pytest.approx(normal.entropy(), abs=1e-12)


@families
def test_the_transform_is_affine_with_the_stated_covariance(name, dim):
    q = member(name, dim)
    assert q.noise_dim == (dim + 2 if name == "low_rank" else dim)
    np.testing.assert_allclose(q.transform(jnp.zeros(q.noise_dim)), q.loc)
    slope = np.asarray(jax.jacfwd(q.transform)(jnp.ones(q.noise_dim)))
    np.testing.assert_allclose(slope @ slope.T, q.covariance(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(q.scales(), np.sqrt(np.diag(q.covariance())), rtol=1e-12)
    noise = np.random.default_rng(1).normal(size=(5, q.noise_dim))
    np.testing.assert_allclose(q.host_transform(noise), jax.vmap(q.transform)(noise), rtol=1e-12, atol=1e-14)


@families
def test_moments_of_draws(name, dim):
    """z-scores of all first and second moments, at most 14 a case: below 4 but in 0.1 % of keys; the key is fixed."""
    q, count = member(name, dim), 100_000
    draws = np.asarray(jax.jit(jax.vmap(lambda key: q.draw(key).value))(jr.split(jr.key(5), count)))
    centred = draws - np.asarray(q.loc)
    covariance = q.covariance()
    scores = centred.mean(axis=0) / (q.scales() / np.sqrt(count))
    assert np.abs(scores).max() < 4
    for i in range(dim):
        for j in range(i + 1):
            spread = np.sqrt((covariance[i, i] * covariance[j, j] + covariance[i, j] ** 2) / count)
            assert abs((centred[:, i] * centred[:, j]).mean() - covariance[i, j]) < 4 * spread
    # The same law refuses a spread that is 2 % too wide.
    wide = (1.02 * centred[:, 0]) ** 2
    assert abs(wide.mean() - covariance[0, 0]) > 4 * np.sqrt(2 / count) * covariance[0, 0]


@families
def test_a_draw_carries_its_own_densities(name, dim):
    q, other = member(name, dim), member(name, dim, seed=12)
    draw = q.draw(jr.key(0))
    assert float(draw.log_prob) == pytest.approx(float(q.log_prob(draw.value)), abs=1e-12)
    assert float(draw.log_exact) == float(draw.log_prob)
    assert float(draw.log_score) == 0.0
    assert float(q.exact_entropy()) == float(q.entropy())
    scored = q.draw(jr.key(0), scored_by=other)
    np.testing.assert_array_equal(scored.value, draw.value)
    assert float(scored.log_prob) == pytest.approx(float(other.log_prob(draw.value)), abs=1e-12)


@families
def test_a_draw_that_is_not_pathwise_has_a_score_and_no_path(name, dim):
    q = member(name, dim)
    value = q.draw(jr.key(3)).value

    def parts(q):
        draw = q.draw(jr.key(3), pathwise=False)
        return {"path": (draw.value, draw.log_prob), "score": draw.log_score}

    slopes = jax.jacobian(parts)(q)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slopes["path"]))
    score = jax.grad(lambda q: q.log_prob(value))(q)
    for ours, expected in zip(jax.tree.leaves(slopes["score"]), jax.tree.leaves(score), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(score))


@families
def test_affine_maps_the_gaussian(name, dim):
    q = member(name, dim)
    shift, scale = np.linspace(-1, 1, dim), np.linspace(0.5, 200.0, dim)
    moved = q.affine(shift, scale)
    assert type(moved) is type(q)
    np.testing.assert_allclose(moved.loc, shift + scale * np.asarray(q.loc))
    np.testing.assert_allclose(moved.covariance(), np.outer(scale, scale) * q.covariance(), rtol=1e-12)
    assert {leaf.dtype for leaf in jax.tree.leaves(q.affine(shift, scale, np.float32))} == {np.dtype(np.float32)}


@families
def test_every_leaf_is_a_float_array_that_matters(name, dim):
    q = member(name, dim)
    noise = np.random.default_rng(2).normal(size=q.noise_dim)
    slopes = jax.grad(lambda q: jnp.sum(q.transform(noise) ** 2))(q)
    lonely = {("full_rank", 1), ("structured", 1)}  # one coordinate depends on no other
    for leaf, slope in zip(jax.tree.leaves(q), jax.tree.leaves(slopes), strict=True):
        assert np.asarray(leaf).dtype == np.float64
        assert slope.shape == np.shape(leaf)
        assert np.any(slope != 0) or (name, dim) in lonely


@families
def test_single_precision(name, dim):
    q = member(name, dim)
    point = np.random.default_rng(0).normal(size=dim)
    expected = float(q.log_prob(point))
    with working("single"):
        q32 = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), q)
        draw = q32.draw(jr.key(0))
        values = [q32.log_prob(jnp.asarray(point, jnp.float32)), q32.entropy(), *draw]
        assert {value.dtype for value in values} == {jnp.dtype("float32")}
        assert float(values[0]) == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert float(values[1]) == pytest.approx(float(member(name, dim).entropy()), abs=1e-5)
        assert q32.covariance().dtype == np.float64


def test_mean_field_has_independent_coordinates():
    q = MeanField(np.array([1.0, -2.0]), np.log([0.5, 3.0]))
    expected = stats.norm.logpdf(0.3, 1.0, 0.5) + stats.norm.logpdf(0.1, -2.0, 3.0)
    assert float(q.log_prob(np.array([0.3, 0.1]))) == pytest.approx(expected)
    np.testing.assert_allclose(q.covariance(), np.diag([0.25, 9.0]))


def test_full_rank_from_a_factor_with_negative_diagonal_entries():
    factor = np.array([[-2.0, 0.0], [0.7, -0.3]])
    q = FullRank.from_factor(np.zeros(2), factor)
    np.testing.assert_allclose(q.covariance(), factor @ factor.T, atol=1e-15)
    assert float(q.half_log_det()) == pytest.approx(np.log(0.6))


def test_full_rank_ignores_what_lies_on_and_above_the_diagonal():
    q = FullRank(np.zeros(3), np.zeros(3), np.random.default_rng(0).normal(size=(3, 3)))
    clean = FullRank(np.zeros(3), np.zeros(3), np.tril(q.lower, -1))
    np.testing.assert_array_equal(q.covariance(), clean.covariance())
    point = np.ones(3)
    assert float(q.log_prob(point)) == float(clean.log_prob(point))
    assert float(q.host_log_prob(point[None])[0]) == pytest.approx(float(clean.log_prob(point)))


def covariance(dim=5):
    factor = np.random.default_rng(8).normal(size=(dim, dim))
    scales = np.logspace(-3, 3, dim)
    return (factor @ factor.T + np.eye(dim)) * np.outer(scales, scales)


def test_low_rank_with_one_rank_less_than_the_dimension_is_full_rank():
    sigma, loc = covariance(), np.arange(5.0)
    low, full = LowRank.from_covariance(loc, sigma, rank=4), FullRank.from_factor(loc, np.linalg.cholesky(sigma))
    np.testing.assert_allclose(low.covariance() / sigma, 1.0, rtol=1e-9)
    assert float(low.entropy()) == pytest.approx(float(full.entropy()), abs=1e-9)
    points = full.host_transform(np.random.default_rng(1).normal(size=(6, 5)))
    np.testing.assert_allclose(jax.vmap(low.log_prob)(points), jax.vmap(full.log_prob)(points), rtol=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_low_rank_keeps_the_marginal_variances(rank):
    sigma = covariance()
    q = LowRank.from_covariance(np.zeros(5), sigma, rank)
    assert q.rank == rank
    np.testing.assert_allclose(np.diag(q.covariance()) / np.diag(sigma), 1.0, rtol=1e-3)


def test_low_rank_of_a_diagonal_covariance_is_mean_field():
    q = LowRank.from_covariance(np.zeros(3), np.diag([1.0, 4.0, 9.0]), rank=1)
    np.testing.assert_allclose(q.covariance(), np.diag([1.0, 4.0, 9.0]), atol=1e-12)


def test_low_rank_recovers_one_strong_direction():
    direction = np.array([1.0, 2.0, -1.0])
    sigma = np.eye(3) * 0.1 + np.outer(direction, direction)
    errors = [np.abs(LowRank.from_covariance(np.zeros(3), sigma, r).covariance() - sigma).max() for r in (1, 2)]
    assert errors[0] < 0.05
    assert errors[1] < 1e-9
