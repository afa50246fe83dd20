"""The log of a sum of positive parts: latent counts that the analysis adds by itself."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import jensen as jn
from jensen._base.errors import ModelError
from jensen._conjugate.algebra import build_conjugate, parts
from jensen._conjugate.cavi import CAVI

from .zoo import ZOO

EXPLICIT, FACTORS = ZOO["poisson_factorisation"]
START = {"u": 1.0 + np.arange(12.0).reshape(6, 2) % 5, "v": np.ones((5, 2))}


def factorisation(y, K):
    n, d = y.shape
    u = numpyro.sample("u", dist.Gamma(1, 1).expand([n, K]).to_event(2))
    v = numpyro.sample("v", dist.Gamma(2, 1).expand([d, K]).to_event(2))
    numpyro.sample("y", dist.Poisson(u @ v.T).to_event(2), obs=y)


def test_poisson_factorisation_is_the_model_with_explicit_counts():
    ours = CAVI().fit_conjugate(factorisation, FACTORS, init=START)
    theirs = CAVI().fit_conjugate(EXPLICIT, FACTORS, init=START)
    assert ours.elbo == pytest.approx(theirs.elbo, abs=1e-6)
    for name in START:
        np.testing.assert_allclose(ours.means()[name], theirs.means()[name], rtol=1e-3)


Y = np.array([3, 7])


def two_rates(y):
    a = numpyro.sample("a", dist.Gamma(2, 1))
    b = numpyro.sample("b", dist.Gamma(3, 2))
    c = numpyro.sample("c", dist.Gamma(3, 2))
    with numpyro.plate("row", 2):
        numpyro.sample("y", dist.Poisson(0.5 * a + b * c), obs=y)


def by_hand(sweeps=500):
    """(shape and rate of a, b and c; the bound) of coordinate ascent with shares exp(E log part), in NumPy."""
    shape, rate = np.array([2.0, 3.0, 3.0]), np.array([1.0, 2.0, 2.0])
    prior, start = (shape.copy(), rate.copy()), Y.sum()
    for _ in range(sweeps):
        mean, logs = shape / rate, special.digamma(shape) - np.log(rate)
        parts_of = np.array([np.log(0.5) + logs[0], logs[1] + logs[2]])
        share = np.exp(parts_of - special.logsumexp(parts_of))
        shape = prior[0] + start * np.array([share[0], share[1], share[1]])
        rate = prior[1] + np.array([1.0, 0.0, 0.0])
        rate[1] = prior[1][1] + 2.0 * mean[2]
        mean = shape / rate
        rate[2] = prior[1][2] + 2.0 * mean[1]
    mean, logs = shape / rate, special.digamma(shape) - np.log(rate)
    bound = start * special.logsumexp([np.log(0.5) + logs[0], logs[1] + logs[2]])
    bound -= 2.0 * (0.5 * mean[0] + mean[1] * mean[2]) + special.gammaln(Y + 1.0).sum()
    for i in range(3):
        bound += prior[0][i] * np.log(prior[1][i]) - special.gammaln(prior[0][i])
        bound += (prior[0][i] - 1) * logs[i] - prior[1][i] * mean[i]
        bound += stats.gamma(shape[i], scale=1 / rate[i]).entropy()
    return shape, rate, bound


def test_updates_are_those_derived_by_hand_and_the_evidence_is_above():
    fit = jn.fit(two_rates, {"y": Y}, jn.cavi(tolerance=1e-13))
    shape, rate, bound = by_hand()
    assert fit.elbo.value == pytest.approx(bound, abs=1e-8)
    for i, name in enumerate("abc"):
        np.testing.assert_allclose(fit.q.means()[name], shape[i] / rate[i], rtol=1e-5)
    assert set(fit.structure.sites) == set(fit.sample(2)) | {"y"}  # the counts are no part of the user's model

    def joint(c, b, a):
        rate = 0.5 * a + b * c
        prior = stats.gamma.pdf(a, 2) * stats.gamma.pdf(b, 3, scale=0.5) * stats.gamma.pdf(c, 3, scale=0.5)
        return prior * stats.poisson.pmf(Y[0], rate) * stats.poisson.pmf(Y[1], rate)

    nodes, weight = np.polynomial.legendre.leggauss(80)
    a, b = 10.0 * (nodes + 1), 7.0 * (nodes + 1)
    values = joint(b[None, None, :], b[None, :, None], a[:, None, None])
    evidence = np.log(np.einsum("abc,a,b,c->", values, weight * 10, weight * 7, weight * 7))
    assert fit.elbo.value < evidence
    found = fit.evidence()
    assert abs(found.log_evidence - evidence) < 5 * found.log_evidence_se + 1e-3  # false alarm below 1e-6
    assert found.interval[0] < evidence < found.interval[1]


def documents(doc, word, D, V, K):
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", D):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
    with numpyro.plate("token", len(doc)):
        numpyro.sample("word", dist.Categorical(theta[doc] @ phi), obs=word)


@pytest.mark.slow
def test_topics_summed_out_by_the_user_are_topics():
    explicit, data = ZOO["lda_tokens"]
    start = {"phi": np.random.default_rng(0).dirichlet(np.ones(7), 3)}
    ours = CAVI().fit_conjugate(documents, data, init=start)
    theirs = CAVI().fit_conjugate(explicit, data, init=start)
    assert ours.elbo == pytest.approx(theirs.elbo, abs=1e-6)


def test_parts_that_may_be_negative_are_refused():
    def normal_rates(y):
        u = numpyro.sample("u", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("y", dist.Poisson(u[0] + u[1]).expand([2]).to_event(1), obs=y)

    with pytest.raises(ModelError, match=r"log of the sum.*Gamma, Beta or Dirichlet"):
        build_conjugate(normal_rates, {"y": Y})


def test_a_planted_error_in_the_parts_is_caught(monkeypatch):
    log_of_term = parts.log_of_term
    monkeypatch.setattr(parts, "log_of_term", lambda term: log_of_term(term)[:-1])
    with pytest.raises(ModelError, match="where NumPyro's density gives"):
        build_conjugate(two_rates, {"y": Y + 0})
