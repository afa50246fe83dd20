"""Laws of the Student-t, of products of blocks and of Gaussians on a graph: density, entropy, draws, dependences."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from jensen._base.errors import OptionError
from jensen._core import total
from jensen._families import Blocks, Flow, FullRank, MeanField, Mixture, Structured, StudentT
from jensen._families.structured import eliminated, padded
from jensen._math.precision import working

FACTOR = np.array([[0.8, 0.0], [0.5, 0.6]])


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def student(df=5.0):
    return StudentT(*(jnp.asarray(x) for x in _parts()), jnp.log(df - 2.0))


def _parts():
    q = FullRank.from_factor(np.array([0.3, -1.0]), FACTOR)
    return q.loc, q.log_diagonal, q.lower


def blocks():
    flow = Flow.around(FullRank.from_factor(np.array([0.5, 1.0]), FACTOR), layers=2, seed=3)
    rest = MeanField(jnp.array([2.0]), jnp.array([-0.3]))
    return Blocks([flow, rest], ((0, 2), (1,)))


def test_a_students_density_and_entropy_are_scipys():
    q = student()
    law = stats.multivariate_t(np.asarray(q.loc), FACTOR @ FACTOR.T, df=5.0)
    points = np.random.default_rng(0).normal(size=(7, 2)) * 4
    np.testing.assert_allclose(jax.vmap(q.log_prob)(points), law.logpdf(points), rtol=1e-12)
    assert float(q.entropy()) == pytest.approx(law.entropy(), abs=1e-9)
    moved = q.affine(np.array([1.0, 2.0]), np.array([3.0, 0.5]))
    expected = law.logpdf((points - [1.0, 2.0]) / [3.0, 0.5]) - np.log(1.5)
    np.testing.assert_allclose(jax.vmap(moved.log_prob)(points), expected, rtol=1e-12)


def test_a_students_draws_have_its_law_and_slopes():
    """Kolmogorov-Smirnov of a coordinate, p > 0.001 (the key is fixed); the slope of E|u| in ν and scale by quadrature.

    The same test refuses lighter tails.
    """
    q, count = student(), 40_000

    def size(q, key):
        return jnp.abs(q.draw(key).value[0] - q.loc[0])

    keys = jr.split(jr.key(1), count)
    draws, slopes = jax.jit(lambda q: jax.vmap(lambda k: jax.value_and_grad(size)(q, k))(keys))(q)
    values = np.asarray(jax.vmap(lambda k: q.draw(k).value[0])(keys))
    law = stats.t(5.0, loc=0.3, scale=0.8)
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    assert stats.kstest(values, stats.t(12.0, loc=0.3, scale=0.8).cdf).pvalue < 1e-3

    def mean_size(df):
        return stats.t(df, scale=0.8).expect(np.abs)

    in_excess = 3.0 * (mean_size(5.01) - mean_size(4.99)) / 0.02  # ν - 2 = 3 = exp(log_excess)
    for found, exact in ((slopes.log_excess, in_excess), (slopes.log_diagonal[:, 0], mean_size(5.0))):
        error = np.std(found) / np.sqrt(count)
        assert abs(np.mean(found) - exact) < 4 * error
    assert abs(np.mean(draws) - mean_size(5.0)) < 4 * np.std(draws) / np.sqrt(count)


@pytest.mark.slow
def test_blocks_are_independent_and_put_their_coordinates_back():
    q = blocks()
    draw = q.draw(jr.key(0))
    by_hand = q.parts[0].log_prob(draw.value[np.array([0, 2])]) + q.parts[1].log_prob(draw.value[1:2])
    assert float(q.log_prob(draw.value)) == pytest.approx(float(by_hand), abs=1e-12)
    assert float(total(draw.log_prob)) == pytest.approx(float(by_hand), abs=1e-7)
    draws = np.asarray(jax.vmap(lambda k: q.draw(k).value)(jr.split(jr.key(1), 4000)))
    np.testing.assert_allclose(draws.mean(axis=0), [0.5, 2.0, 1.0], atol=0.06)
    correlations = np.corrcoef(draws.T)
    assert correlations[0, 2] > 0.5
    assert np.abs(correlations[1, [0, 2]]).max() < 4.0 / np.sqrt(4000)
    moved = q.affine(np.arange(3.0), np.array([2.0, 3.0, 4.0]))
    there = np.arange(3.0) + np.array([2.0, 3.0, 4.0]) * np.asarray(draw.value)
    assert float(moved.log_prob(there)) == pytest.approx(float(by_hand) - np.log(24.0), abs=1e-7)


def test_blocks_that_do_not_cover_or_hold_a_mixture_are_refused():
    part = MeanField(jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(OptionError, match="exactly once"):
        Blocks([part], ((1,),))
    mixture = Mixture.of([MeanField(np.zeros(1), np.zeros(1)), MeanField(np.ones(1), np.zeros(1))])
    with pytest.raises(OptionError, match="one block of several"):
        Blocks([mixture, part], ((0,), (1,)))


GRAPHS = {
    "arrow": ([(i, 5) for i in range(5)], 1),
    "chain": ([(i, i + 1) for i in range(5)], 1),
    "cycle": ([(i, (i + 1) % 6) for i in range(6)], 2),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_gaussian_on_the_graph_of_its_precision_is_exact(name):
    """Elimination adds what a sparse factor needs: an arrow and a chain need nothing, a cycle one more parent."""
    edges, width = GRAPHS[name]
    rng = np.random.default_rng(1)
    precision = 4.0 * np.eye(6)
    for i, j in edges:
        precision[i, j] = precision[j, i] = rng.uniform(0.5, 1.0)
    covariance, loc = np.linalg.inv(precision), rng.normal(size=6)
    parents = eliminated(precision != 0)
    assert max(len(row) for row in parents) == width
    q = Structured.from_covariance(loc, covariance, parents)
    np.testing.assert_allclose(q.covariance(), covariance, atol=1e-12)
    # a parent left out is seen
    cut = padded(tuple(row if i else () for i, row in enumerate(parents)), width)
    worse = Structured.from_covariance(loc, covariance, cut if parents[0] else padded(parents[:1] + ((),) * 5, width))
    assert np.abs(worse.covariance() - covariance).max() > 1e-3
