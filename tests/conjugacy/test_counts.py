"""A discrete latent that stands for several copies: counts in place of repeated rows."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy.special import digamma, softmax

from jensen._base.errors import ModelError
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.ascent import Ascent
from jensen._conjugate.coordinate.starts import given_start

from .zoo import COUNTS, ENTRY_DOC, ENTRY_WORD, ZOO

RNG = np.random.default_rng(3)
PHI, THETA = RNG.dirichlet(np.ones(7), 3), RNG.dirichlet(np.ones(3), 5)


@pytest.fixture
def begun(built):
    """name -> the state after two sweeps from fixed topics."""

    def get(name):
        model = built(name)
        theta = THETA[:, None] if name == "lda_documents" else THETA
        ascent = Ascent(model, ("phi", "theta"))
        moments = given_start(model, np.random.default_rng(0), {"phi": PHI, "theta": theta})
        return model, ascent.advance(ascent.begin(moments), 1)

    return get


@pytest.mark.parametrize("name", ["lda_counts", "lda_documents"])
def test_counts_are_repeated_tokens(name, begun):
    """Entries with counts, and padded documents, against a plain NumPy LDA on the repeated tokens."""
    model, state = begun(name)
    count = COUNTS[ENTRY_DOC, ENTRY_WORD]
    doc, word = np.repeat(ENTRY_DOC, count), np.repeat(ENTRY_WORD, count)
    log_phi, log_theta = np.log(PHI), np.log(THETA)
    for _ in range(2):
        r = softmax(log_theta[doc] + log_phi.T[word], -1)
        a, b = np.full((5, 3), 0.7), np.full((7, 3), 0.5)
        np.add.at(a, doc, r)
        np.add.at(b, word, r)
        log_theta = digamma(a) - digamma(a.sum(-1, keepdims=True))
        log_phi = (digamma(b) - digamma(b.sum(0))).T
    np.testing.assert_allclose(model.factor("phi", state.naturals["phi"]).concentration, b.T, rtol=1e-10)
    found = model.factor("theta", state.naturals["theta"]).concentration
    np.testing.assert_allclose(np.reshape(found, (5, 3)), a, rtol=1e-10)


def test_the_bound_is_that_of_the_tokens():
    init = {"phi": PHI, "theta": THETA}
    count = COUNTS[ENTRY_DOC, ENTRY_WORD]
    tokens = {"doc": np.repeat(ENTRY_DOC, count), "word": np.repeat(ENTRY_WORD, count), "D": 5, "V": 7, "K": 3}
    options = CAVI(tolerance=1e-13, escape=False)
    one = options.fit_conjugate(ZOO["lda_tokens"][0], tokens, init=init)
    other = options.fit_conjugate(*ZOO["lda_counts"], init=init)
    padded = options.fit_conjugate(*ZOO["lda_documents"], init={"phi": PHI, "theta": THETA[:, None]})
    assert other.elbo == pytest.approx(one.elbo, abs=1e-9)
    assert padded.elbo == pytest.approx(one.elbo, abs=1e-9)


def test_copies_without_other_latents_give_the_evidence():
    """w copies of one observation: the evidence is its likelihood to the power w."""

    def model(x, w):
        with numpyro.plate("n", len(x)), handlers.scale(scale=w):
            z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
            numpyro.sample("x", dist.Normal(jnp.array([-1.0, 0.0, 2.0])[z], 1), obs=x)

    x, w = np.array([0.3, -1.0, 2.0]), np.array([1.0, 3.0, 0.5])
    density = np.exp(-0.5 * (x[:, None] - [-1.0, 0.0, 2.0]) ** 2) @ np.array([0.2, 0.5, 0.3]) / np.sqrt(2 * np.pi)
    fit = CAVI().fit_conjugate(model, {"x": x, "w": w})
    assert fit.elbo == pytest.approx(w @ np.log(density), abs=1e-10)


def test_a_masked_discrete_latent_is_absent():
    """Its rows leave no trace, not even log K."""

    def model(x, seen):
        mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
        with numpyro.plate("n", len(x)), handlers.mask(mask=seen):
            z = numpyro.sample("z", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Normal(mu[z], 1), obs=x)

    x, init = np.array([0.3, -1.0, 2.0, 4.0]), {"mu": [-1.0, 1.0]}
    seen = np.array([True, True, False, True])
    some = CAVI(escape=False, tolerance=1e-12).fit_conjugate(model, {"x": x, "seen": seen}, init=init)
    fewer = {"x": x[seen], "seen": seen[seen]}
    assert some.elbo == pytest.approx(
        CAVI(escape=False, tolerance=1e-12).fit_conjugate(model, fewer, init=init).elbo, abs=1e-9
    )


def test_a_latent_scaled_to_nothing_but_used_is_named():
    def model(x, seen):
        with numpyro.plate("n", len(x)):
            with handlers.mask(mask=seen):
                z = numpyro.sample("z", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Normal(z, 1), obs=x)

    with pytest.raises(ModelError, match="'z' is improper"):
        CAVI().fit_conjugate(model, {"x": np.array([0.3, -1.0, 2.0]), "seen": np.array([True, False, True])})
