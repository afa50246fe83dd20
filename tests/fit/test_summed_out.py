"""Fits of programs with discrete latents: what comes back about the sites that were summed out."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from scipy import stats

import jensen as jn

RNG = np.random.default_rng(11)
Y = np.concatenate([RNG.normal(-2, 1, 15), RNG.normal(2, 1, 25)])


def mixture(x, y=None):
    weight = numpyro.sample("weight", dist.Beta(2.0, 2.0))
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 2.0).to_event(1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Bernoulli(weight))
        numpyro.deterministic("centre", mu[z])
        numpyro.sample("y", dist.Normal(mu[z] + 0.0 * x, 1.0), obs=y)


@functools.cache
def fitted():
    return jn.fit(mixture, {"x": np.zeros(40), "y": Y}, method="advi")


def test_marginals_are_those_of_the_draws():
    fit = fitted()
    marginals = fit.marginals()["z"]
    assert marginals.dims == ("row", "state")
    np.testing.assert_array_equal(marginals.coords["state"], [0, 1])
    np.testing.assert_allclose(marginals.sum("state"), 1.0)
    draws = fit.sample(4000, raw=True)
    assert draws["z"].dtype.kind == "i"
    error = np.sqrt(0.25 / 4000)
    np.testing.assert_allclose(draws["z"].mean(axis=0), marginals.sel(state=1), atol=5 * error)  # 40 rows: 2e-5 false
    np.testing.assert_allclose(draws["centre"], np.take_along_axis(draws["mu"], draws["z"], 1))
    assert (marginals.sel(state=1).to_numpy()[:15] < 0.5).mean() > 0.8


def test_log_likelihoods_are_those_of_the_mixture():
    tree = fitted().to_arviz(50)
    posterior = {name: tree["posterior"][name].to_numpy()[0] for name in ("weight", "mu", "z")}
    assert tree["posterior"]["z"].dims == ("chain", "draw", "row")
    share = np.stack([1 - posterior["weight"], posterior["weight"]], axis=-1)
    density = (share[:, None] * stats.norm.pdf(Y[:, None], posterior["mu"][:, None], 1)).sum(-1)
    np.testing.assert_allclose(tree["log_likelihood"]["y"].to_numpy()[0], np.log(density), atol=1e-6)


def test_predictions_at_the_data_and_at_new_rows():
    fit = fitted()
    assert fit.predict(num_draws=20)["y"].shape == (20, 40)
    new = fit.predict({"x": np.zeros(300)}, num_draws=100)["y"]
    assert new.shape == (100, 300)
    assert abs(new.mean() - Y.mean()) < 0.5
    assert new.std() > 1.7  # both components


def test_a_saved_fit_gets_its_discrete_draws_back_with_its_model(tmp_path):
    fitted().save(tmp_path / "fit.jn")
    loaded = jn.load(tmp_path / "fit.jn")
    assert "z" not in loaded.sample(3)
    attached = loaded.attach(mixture, {"x": np.zeros(40), "y": Y})
    assert attached.sample(3)["z"].shape == (3, 40)
    np.testing.assert_allclose(attached.marginals()["z"], fitted().marginals()["z"], atol=0.05)


def test_nothing_summed_out_nothing_to_tell():
    fit = jn.fit(lambda y: numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal()), 1), obs=y), {"y": 1.0})
    assert fit.marginals() == {}


def chain(y):
    mu = numpyro.sample("mu", dist.Normal(jnp.array([0.0, 3.0]), 1.0).to_event(1))

    def step(z, value):
        z = numpyro.sample("z", dist.Categorical(jnp.array([[0.9, 0.1], [0.2, 0.8]])[z]))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=value)
        return z, None

    scan(step, 0, y)


def test_the_plan_says_how_each_site_is_summed_out():
    updates = {row.site: row.update for row in jn.explain(mixture, {"x": np.zeros(40), "y": Y}).rows}
    assert updates["z"].endswith("summed out exactly: 2 states for each row")
    rows = {row.site: row for row in jn.explain(chain, {"y": Y}).rows}
    assert rows["z"].update.endswith("summed out exactly: 2 states, by forward-backward over 40 steps")
    assert rows["z"].support == "integers 0 to 1"


def test_auto_takes_the_better_bound():
    fit = jn.fit(mixture, {"x": np.zeros(40), "y": Y})
    assert fit.elbo.value > fitted().elbo.value - 0.1
