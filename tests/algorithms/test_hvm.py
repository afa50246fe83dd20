"""Hierarchical variational models: dependence found, known targets reached, collapse said, bad input refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._families import FullRank, MeanField, Mixture
from jensen._families.native import Bernoulli, Normal, Poisson
from jensen._hierarchical import family as h

TABLE = np.array([[0.1, 0.4], [0.4, 0.1]])


def two_bits(table):
    with numpyro.plate("bit", 2):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.factor("table", jnp.log(jnp.asarray(table))[z[0], z[1]] + 2 * np.log(2.0))


def masses(fit):
    values, errors = fit.approximation.log_prob({"z": np.array(list(np.ndindex(2, 2)))}, num_draws=20_000)
    assert errors.max() < 0.02
    return np.exp(values)


@pytest.fixture(scope="module")
def dependent():
    return jn.fit(two_bits, {"table": TABLE}, jn.hvm(num_components=2, num_starts=1, tolerance=0.05))


def test_dependence_between_discrete_latents_is_found(dependent):
    """The best product is at KL = 0.2231."""
    q = masses(dependent)
    assert q.sum() == pytest.approx(1.0, abs=0.01)
    assert np.sum(q * np.log(q / TABLE.ravel())) < 0.01
    assert -0.02 < dependent.elbo.value < 0.003
    assert dependent.converged
    assert dependent.summary()["max_corr"].dropna().to_numpy() == pytest.approx([-0.6, -0.6], abs=0.03)
    report = dependent.check()
    assert report.verdict == "trusted"
    assert "draws of λ" in " ".join(report.reasons)
    assert "mean field" not in " ".join(report.reasons)


def test_a_saved_fit_comes_back(dependent, tmp_path):
    dependent.save(tmp_path / "f.jn")
    loaded = jn.load(tmp_path / "f.jn")
    assert loaded.check().verdict == "trusted"
    again = loaded.attach(two_bits, {"table": TABLE})
    np.testing.assert_array_equal(again.sample(50, seed=3, raw=True)["z"], dependent.sample(50, seed=3, raw=True)["z"])
    assert again.answer.elbo(7) == dependent.answer.elbo(7)


def test_falling_back_to_mean_field_is_said():
    independent = np.outer([0.3, 0.7], [0.6, 0.4])
    fit = jn.fit(two_bits, {"table": independent}, jn.hvm(prior="mean_field", num_starts=1))
    report = fit.check()
    assert "fell back to mean field" in " ".join(report.reasons)
    assert "bbvi" in report.remedy
    assert fit.elbo.value == pytest.approx(0.0, abs=0.02)


@pytest.mark.slow
def test_a_gaussian_posterior_is_reached():
    """q(z) = N(m, Σ + diag s²) with a Gaussian r: the bound is tight to 1e-3."""
    precision = np.array([[2.0, 1.2], [1.2, 1.5]])

    def log_p(z):
        u = z["u"] - jnp.array([1.0, -2.0])
        return -0.5 * u @ jnp.asarray(precision) @ u - jnp.log(2 * jnp.pi) + 0.5 * np.log(np.linalg.det(precision))

    fit = jn.fit(jn.LogDensity(log_p, {"u": 2}), None, jn.hvm(prior="full_rank", num_starts=1))
    assert abs(fit.elbo.value) < 1e-3 + 3 * fit.elbo.se
    assert fit.elbo.se < 1e-3
    draws = fit.sample(20_000, raw=True)["u"]
    np.testing.assert_allclose(draws.mean(axis=0), [1.0, -2.0], atol=0.04)
    np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(precision), rtol=0.06)
    expected = -1.2 / np.sqrt(2.0 * 1.5)
    assert fit.summary()["max_corr"].to_numpy() == pytest.approx([expected] * 2, abs=0.02)


TABLES = np.stack([TABLE, [[0.45, 0.05], [0.05, 0.45]], [[0.3, 0.2], [0.3, 0.2]], TABLE])


def pairs(tables):
    with numpyro.plate("row", tables.shape[0]):
        a = numpyro.sample("a", dist.Bernoulli(0.5))
        b = numpyro.sample("b", dist.Bernoulli(0.5))
        state = jax.nn.one_hot(2 * a + b, 4)
        numpyro.factor("table", (jnp.log(tables).reshape(-1, 4) * state).sum(axis=1) + 2 * np.log(2.0))


ROWS = {
    "all rows": {"plate": "row"},
    "batches": {"batch_size": 2},
    "importance-weighted": {"plate": "row", "importance": 3},
    "amortised": {"batch_size": 2, "amortised": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ROWS)
def test_rows_have_dependence_of_their_own(case):
    """The best product is 0.94 nats short; a Gaussian prior for each row leaves a small part of that."""
    fit = jn.fit(pairs, {"tables": TABLES}, jn.hvm(**ROWS[case]))
    assert -0.12 < fit.elbo.value < 3 * fit.elbo.se
    strongest = fit.summary()["max_corr"]
    assert strongest["a[0]"] < -0.4
    assert strongest["a[1]"] > 0.5
    assert abs(strongest["a[2]"]) < 0.1
    assert fit.check().verdict == "trusted"
    assert ("Of 4 rows 1 are as mean field" in fit.status) == (case != "amortised")  # the one that is a product
    draws = {name: fit.sample(10, raw=True)[name] for name in ("a", "b")}
    values, errors = fit.approximation.log_prob(draws)
    assert values.shape == errors.shape == (10,)
    assert errors.max() < 0.2


BAD_ROWS = {
    "no such plate": ({"plate": "rwo"}, "Did you mean 'row'"),
    "a latent outside": ({"plate": "row"}, "'top' is not inside the plate 'row'"),
    "another prior": ({"plate": "row", "prior": "mixture"}, "prior out"),
    "a bound of all rows together": ({"plate": "row", "bound": jn.ImportanceWeighted(2)}, "bound out"),
    "r of their own, amortised": ({"plate": "row", "auxiliary": "gaussian", "amortised": True}, "auxiliary out"),
    "nothing to amortise": ({"amortised": True}, "Only priors of rows"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_cannot_have_their_own_are_refused(case):
    def model(y):
        top = numpyro.sample("top", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", 4):
            z = numpyro.sample("z", dist.Bernoulli(0.5))
            numpyro.sample("y", dist.Normal(z + top, 1.0), obs=y)

    options, message = BAD_ROWS[case]
    with pytest.raises(jn.OptionError, match=message):
        jn.fit(model, {"y": np.zeros(4)}, jn.hvm(**options))


BAD = {
    "mixture of one": ({"prior": "mixture", "num_components": 1}, "no mixture"),
    "K negative": ({"importance": -1}, "importance must be"),
    "K broken": ({"importance": 1.5}, "importance must be"),
    "unknown prior": ({"prior": "mixtrue"}, "Did you mean 'mixture'"),
    "unknown auxiliary": ({"auxiliary": "gauss"}, "gaussian"),
    "prior too long": ({"prior": FullRank.from_factor(np.zeros(3), np.eye(3))}, "3 coordinates"),
    "auxiliary too long": ({"auxiliary": h.PriorAuxiliary(5)}, "5 coordinates"),
    "continuous factor for bits": ({"families": {"z": Normal(np.zeros(2), np.zeros(2))}}, "is discrete.*Bernoulli"),
    "flow for bits": ({"families": {"z": h.FlowAuxiliary}}, "FlowAuxiliary cannot serve 'z'.*Bernoulli"),
    "counts for bits": ({"families": {"z": Poisson(np.full(2, 3.0))}}, "outside the support of 'z'.*Bernoulli"),
    "factor of the wrong shape": ({"families": {"z": Bernoulli(np.zeros(3))}}, r"shape \(3,\)"),
    "no such site": ({"families": {"w": Bernoulli(np.zeros(3))}}, "no latent site 'w'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    options, message = BAD[case]
    with pytest.raises(jn.OptionError, match=message):
        jn.fit(two_bits, {"table": TABLE}, jn.hvm(**options))


@pytest.mark.slow
def test_a_mixture_object_is_a_prior():
    prior = Mixture.of([MeanField(np.array([1.0, -1.0]), np.full(2, -1.0)), MeanField(-np.ones(2), np.full(2, -1.0))])
    method = jn.hvm(prior=prior, num_starts=1, max_steps=2000)
    assert jn.fit(two_bits, {"table": TABLE}, method).elbo.value > -0.2
