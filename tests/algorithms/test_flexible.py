"""Flows and mixtures on R^D: curved and many-moded targets, kept by auto only where they pay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jensen as jn


def banana(z):
    u = z["u"]
    parts = -0.5 * u[0] ** 2 - 0.5 * ((u[1] - u[0] ** 2) / 0.3) ** 2
    return parts - jnp.log(2 * jnp.pi) - jnp.log(0.3)


CENTRES, SHARES = np.array([[-4.0, 0.0], [4.0, 1.0]]), np.array([0.3, 0.7])


def two_modes(z):
    logs = -0.5 * jnp.sum((z["u"] - CENTRES) ** 2, axis=1) / 0.25 - jnp.log(2 * jnp.pi * 0.25)
    return jax.nn.logsumexp(jnp.log(SHARES) + logs)


@pytest.fixture(scope="module")
def mixture():
    return jn.fit(jn.LogDensity(two_modes, {"u": 2}), None, jn.auto(escalate=True))


def test_several_modes_become_a_mixture(mixture):
    assert abs(mixture.elbo.value) < 1e-3
    kept = [row for row in mixture.outcome.stages if row["kept"]]
    assert [row["family"] for row in kept] == ["mixture over 2 modes"]
    assert "nats above the" in mixture.status
    draws = mixture.sample(4000, raw=True)["u"]
    assert np.mean(draws[:, 0] > 0) == pytest.approx(0.7, abs=0.03)
    assert mixture.check().verdict == "trusted"


def test_a_mixture_comes_back_from_its_file(mixture, tmp_path):
    mixture.save(tmp_path / "f.jn")
    loaded = jn.load(tmp_path / "f.jn")
    assert type(loaded.q).__name__ == "Mixture"
    again = loaded.attach(jn.LogDensity(two_modes, {"u": 2}))
    np.testing.assert_array_equal(again.sample(20, raw=True)["u"], mixture.sample(20, raw=True)["u"])


def test_a_gaussian_posterior_stays_gaussian():
    fit = jn.fit(jn.LogDensity(lambda z: -0.5 * jnp.sum(z["u"] ** 2), {"u": 2}), None, jn.auto(escalate=True))
    assert all("flow" not in row["family"] and "mixture" not in row["family"] for row in fit.outcome.stages)


@pytest.mark.slow
def test_a_curved_posterior_gets_a_richer_family():
    """The best Gaussian is 0.8 nats short."""
    fit = jn.fit(jn.LogDensity(banana, {"u": 2}), None, jn.auto(escalate=True))
    assert fit.elbo.value > -0.1
    assert fit.elbo.value < 3 * fit.elbo.se
    assert fit.check().verdict == "trusted"


def test_a_mixture_of_one_is_refused():
    with pytest.raises(jn.OptionError, match="mixture of one"):
        jn.advi(family="mixture", num_components=1)


def test_a_flow_for_discrete_latents_is_refused_with_what_serves_them():
    import numpyro
    import numpyro.distributions as dist

    def counts(y):
        n = numpyro.sample("n", dist.Poisson(4.0))
        numpyro.sample("y", dist.Normal(n, 1.0), obs=y)

    with pytest.raises(jn.ModelError, match="n"):
        jn.fit(counts, {"y": 3.0}, jn.advi(family="flow"))
