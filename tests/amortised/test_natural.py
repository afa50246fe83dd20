"""Natural-gradient steps of what rows share, against updates derived by hand."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._amortised import row_estimator
from jensen._amortised.amortised import AmortisedVI
from jensen._amortised.model import row_target
from jensen._families import FullRank, MeanField
from jensen._families.gaussian import LARGEST, SMALLEST, paced
from jensen._math.precision import working
from jensen._math.programs import Program
from tests.amortised import models as m

W = np.array([[1.0, 0.4], [1.0, -1.1], [1.0, 0.9], [1.0, 0.2]])
X = np.array([0.3, -0.8, 1.7, 0.6])
TAU, NOISE, PRIOR = 0.7, 0.5, 2.0
LOC = np.array([0.2, -0.1])
LOWER = np.array([[0.5, 0.0], [0.1, 0.6]])


def effects(x, w):
    """A regression of the rows' effects."""
    beta = numpyro.sample("beta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(w @ beta, TAU))
        numpyro.sample("x", dist.Normal(z, NOISE), obs=x)


def bent(x, w):
    """The spread of the effects and what is seen of them depend on the coefficients too."""
    beta = numpyro.sample("beta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(w @ beta, TAU * jnp.exp(0.5 * beta[1])))
        numpyro.sample("x", dist.Normal(z * jnp.exp(0.4 * beta[0]), NOISE), obs=x)


class Seen(eqx.Module):
    """The potential of N(x; z, NOISE), exact for `effects`."""

    scale: Any

    def __call__(self, row):
        return self.scale * jnp.stack([row["x"], -jnp.log(NOISE)])


def full():
    return FullRank(jnp.array(LOC), jnp.log(jnp.diagonal(jnp.array(LOWER))), jnp.tril(jnp.array(LOWER), -1))


def diagonal():
    return MeanField(jnp.array(LOC), jnp.log(jnp.array([0.5, 0.6])))


def begun(model, shared):
    target = row_target(model, {"x": X, "w": W}, "double")
    learned = AmortisedVI(Seen(jnp.ones(())), family="structured").start(target, 0)
    return target, eqx.tree_at(lambda x: x.q.shared, learned, shared())


def natural(target, learned, index, scale, key=None):
    """(pull, G) from the rows of a batch."""
    data = {name: jnp.asarray(value)[index] for name, value in target.rows.items()}
    model, key = target.model(len(index)).at(data), jax.random.key(0) if key is None else key
    return row_estimator.RowEstimator(1, 1, None, False).natural(jn.ELBO(), model, learned, data, scale, key)[2:]


@pytest.fixture
def noise(monkeypatch):
    """Every draw's ε in the place of random ones."""
    return lambda value: monkeypatch.setattr(row_estimator.jr, "normal", lambda key, shape: jnp.full(shape, value))


@pytest.mark.parametrize("shared", [full, diagonal])
def test_a_whole_step_is_the_update_given_the_local_factors(shared, noise):
    """All is quadratic: draws at the means give the exact expectations, and ρ = 1 the coordinate update of q(β).

    A diagonal q(β) keeps the diagonal of the precision, and moves each coordinate by its own.
    """
    noise(0.0)
    with working("double"):
        target, learned = begun(effects, shared)

        @jax.jit
        def step(learned):
            return learned.q.shared.stepped(*natural(target, learned, np.arange(4), 1.0), 1.0)

        found = jax.device_get(step(learned))
    local = (W @ LOC / TAU**2 + X / NOISE**2) / (1.0 / TAU**2 + 1.0 / NOISE**2)
    precision = np.eye(2) / PRIOR**2 + W.T @ W / TAU**2
    slope = W.T @ (local - W @ LOC) / TAU**2 - LOC / PRIOR**2
    if shared is diagonal:
        precision = np.diag(np.diag(precision))
    np.testing.assert_allclose(np.linalg.inv(found.covariance()), precision, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.loc, LOC + np.linalg.solve(precision, slope), rtol=1e-9)


def test_minibatches_average_to_the_whole_natural_gradient(noise):
    """All six batches of two rows at fixed draws. Planted: their terms do not count N / B times."""
    noise(0.7)
    with working("double"):
        target, learned = begun(bent, full)
        run = jax.jit(lambda *given: natural(target, *given))
        whole = run(learned, np.arange(4), 1.0)
        pairs = [np.array(pair) for pair in itertools.combinations(range(4), 2)]
        batches = {scale: [run(learned, pair, scale) for pair in pairs] for scale in (2.0, 1.0)}
    for scale, found in batches.items():
        mean = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *found)
        for part, exact in zip(mean, whole, strict=True):
            assert np.allclose(part, exact, rtol=1e-9, atol=1e-9) is (scale == 2.0)


@pytest.mark.parametrize("apart", [True, False])
def test_curvature_is_that_of_the_bound(apart, monkeypatch):
    """Products with random signs, and the way through the rows' factors, against path derivatives in L's own numbers.

    |z| < 4.5 for five numbers fails by chance in one of 3e4 runs. Planted: the signs are made of the bits of the draws.
    """
    monkeypatch.setattr(row_estimator, "PROBES", 1)
    if not apart:
        monkeypatch.setattr(row_estimator, "APART", 1)
    with working("double"):
        target, learned = begun(bent, full)
        data = {name: jnp.asarray(value) for name, value in target.rows.items()}
        model, estimator = target.model(4).at(data), row_estimator.RowEstimator(1, 1, None, False)

        def one(key, learned):
            given = (jn.ELBO(), model, learned, data, 1.0, key)
            pull, excess = estimator.natural(*given)[2:]
            by_path = learned.q.shared.whitened(estimator.gradient(*given)[1].q.shared)
            pairs = [jnp.concatenate([p, g[np.tril_indices(2)]]) for p, g in ((pull, excess), by_path)]
            return pairs[0] - pairs[1]

        differences = Program(jax.vmap(one, (0, None)))(jax.random.split(jax.random.key(2), 10_000), learned)
    found = np.asarray(differences)
    error = found.std(axis=0) / np.sqrt(len(found))
    assert bool((np.abs(found.mean(axis=0)) < 4.5 * error + 1e-9).all()) is apart


@pytest.mark.parametrize("shared", [full, diagonal])
@pytest.mark.parametrize("excess", [3.0, -40.0, 0.5])
def test_no_step_leaves_the_domain(shared, excess):
    """ρ is halved until the precision changes by no more than its limits, and no further."""
    with working("double"):
        q = jax.device_get(shared())
    given = excess * (np.eye(2) if shared is full else np.ones(2))
    with working("double"):
        rho = float(paced(jnp.ones(()), jnp.full(2, excess)))
        moved = jax.device_get(jax.jit(type(q).stepped)(q, jnp.full(2, 1e6), given, 1.0))
    assert np.log2(rho) == round(np.log2(rho))
    assert SMALLEST <= 1.0 - rho * excess <= LARGEST
    assert rho == 1.0 or not SMALLEST <= 1.0 - 2.0 * rho * excess <= LARGEST
    np.testing.assert_allclose(moved.covariance() * (1.0 - rho * excess), q.covariance(), rtol=1e-9)
    white = np.linalg.solve(q.factor(), moved.loc - q.loc)
    assert np.linalg.norm(white) == pytest.approx(rho * (3.0 + np.sqrt(2.0)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_reaches_the_best_product(seed):
    """The bound of what was fitted, in closed form, against coordinate ascent; the precision of q(mu) is exact."""
    fit = jn.fit(m.groups, {"x": m.GROUPS}, jn.amortised(hidden=(4,), family="structured"), seed=seed)
    best = jn.fit(m.groups, {"x": m.GROUPS}, "cavi").elbo.value
    answer: Any
    answer, q = fit.infer({"x": m.GROUPS}), fit.q.shared
    loc, var = np.ravel(answer.loc), np.ravel(answer.scale) ** 2
    mean, spread = float(q.loc[0]), float(q.scales()[0]) ** 2

    def expected(square, scale):
        return np.sum(-0.5 * np.log(2 * np.pi) - np.log(scale) - 0.5 * square / scale**2)

    bound = expected(mean**2 + spread, 10.0) + 0.5 * np.log(2 * np.pi * np.e * spread)
    bound += expected((loc - mean) ** 2 + var + spread, 0.7) + np.sum(0.5 * np.log(2 * np.pi * np.e * var))
    bound += expected((m.GROUPS - loc[:, None]) ** 2 + var[:, None], 0.5)
    assert best - 0.01 < bound < best + 1e-6
    assert spread == pytest.approx(1.0 / (0.01 + 40 / 0.49), rel=1e-3)
    assert fit.outcome.certificate["epochs"] < 2700
