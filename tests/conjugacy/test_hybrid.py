"""Models that are conjugate except for some latents: against exact bounds, optimised apart, and exact evidence."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import integrate, optimize, special, stats

import jensen as jn
from jensen._base.errors import JensenError, ModelError
from jensen._conjugate.algebra.partial import AveragedEnergy, PartialModel, build_partial, free_fewest
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate import hybrid

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 2))
LABELS = (RNG.random(40) < special.expit(X @ [1.0, -1.5])).astype(int)
COUNTS = RNG.poisson(np.exp(X @ [0.5, -0.3] + 0.2))
PICKED = np.array([0, 1, 1, 2, 0, 1, 3, 1, 1])
BLOBS = np.concatenate([RNG.normal(-3, 0.5, 25), RNG.normal(3, 1.0, 25)])
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def logistic(X, y):
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    with numpyro.plate("feature", X.shape[1]):
        w = numpyro.sample("w", dist.Normal(0, tau**-0.5))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


def poisson(X, y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    with numpyro.plate("feature", X.shape[1]):
        w = numpyro.sample("w", dist.Normal(mu, tau**-0.5))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ w)), obs=y)


def concentration(k):
    a = numpyro.sample("a", dist.Gamma(2.0, 1.0))
    p = numpyro.sample("p", dist.Dirichlet(a * jnp.ones(4)))
    with numpyro.plate("row", len(k)):
        numpyro.sample("k", dist.Categorical(p), obs=k)


def mixture(x):
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        s = numpyro.sample("s", dist.HalfNormal(2.0))
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("x", dist.Normal(mu[z], s[z]), obs=x)


@pytest.fixture(scope="module")
def fits():
    return {
        "logistic": CAVI().fit_conjugate(logistic, {"X": X, "y": LABELS}),
        "poisson": CAVI().fit_conjugate(poisson, {"X": X, "y": COUNTS}),
        "concentration": CAVI().fit_conjugate(concentration, {"k": PICKED}),
        "mixture": CAVI().fit_conjugate(mixture, {"x": BLOBS}),
    }


def root_of(flat):
    """(mean, covariance) of two coordinates from five numbers."""
    root = np.array([[np.exp(flat[2]), 0.0], [flat[3], np.exp(flat[4])]])
    return flat[:2], root @ root.T


def gamma_part(a, b):
    """E log Gamma(tau; 2, 1) + H[q(tau)], with E[tau] and E[log tau]."""
    mean, log = a / b, special.digamma(a) - np.log(b)
    return log - mean + a - np.log(b) + special.gammaln(a) + (1 - a) * special.digamma(a), mean, log


def normal_entropy(covariance):
    return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]


def logistic_bound(flat):
    """The best bound for this q(w): tau at its optimum; E log(1 + e^l), l normal, by quadrature."""
    mean, covariance = root_of(flat)
    second = np.sum(mean**2) + np.trace(covariance)
    prior, tau, log_tau = gamma_part(3.0, 1.0 + 0.5 * second)
    spread = np.sqrt(np.einsum("ni,ij,nj->n", X, covariance, X))
    logits = (X @ mean)[:, None] + spread[:, None] * NODES
    likelihood = LABELS @ (X @ mean) - np.sum(np.logaddexp(0.0, logits) @ WEIGHTS)
    return prior + likelihood + log_tau - np.log(2 * np.pi) - 0.5 * tau * second + normal_entropy(covariance)


def poisson_bound(flat):
    """In closed form; flat = (q(w), a and b of tau, mean and log sd of mu)."""
    mean, covariance = root_of(flat[:5])
    a, b, m, s = np.exp(flat[5]), np.exp(flat[6]), flat[7], np.exp(flat[8])
    prior, tau, log_tau = gamma_part(a, b)
    gaps = np.sum((mean - m) ** 2) + np.trace(covariance) + 2 * s**2
    rates = np.exp(X @ mean + 0.5 * np.einsum("ni,ij,nj->n", X, covariance, X))
    likelihood = COUNTS @ (X @ mean) - rates.sum() - special.gammaln(COUNTS + 1).sum()
    location = -0.5 * (m**2 + s**2) - 0.5 * np.log(2 * np.pi) + 0.5 * np.log(2 * np.pi * np.e * s**2)
    weights = log_tau - np.log(2 * np.pi) - 0.5 * tau * gaps + normal_entropy(covariance)
    return prior + likelihood + location + weights


def concentration_bound(flat):
    """The best bound for log a ~ N(m, s²): p at its optimum, the rest by quadrature."""
    m, s = flat[0], np.exp(flat[1])
    a, counts = np.exp(m + s * NODES), np.bincount(PICKED, minlength=4)
    alpha = WEIGHTS @ a + counts
    logs = special.digamma(alpha) - special.digamma(alpha.sum())
    dirichlet = WEIGHTS @ (special.gammaln(4 * a) - 4 * special.gammaln(a) + (a - 1) * logs.sum())
    entropy = stats.dirichlet(alpha).entropy() + 0.5 * np.log(2 * np.pi * np.e * s**2)
    return WEIGHTS @ (np.log(a) - a + np.log(a)) + dirichlet + counts @ logs + entropy  # Gamma(2, 1) and da/d log a


REFERENCES = {
    "logistic": (logistic_bound, np.array([1.0, -1.0, -1.0, 0.0, -1.0])),
    "poisson": (poisson_bound, np.array([0.5, -0.3, -2.0, 0.0, -2.0, 1.0, 0.3, 0.1, -0.7])),
    "concentration": (concentration_bound, np.array([0.5, -0.7])),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_optimum_is_that_of_the_exact_bound(name, fits):
    bound, start = REFERENCES[name]
    found = optimize.minimize(lambda flat: -bound(flat), start, method="BFGS", options={"gtol": 1e-7})
    fit = fits[name]
    assert fit.converged
    assert fit.history[-1] == pytest.approx(-found.fun, abs=5e-3)  # fixed draws: small known optimism
    assert fit.elbo == pytest.approx(-found.fun, abs=0.03)  # fresh draws: standard error below 0.01
    factor = fit.q.factors["a" if name == "concentration" else "w"]
    if name == "concentration":
        mean, sd = found.x[:1], np.exp(found.x[1:2])
    else:
        mean, covariance = root_of(found.x[:5])
        sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.asarray(factor.loc), mean, atol=0.02 * sd.max())
    np.testing.assert_allclose(np.sqrt(np.diag(np.asarray(factor.covariance))), sd, rtol=0.02)


def test_mixture_with_half_normal_scales(fits):
    """Given the other factors, log s of each component maximises its exact part of the bound, which is closed."""
    fit = fits["mixture"]
    mean, variance, phi = fit.means()["mu"], fit.variances()["mu"], np.asarray(fit.q.factors["z"].probs)
    rows, squares = phi.sum(0), (phi * ((BLOBS[:, None] - mean) ** 2 + variance)).sum(0)

    def part(flat):
        m, v = flat[:2], np.exp(2 * flat[2:])
        likelihood = -rows * m - 0.5 * squares * np.exp(-2 * m + 2 * v)
        return np.sum(likelihood - np.exp(2 * m + 2 * v) / 8.0 + m + 0.5 * np.log(v))  # prior, Jacobian, entropy

    found = optimize.minimize(lambda flat: -part(flat), np.array([-0.5, 0.0, -2.0, -2.0]), method="BFGS")
    factor = fit.q.factors["s"]
    sd = np.exp(found.x[2:])
    np.testing.assert_allclose(np.asarray(factor.loc), found.x[:2], atol=0.03 * sd.max())
    np.testing.assert_allclose(np.sqrt(np.diag(np.asarray(factor.covariance))), sd, rtol=0.03)
    assert sorted(np.round(mean)) == [-3.0, 3.0]


def test_bounds_lie_below_the_exact_evidence(fits):
    counts = np.bincount(PICKED, minlength=4)

    def joint(a):
        polya = special.gammaln(4 * a) - special.gammaln(4 * a + 9) + np.sum(special.gammaln(a + counts[:, None]), 0)
        return np.exp(polya - 4 * special.gammaln(a) + np.log(a) - a)

    evidence = np.log(integrate.quad(lambda a: joint(np.atleast_1d(a))[0], 1e-8, 60)[0])
    assert fits["concentration"].elbo < evidence
    assert fits["concentration"].elbo > evidence - 0.5


@pytest.mark.parametrize("name", ["logistic", "poisson", "concentration", "mixture"])
def test_the_bound_rises_at_every_sweep(name, fits):
    history = fits[name].history
    assert np.diff(history).min() >= -1e-9 * abs(history[-1])
    assert "Hybrid" in fits[name].status


def test_draws_are_on_the_supports(fits):
    draws = fits["mixture"].sample(200)
    assert draws["s"].shape == (200, 2)
    assert (draws["s"] > 0).all()
    assert set(np.unique(draws["z"])) <= {0, 1}
    log_q = float(fits["mixture"].q.log_prob({k: jnp.asarray(v[0]) for k, v in draws.items()}))
    assert np.isfinite(log_q)


def test_the_fewest_latents_are_freed():
    for model, data, free in [
        (logistic, {"X": X, "y": LABELS}, ("w",)),
        (mixture, {"x": BLOBS}, ("s",)),
        (concentration, {"k": PICKED}, ("a",)),
    ]:
        assert build_partial(model, data, ModelError("refused")).free == free
        assert jn.explain(model, data).equations.free == free


def test_a_latent_freed_for_nothing_is_taken_back():
    """No single latent makes 'y' conjugate, so 'tau', the smallest, is tried first; with 'w' and 'a' it need not be."""

    def logistic(x, y):
        tau = numpyro.sample("tau", dist.Gamma(1.0, 1.0))
        a = numpyro.sample("a", dist.Normal(0.0, 1 / jnp.sqrt(tau)).expand([2]).to_event(1))
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with numpyro.plate("row", len(x)):
            numpyro.sample("y", dist.Bernoulli(logits=x @ w + a[0]), obs=y)

    found = free_fewest(logistic, {"x": np.ones((3, 2)), "y": np.array([0, 1, 1])})
    assert set(found.free) == {"w", "a"}
    assert set(found.blocks) == {"tau"}


def test_a_wrong_average_is_noticed(monkeypatch):
    """Planted: the averaged energy is not that of the draws."""
    model = build_partial(logistic, {"X": X, "y": LABELS}, ModelError("refused"))
    original = PartialModel.averaged

    def wrong(self, arrays, draws):
        found = original(self, arrays, draws)
        return AveragedEnergy(tuple(1.05 * a for a in found.arrays), found.batched, found.skeleton)

    monkeypatch.setattr(PartialModel, "averaged", wrong)
    ascent = hybrid.HybridAscent(model, 64, 0)
    point = ascent.gaussian(ascent.start(np.random.default_rng(0)))
    with pytest.raises(JensenError, match="account for"):
        ascent.conjugate(point)


def test_with_nothing_conjugate_left_the_refusal_stands():
    def alone(X, y):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=X @ w).to_event(1), obs=y)

    with pytest.raises(ModelError, match="log\\(1 \\+ exp"):
        CAVI().fit_conjugate(alone, {"X": X, "y": LABELS})


def test_explain_says_what_the_method_does():
    plan = jn.explain(poisson, {"X": X, "y": COUNTS})
    text = str(plan)
    assert "gives 'w' a Gaussian" in text
    assert "Σ_i E[(w_i - mu)²]/2" in text
    assert plan.as_dict()["equations"]["gaussian"] == ["w"]
    assert "Site 'y' (Poisson), at test_hybrid.py line" in text
