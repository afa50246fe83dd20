"""The Laplace approximation against closed forms and finite differences."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

import jensen as jn
from tests.posteriors import conjugate_answer, conjugate_data, exponential, fitted


def test_exact_on_a_conjugate_model():
    mean, covariance, log_evidence = conjugate_answer(**conjugate_data())
    fit = fitted("conjugate", "laplace")
    np.testing.assert_allclose(fit.q.loc, mean, atol=1e-9)
    np.testing.assert_allclose(fit.q.covariance(), covariance, atol=1e-10)
    assert fit.elbo.value == pytest.approx(log_evidence, abs=1e-9)


@pytest.mark.parametrize(("shape", "rate"), [(3.0, 2.0), (50.0, 0.1)])
def test_gamma_density_on_the_log_scale(shape, rate):
    """u = log r has log density a u - b exp(u): mode log(a / b), curvature a."""
    model = jn.LogDensity(
        lambda z, a, b: (a - 1) * jnp.log(z["r"]) - b * z["r"], {"r": ()}, {"r": constraints.positive}
    )
    fit = jn.fit(model, {"a": shape, "b": rate}, "laplace")
    assert fit.q.loc[0] == pytest.approx(np.log(shape / rate), abs=1e-9)
    assert fit.q.scales()[0] == pytest.approx(shape**-0.5, rel=1e-6)
    assert fit.converged


def test_curvature_is_minus_the_hessian_by_finite_differences():
    fit = fitted("logistic", "laplace")
    point, step = np.asarray(fit.q.loc, float), 1e-5
    moves = step * np.eye(len(point))
    _, up = fit.target.value_and_grad(point + moves)
    _, down = fit.target.value_and_grad(point - moves)
    np.testing.assert_allclose(np.linalg.inv(fit.q.covariance()), -(up - down) / (2 * step), rtol=1e-6, atol=1e-6)
    _, gradient = fit.target.value_and_grad(point[None])
    assert np.abs(fit.q.factor().T @ gradient[0]).max() < 1e-6


def test_the_highest_of_several_modes_is_taken():
    model = jn.LogDensity(
        lambda z: jnp.logaddexp(jnp.log(0.3) - 0.5 * (z["x"] - 3) ** 2, jnp.log(0.7) - 0.5 * (z["x"] + 3) ** 2),
        {"x": ()},
    )
    fit = jn.fit(model, method="laplace")
    assert fit.q.loc[0] == pytest.approx(-3, abs=1e-2)
    assert max(fit.outcome.restarts) == fit.outcome.restarts[0]


def test_a_saddle_or_ridge_says_so():
    ridge = jn.LogDensity(lambda z: -((z["x"] * z["y"] - 1.0) ** 2), {"x": (), "y": ()})
    fit = jn.fit(ridge, method="laplace")
    assert not fit.converged
    assert "not negative definite" in fit.status
    assert fit.check().verdict == "untrusted"


def test_skewness_is_seen_by_the_verdict():
    fit = jn.fit(exponential, method="laplace")
    assert fit.check().verdict != "trusted"
