"""What is not conjugate is refused, naming the site, the term, the source line and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from jensen._base.errors import DataError, ModelError
from jensen._conjugate.algebra import build_conjugate, trace
from jensen._conjugate.cavi import CAVI

from .zoo import ZOO

Y = np.array([0.5, 1.2, 2.0])
X = np.array([[1.0, 2.0], [0.3, 1.0], [2.0, -1.0]])
B = np.array([0, 1, 1])


def logistic(y):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=X @ w).to_event(1), obs=y)


def squashed(y):
    w = numpyro.sample("w", dist.Normal(0, 1))
    loc = jnp.tanh(w) * 2.0  # the line to be named
    numpyro.sample("y", dist.Normal(loc, 1).expand([3]).to_event(1), obs=y)


def half_cauchy_scale(y):
    s = numpyro.sample("s", dist.HalfCauchy(1))
    numpyro.sample("y", dist.Normal(0, s).expand([3]).to_event(1), obs=y)


def half_normal_scale(y):
    s = numpyro.sample("s", dist.HalfNormal(1))
    numpyro.sample("y", dist.Normal(0, s).expand([3]).to_event(1), obs=y)


def log_normal_precision(y):
    tau = numpyro.sample("tau", dist.LogNormal(0, 1))
    numpyro.sample("y", dist.Normal(0, 1 / jnp.sqrt(tau)).expand([3]).to_event(1), obs=y)


def exp_scale(y):
    u = numpyro.sample("u", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(0, jnp.exp(u)).expand([3]).to_event(1), obs=y)


def gamma_shape(y):
    a = numpyro.sample("a", dist.Gamma(1, 1))
    numpyro.sample("y", dist.Gamma(a, 1.0).expand([3]).to_event(1), obs=y)


def sum_of_rates(y):
    u = numpyro.sample("u", dist.Normal(1, 1).expand([2]).to_event(1))
    numpyro.sample("y", dist.Poisson(u[0] + u[1]).expand([3]).to_event(1), obs=np.array([1, 2, 3]))


def marginal_mixture(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1).expand([2]).to_event(1))
    parts = dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(mu, 1))
    numpyro.sample("y", parts.expand([3]).to_event(1), obs=y)


def truncated_prior(y):
    m = numpyro.sample("m", dist.Uniform(-1, 3))
    numpyro.sample("y", dist.Normal(m, 1).expand([3]).to_event(1), obs=y)


def quartic(y):
    m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(m**2, 1).expand([3]).to_event(1), obs=y)


def softmax_weights(y):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("n", 3):
        numpyro.sample("y", dist.Categorical(logits=w), obs=B)


def latent_factor(y):
    L = numpyro.sample("L", dist.LKJCholesky(2, 1.0))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(2), scale_tril=L), obs=y[:2])


def discrete_vector(y):
    z = numpyro.sample("z", dist.Bernoulli(0.5).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(z, 1).to_event(1), obs=y)


def endless_counts(y):
    k = numpyro.sample("k", dist.Poisson(2.0))
    numpyro.sample("y", dist.Normal(k, 1).expand([3]).to_event(1), obs=y)


def scaled_latent(y):
    with handlers.scale(scale=2.0):
        m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(m, 1).expand([3]).to_event(1), obs=y)


def flat_prior(y):
    s = numpyro.sample("s", dist.ImproperUniform(dist.constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(0, s).expand([3]).to_event(1), obs=y)


def by_position(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("n", 3):
        c = numpyro.sample("c", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(mu[jnp.ravel(c)[0]], 1).expand([3]).to_event(1), obs=y)


REFUSED = [
    (logistic, ["'y'", "log(1 + exp(.))", "logistic"]),
    (squashed, ["'y'", "tanh", "the line to be named"]),
    (half_cauchy_scale, ["'s'", "HalfCauchy"]),
    (half_normal_scale, ["'s'", "powers", "InverseGamma", "generalised inverse Gaussian"]),
    (log_normal_precision, ["'tau'", "log(tau)", "Gamma"]),
    (exp_scale, ["'y'", "exp of the latent expression"]),
    (gamma_shape, ["'y'", "concentration"]),
    (sum_of_rates, ["'y'", "the log of the sum"]),
    (marginal_mixture, ["'y'", "mu[c]"]),
    (truncated_prior, ["'m'", "Interval", "truncated"]),
    (quartic, ["'m'", "m^4"]),
    (softmax_weights, ["'y'", "softmax", "Dirichlet"]),
    (latent_factor, ["[L]", "Cholesky factor", "Wishart"]),
    (discrete_vector, ["'z'", "event shape", "plate"]),
    (endless_counts, ["'k'", "cannot be listed"]),
    (scaled_latent, ["'m'", "handlers.scale"]),
    (by_position, ["'y'", "outside its plate"]),
]


@pytest.mark.parametrize(("model", "words"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_refusal_names_site_and_remedy(model, words):
    with pytest.raises(ModelError) as raised:
        build_conjugate(model, {"y": B if model is logistic else Y})
    message = str(raised.value)
    for word in words:
        assert word in message, message
    assert "test_refusals.py line" in message


def test_flat_prior_alone_is_fine_when_the_likelihood_closes_it():
    model = build_conjugate(flat_prior, {"y": Y})
    assert type(model.factor("s", model.blocks["s"].zeros())).__name__ == "GammaPower"


def counts(y):
    rate = numpyro.sample("rate", dist.Gamma(1, 1))
    with numpyro.plate("n", len(y)):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def classes(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("n", len(y)):
        numpyro.sample("y", dist.Categorical(p), obs=y)


@pytest.mark.parametrize(
    ("model", "y", "row"),
    [(counts, np.array([1, 2, -1]), "row 2"), (classes, np.array([0, 3, 1]), "row 1")],
)
def test_values_outside_the_support_are_named_by_row(model, y, row):
    with pytest.raises(DataError) as raised:
        build_conjugate(model, {"y": y})
    assert "'y'" in str(raised.value)
    assert row in str(raised.value)


def test_missing_values_need_a_mask():
    with pytest.raises(DataError, match="missing values"):
        build_conjugate(counts, {"y": np.array([1.0, np.nan])})


def test_plate_of_another_size_is_refused():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("n", 5):
            numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    with pytest.raises((ModelError, DataError)):
        build_conjugate(model, {"y": Y})


def test_a_wrong_rule_is_caught_by_the_structural_check(monkeypatch):
    """A planted bug in a primitive's rule must not go unnoticed."""
    from jensen._conjugate.algebra import primitives
    from jensen._conjugate.algebra.value import power

    monkeypatch.setitem(primitives.RULES, "sqrt", lambda v, p, s: 1.1 * power(v[0], 0.5))

    def model(y):
        v = numpyro.sample("v", dist.InverseGamma(2, 1))
        numpyro.sample("y", dist.Normal(0, jnp.sqrt(v)).expand([3]).to_event(1), obs=y)

    with pytest.raises(ModelError, match="where NumPyro's density gives"):
        build_conjugate(model, {"y": Y})


