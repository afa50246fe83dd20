"""Draws too small for a number: the evidence stays one, and nothing warns."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import gammaln, logsumexp

import jensen as jn
from jensen._families.exponential.beta import Beta
from jensen._families.exponential.dirichlet import Dirichlet
from jensen._families.exponential.gamma import GammaPower

DOCUMENT, WORD, PRIOR = np.repeat([0, 1, 2], [4, 4, 3]), np.array([0, 0, 1, 0, 2, 3, 2, 2, 0, 1, 2]), 0.01

FACTORS = {
    "Dirichlet": Dirichlet({"log": jnp.full((3,), PRIOR - 1.0)}),
    "Beta": Beta({"log": jnp.full((2,), PRIOR - 1.0), "log1m": jnp.full((2,), PRIOR - 1.0)}),
    "Gamma": GammaPower({"power": jnp.full((2,), -1.0), "log": jnp.full((2,), 0.001 - 1.0)}, 1.0),
    "inverse Gamma": GammaPower({"power": jnp.full((2,), -1.0), "log": jnp.full((2,), -0.001 - 1.0)}, -1.0),
}


@pytest.mark.parametrize("name", FACTORS)
def test_draws_have_a_finite_log_density(name):
    factor = FACTORS[name]
    values = jax.vmap(lambda key: factor.draw(key)[0])(jax.random.split(jax.random.key(0), 2000))
    assert np.isfinite(jax.vmap(factor.log_prob)(values)).all()


def topics(document, word):
    with numpyro.plate("topic", 2):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(4, PRIOR)))
    with numpyro.plate("document", 3):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(2, PRIOR)))
    with numpyro.plate("token", len(word)):
        z = numpyro.sample("z", dist.Categorical(theta[document]))
        numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


def term(counts):
    size, total = PRIOR * counts.shape[-1], counts.sum(-1)
    return gammaln(size) - gammaln(size + total) + (gammaln(counts + PRIOR) - gammaln(PRIOR)).sum(-1)


def test_topics_with_sparse_priors():
    labels = np.array(list(itertools.product(range(2), repeat=len(WORD))))
    is_label = labels[:, None] == np.arange(2)[:, None]
    exact = sum(term(is_label[:, :, d == DOCUMENT].sum(-1)) for d in range(3))
    for topic in range(2):
        exact = exact + term(np.stack([is_label[:, topic, v == WORD].sum(-1) for v in range(4)], axis=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", jn.UntrustedWarning)
        found = jn.fit(topics, {"document": DOCUMENT, "word": WORD}, "cavi", progress=False).evidence()
    assert "nan" not in str(found)
    assert found.log_evidence == pytest.approx(logsumexp(exact), abs=0.5)
    assert found.interval[0] <= logsumexp(exact) <= found.interval[1]
