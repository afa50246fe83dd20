"""Latent counts against enumeration: the bound of a product is near that of the best product there is."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.special import logsumexp

import jensen as jn

N = np.arange(60)


def best_product(joint):
    """The highest bound of a product, by coordinate ascent over free probabilities from many starts."""
    rng, found = np.random.default_rng(0), []
    starts = [[rng.dirichlet(np.full(size, c)) for size in joint.shape] for c in (1e3, 1.0, 0.3)]
    # and from all of the last factor's mass at its likeliest values
    sure = 0.99 * np.eye(joint.shape[-1]) + 0.01 / joint.shape[-1]
    starts += [
        [*starts[0][:-1], sure[k]] for k in np.argsort(-logsumexp(joint, axis=tuple(range(joint.ndim - 1))))[:40]
    ]
    for parts in starts:
        for _ in range(60):
            for axis in range(joint.ndim):
                field = joint
                for other in reversed(range(joint.ndim)):
                    field = field if other == axis else np.tensordot(field, parts[other], (other, 0))
                parts[axis] = np.exp(field - logsumexp(field))
        entropy = -sum(float((p * np.log(np.maximum(p, 1e-300))).sum()) for p in parts)
        energy = joint
        for part in reversed(parts):
            energy = energy @ part
        found.append(float(energy) + entropy)
    return max(found)


def sums(y):
    """Two counts that only their sum is known of: far narrower than Poisson."""
    with numpyro.plate("d", 2):
        z = numpyro.sample("z", dist.Poisson(4.0))
    numpyro.sample("y", dist.Normal(z.sum(), 0.5), obs=y)


def one(y):
    z = numpyro.sample("z", dist.Poisson(300.0))
    numpyro.sample("y", dist.Normal(z, 3.0), obs=y)


def rate(y):
    lam = numpyro.sample("lam", dist.Gamma(2.0, 0.5))
    z = numpyro.sample("z", dist.Poisson(lam))
    numpyro.sample("y", dist.Normal(z, 0.5), obs=y)


def trials(y):
    z = numpyro.sample("z", dist.Poisson(20.0))
    with numpyro.plate("visit", 3):
        numpyro.sample("y", dist.Binomial(z, 0.4), obs=y)


def wide(y):
    """A range too long for a table."""
    with numpyro.plate("d", 2):
        z = numpyro.sample("z", dist.Binomial(200, 0.3))
    numpyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)


def overdispersed():
    numpyro.sample("z", dist.NegativeBinomial2(6.0, 0.3))


def _joints():
    poisson, normal = stats.poisson(4.0).logpmf(N), stats.norm
    log_lam = np.linspace(-6.0, 4.0, 1000)
    lam, large, far, long = np.exp(log_lam), np.arange(600), np.arange(800), np.arange(201)
    prior = stats.gamma(2.0, scale=2.0).logpdf(lam) + log_lam + np.log(log_lam[1] - log_lam[0])
    half = stats.binom(200, 0.3).logpmf(long)
    seen = np.array([9, 11, 8])
    return {
        "sums": (sums, {"y": 8.0}, poisson[:, None] + poisson + normal(N[:, None] + N, 0.5).logpdf(8.0)),
        "one": (one, {"y": 340.0}, stats.poisson(300.0).logpmf(large) + normal(large, 3.0).logpdf(340.0)),
        "rate": (
            rate,
            {"y": 7.0},
            prior[:, None] + stats.poisson(lam[:, None]).logpmf(N) + normal(N, 0.5).logpdf(7.0),
        ),
        "trials": (
            trials,
            {"y": seen},
            stats.poisson(20.0).logpmf(N) + stats.binom(N[:, None], 0.4).logpmf(seen).sum(axis=1),
        ),
        "wide": (wide, {"y": 130.0}, half[:, None] + half + normal(long[:, None] + long, 1.0).logpdf(130.0)),
        "overdispersed": (overdispersed, {}, stats.nbinom(0.3, 0.3 / 6.3).logpmf(far)),
    }


CASES = _joints()


def test_the_bound_is_that_of_the_best_product():
    _check("sums")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rate", "trials", "overdispersed", "one", "wide"])
def test_so_it_is_for_other_counts(name):
    _check(name)


def _check(name):
    model, data, joint = CASES[name]
    best = best_product(joint) if joint.ndim > 1 else logsumexp(joint)
    bound = jn.fit(model, data, "bbvi", progress=False).elbo
    assert bound.value > best - 0.3
    assert bound.value < best + 0.01 + 4.0 * bound.se


@pytest.mark.slow
def test_dependent_counts_are_never_below_their_best_product():
    model, data, joint = CASES["sums"]
    bound = jn.fit(model, data, "hvm", progress=False).elbo
    assert best_product(joint) - 0.15 < bound.value < logsumexp(joint) + 4.0 * bound.se


@pytest.mark.slow
def test_a_factor_that_is_all_on_one_value_is_not_trusted_for_its_weights_alone():
    """z₁ - z₂ ≈ 3 leaves a long ridge, of which the best product is one point; its own draws are all the same."""

    def ridge(y):
        with numpyro.plate("d", 2):
            z = numpyro.sample("z", dist.NegativeBinomial2(6.0, jnp.array([1.0, 1.0])))
        numpyro.sample("y", dist.Normal(z[0] - z[1], 0.5), obs=y)

    fit = jn.fit(ridge, {"y": 3.0}, "bbvi", progress=False)
    assert fit.check().verdict == "untrusted"