def test_the_users_flag_is_untouched():
    with jax.enable_x64(False):
        build_conjugate(counts, {"y": np.array([1, 2, 3])})
        assert not jax.config.jax_enable_x64


def test_moments_that_run_off_name_their_block():
    """One value cannot bear a free mean and a free precision: every conditional is proper, their joint is not."""

    def one_value(x):
        mu = numpyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
        tau = numpyro.sample("tau", dist.ImproperUniform(dist.constraints.positive, (), ()))
        numpyro.sample("x", dist.Normal(mu, 1 / jnp.sqrt(tau)), obs=x)

    with pytest.raises(ModelError, match="moments of block 'tau' have grown") as found:
        CAVI().fit_conjugate(one_value, {"x": 1.7})
    assert "proper prior" in str(found.value)


def test_an_improper_conditional_names_its_block():
    """A flat prior on a coefficient whose column is zero."""

    def model(X, y):
        with numpyro.plate("feature", 2):
            w = numpyro.sample("w", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(X[:, 0] * w[0] + X[:, 1] * w[1], 1).to_event(1), obs=y)

    X0 = np.column_stack([np.ones(3), np.zeros(3)])
    with pytest.raises(ModelError, match="'w' is improper"):
        CAVI().fit_conjugate(model, {"X": X0, "y": Y})
    fit = CAVI().fit_conjugate(model, {"X": X, "y": Y})
    np.testing.assert_allclose(fit.means()["w"], np.linalg.lstsq(X, Y, rcond=None)[0], rtol=1e-8)


@pytest.mark.parametrize("name", ["unit_mixture", "ard_regression", "full_mixture"])
def test_single_precision_comes_close(name):
    double = CAVI(tolerance=1e-6).fit_conjugate(*ZOO[name], seed=2)
    single = CAVI(tolerance=1e-6).fit_conjugate(*ZOO[name], seed=2, precision="single")
    assert single.elbo == pytest.approx(double.elbo, rel=1e-9)  # too few rows to be streamed


def test_too_many_discrete_sites_in_one_density_are_refused():
    def model(y):
        states = [numpyro.sample(f"s{t}", dist.Bernoulli(0.5)) for t in range(60)]
        numpyro.sample("y", dist.Normal(sum(states), 1), obs=y[0])

    with pytest.raises(ModelError, match=r"'y' holds 60 of the 60 .* line .*scan"):
        build_conjugate(model, {"y": Y})


@pytest.mark.parametrize("steps", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_discrete_sites_that_no_density_holds_together_share_a_dimension(steps, monkeypatch):
    """A loop; the structural check, which passes, compares every density with NumPyro's."""
    monkeypatch.setattr(trace, "MAX_ENUMERATED", min(steps - 3, trace.MAX_ENUMERATED))

    def model(y):
        s = 0
        for t in range(steps):
            s = numpyro.sample(f"s{t}", dist.Categorical(jnp.array([[0.9, 0.1], [0.2, 0.8]])[s]))
            numpyro.sample(f"y{t}", dist.Normal(2.0 * s, 1), obs=y[t % 3])

    model = build_conjugate(model, {"y": Y})
    assert len(model.blocks) == steps
    assert len({site.enum_dim for site in model.sites.values()}) == 3  # two dimensions, and none
