"""L = energy + entropy = reconstruction - KL = evidence - gap, against closed forms on Gaussian-Gaussian models."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._math.precision import working
from tests.posteriors import conjugate, conjugate_answer, conjugate_data, exponential, fitted


def closed_forms(q_mean, q_cov, x, y):
    """Energy, entropy, reconstruction, KL(q ‖ prior), KL(q ‖ posterior) for q = N(q_mean, q_cov)."""
    dim, rows = len(q_mean), len(y)
    post_mean, post_cov, log_evidence = conjugate_answer(x, y)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * q_cov)[1]
    residual = y - x @ q_mean
    reconstruction = -0.5 * rows * np.log(2 * np.pi * 0.25) - (residual @ residual + np.trace(x @ q_cov @ x.T)) / (
        2 * 0.25
    )
    prior = -0.5 * dim * np.log(2 * np.pi * 4) - (q_mean @ q_mean + np.trace(q_cov)) / 8

    def kl(mean, cov):
        shift, inverse = mean - q_mean, np.linalg.inv(cov)
        spread = np.trace(inverse @ q_cov) + shift @ inverse @ shift - dim
        return 0.5 * (spread + np.linalg.slogdet(cov)[1] - np.linalg.slogdet(q_cov)[1])

    gap = kl(post_mean, post_cov)
    return reconstruction + prior, entropy, reconstruction, kl(np.zeros(dim), 4 * np.eye(dim)), gap, log_evidence


def moments(fit):
    """Mean and covariance of w under q: one Gaussian, whether it lives on R^D or is a block of coordinate ascent."""
    if fit.answer.kind == "gaussian":
        return np.asarray(fit.q.loc, float), fit.q.covariance()
    with working("double"):
        factor = fit.q.factor("w")
        return np.asarray(factor.loc, float), np.asarray(factor.covariance, float)


@pytest.mark.parametrize("method", ["auto", "laplace", "full_rank", "mean_field"])
def test_all_three_decompositions_in_closed_form(method):
    data = conjugate_data()
    fit = fitted("conjugate", method)
    q_mean, q_cov = moments(fit)
    energy, entropy, reconstruction, kl, gap, log_evidence = closed_forms(q_mean, q_cov, **data)
    parts = fit.decompose(log_evidence=log_evidence)
    assert parts.energy == pytest.approx(energy, abs=1e-10)
    assert parts.entropy == pytest.approx(entropy, abs=1e-10)
    assert parts.reconstruction == pytest.approx(reconstruction, abs=1e-10)
    assert parts.kl == pytest.approx(kl, abs=1e-10)
    assert parts.gap == pytest.approx(gap, abs=1e-10)
    # the identities
    assert parts.elbo == pytest.approx(parts.energy + parts.entropy, abs=1e-10)
    assert parts.elbo == pytest.approx(parts.reconstruction - parts.kl, abs=1e-10)
    assert parts.elbo == pytest.approx(parts.log_evidence - parts.gap, abs=1e-10)
    assert parts.gap > -1e-10


def test_no_gap_at_the_exact_posterior_and_one_for_mean_field():
    *_, log_evidence = conjugate_answer(**conjugate_data())
    assert fitted("conjugate").decompose(log_evidence).gap == pytest.approx(0, abs=1e-10)
    assert fitted("conjugate", "mean_field").decompose(log_evidence).gap > 0.05


def test_a_wrong_sign_would_be_noticed():
    parts = fitted("conjugate", "mean_field").decompose()
    for wrong in (parts.energy - parts.entropy, parts.reconstruction + parts.kl, parts.log_evidence + parts.gap):
        assert abs(parts.elbo - wrong) > 0.1


def test_the_estimate_of_the_evidence_stands_in():
    *_, log_evidence = conjugate_answer(**conjugate_data())
    parts = fitted("conjugate").decompose()
    assert parts.log_evidence == pytest.approx(log_evidence, abs=1e-8)


def test_jacobians_cancel():
    """On r > 0 with density e^{-r}: energy over r is E[-r] and the entropy that of a log-normal, m + ½ log(2πe s²)."""
    fit = jn.fit(exponential, method="laplace")
    m, s = float(fit.q.loc[0]), float(fit.q.scales()[0])
    parts = fit.decompose(log_evidence=0.0, num_draws=1 << 16)
    assert parts.entropy == pytest.approx(m + 0.5 * np.log(2 * np.pi * np.e * s**2), abs=1e-3)
    assert parts.energy == pytest.approx(-np.exp(m + s**2 / 2), rel=1e-3)
    assert parts.elbo == pytest.approx(fit.elbo.value, abs=4 * fit.elbo.se)
    assert parts.gap > 0


def with_factor(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    numpyro.factor("twice", dist.Normal(mu, 1.0).log_prob(y).sum())


def test_factors_count_as_reconstruction():
    """The factor says what an observation would: the same decomposition as the model that observes."""

    def observing(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu, 1.0).expand([2]).to_event(1), obs=y)

    y = np.array([0.5, 1.5])
    first, second = (jn.fit(m, {"y": y}, "laplace").decompose() for m in (with_factor, observing))
    for name in ("elbo", "energy", "entropy", "reconstruction", "kl"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-9)
    exact = dist.MultivariateNormal(np.zeros(2), np.eye(2) + 1.0).log_prob(y)
    assert first.elbo == pytest.approx(float(exact), abs=1e-5)


def test_a_log_density_has_no_prior_of_its_own():
    from tests.posteriors import gaussian, quadratic_model

    mean, covariance, precision = gaussian(3, 0.5)
    fit = jn.fit(quadratic_model(3), {"mean": mean, "precision": precision}, "laplace")
    parts = fit.decompose()
    assert parts.elbo == pytest.approx(0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1], abs=1e-8)
    assert parts.elbo == pytest.approx(parts.energy + parts.entropy, abs=1e-9)


def test_conjugate_model_is_what_the_closed_forms_say():
    """The oracle against NumPyro's own log density: log p(y) = log p(y, w) - log p(w | y) at any w."""
    from numpyro.infer.util import log_density

    data = conjugate_data()
    mean, covariance, log_evidence = conjugate_answer(**data)
    w = mean + 0.3
    import jax

    with jax.enable_x64(True):
        joint, _ = log_density(conjugate, (), data, {"w": w})
        posterior = dist.MultivariateNormal(mean, covariance).log_prob(w)
        assert float(joint - posterior) == pytest.approx(log_evidence, abs=1e-9)
