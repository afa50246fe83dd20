"""Sums, derivatives, marginals and draws against a list of all joint states under NumPyro's own log joint."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from scipy import stats

from jensen._math.precision import working
from jensen._math.programs import quick_options
from jensen._model import build
from tests.models.discrete.zoo import MODELS, assignments, joint_weights

MASKED_OUT = {"masked rows": 2, "hidden Markov, many": 2}
"""Masked entries of a discrete latent (all of two values): uniform for jensen, of log density zero for NumPyro."""


LONG = ["multivariate mixture", "loop chain", "hidden Markov, started", "zero inflated", "powered likelihood"]
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in MODELS]


@functools.cache
def answers(name):
    """The target, a point, our value, gradient and marginals there, and the exact ones with all states' weights."""
    target = build(*MODELS[name], "double")
    states = assignments(target)
    point = np.random.default_rng(5).normal(size=target.dim)
    model = target.model

    def exact(u):
        weights = joint_weights(target, states, u)
        return jax.scipy.special.logsumexp(weights), weights

    @jax.jit
    def both(u):
        own = jax.value_and_grad(lambda u: model.log_density(u))(u)
        return own, jax.value_and_grad(exact, has_aux=True)(u), model.marginals(u)

    with working("double"):
        (value, gradient), ((known, weights), slope), marginals = jax.device_get(both(jnp.asarray(point)))
    known = known - MASKED_OUT.get(name, 0) * np.log(2)
    return target, point, states, (value, gradient, marginals), (known, slope, np.exp(weights - weights.max()))


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient(name):
    _, _, _, (value, gradient, _), (known, slope, _) = answers(name)
    assert value == pytest.approx(known, abs=1e-10)
    np.testing.assert_allclose(gradient, slope, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_marginals(name):
    target, _, states, (_, _, marginals), (_, _, weights) = answers(name)
    for site in target.structure.summed:
        hits = np.stack([states[site.name] == value for value in site.values], axis=-1)
        exact = np.tensordot(weights / weights.sum(), hits, 1)
        np.testing.assert_allclose(marginals[site.name], exact, atol=1e-10)


@pytest.mark.parametrize("name", ["hidden Markov", "global and local", "noisy or", "capture-recapture"])
def test_draws_are_from_the_joint_conditional(name):
    """Counts of joint states, chi-squared; the key is fixed, and a true sampler would fail with probability 1e-4."""
    target, point, states, _, (_, _, weights) = answers(name)
    count = 20_000
    draws = target.complete(np.repeat(point[None], count, 0), seed=3)
    names = [site.name for site in target.structure.summed]

    def rows(values):
        return np.concatenate([np.reshape(values[n], (len(values[n]), -1)) for n in names], axis=1)

    listed = {tuple(row): i for i, row in enumerate(rows(states).tolist())}
    seen = np.bincount([listed[tuple(row)] for row in rows(draws).tolist()], minlength=len(weights))
    expected = count * weights / weights.sum()
    common = expected > 5
    seen = np.append(seen[common], seen[~common].sum())
    expected = np.append(expected[common], max(expected[~common].sum(), 1e-9))
    kept = expected > 1
    statistic = ((seen - expected)[kept] ** 2 / expected[kept]).sum()
    assert stats.chi2.sf(statistic, kept.sum() - 1) > 1e-4
    wrong = np.roll(seen, 1)  # the same counts under other states would be caught
    assert stats.chi2.sf(((wrong - expected)[kept] ** 2 / expected[kept]).sum(), kept.sum() - 1) < 1e-4


def test_draws_complete_the_deterministic_sites():
    target, point, *_ = answers("global and local")
    draws = target.complete(np.stack([point, point + 1.0]), seed=0)
    np.testing.assert_allclose(draws["effect"], draws["a"] * draws["model"])
    assert "effect" not in target.constrain(point[None])


def test_single_precision():
    target = build(*MODELS["hidden Markov"], "single")
    reference, point, *_ = answers("hidden Markov")
    assert target.value(point[None])[0] == pytest.approx(reference.value(point[None])[0], rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_chains_of_a_few_steps(steps):
    """Where there is no odd step, no even one after the first, or one of each."""
    y, rows = np.array([0.3, -1.2, 2.0])[:steps], np.array([[0.8, 0.2], [0.3, 0.7]])

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))

        def step(z, now):
            z = numpyro.sample("z", dist.Categorical(jnp.asarray(rows)[z]))
            numpyro.sample("y", dist.Normal(mu * (2.0 * z - 1.0), 1.0), obs=now)
            return z, None

        scan(step, 1, y)

    with working("double"):
        target = build(model, {"y": y}, "double")
        found = jax.jit(lambda u: target.model.log_density(u), compiler_options=quick_options())(np.array([0.7]))
    masses = []
    for path in itertools.product(range(2), repeat=steps):
        steps_taken = rows[(1, *path[:-1]), path]
        masses.append(np.prod(steps_taken * stats.norm.pdf(y, 0.7 * (2.0 * np.array(path) - 1.0))))
    np.testing.assert_allclose(found, np.log(np.sum(masses)) + stats.norm.logpdf(0.7), rtol=1e-12)
