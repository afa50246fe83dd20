"""Batches of rows: the mean over all batches is the full gradient, fits agree with those on all rows, and refusals."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._bounds import ELBO
from jensen._estimators import Expected, Mixed, Reparameterised
from jensen._families import native
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model.native import native_target

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=6), RNG.normal(size=6)


def switched(x, y):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(slope * x * z, 1.0), obs=y)


def product():
    local = native.Bernoulli(jnp.asarray(RNG.normal(size=6)))
    return native.Product({"slope": native.Normal(jnp.asarray(0.3), jnp.asarray(-0.5)), "z": local})


def over_batches(model, q, estimator, weight=3.0):
    """The gradient in all of q, averaged over every pair of rows."""
    pairs = np.array(list(itertools.combinations(range(6), 2)))

    def gradient(model, rows):
        batch = model.batch(rows)
        scaled = dataclasses.replace(model, weight=weight)
        return jax.grad(lambda q: estimator(ELBO(), scaled, q.at(batch), batch, jr.key(1)))(q)

    found = Program(jax.vmap(gradient, (None, 0)))(model, pairs)
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), found)


def test_the_mean_over_all_batches_is_the_full_gradient():
    """Sums over the labels leave nothing random but the slope, whose draws are the same for the same key."""
    with working("double"):
        target = native_target(switched, {"x": X, "y": Y}, "double", batch_size=2)
        whole = native_target(switched, {"x": X, "y": Y}, "double")
        q = product()
        parts = {"slope": Reparameterised(stick=True)}
        links = target.links({"slope": (), "z": (2,)})
        full = Mixed({**parts, "z": Expected(whole.links({"slope": (), "z": (6,)}))}, 3)
        exact = Program(jax.grad(lambda q: full(ELBO(), whole.model, q, None, jr.key(1))))(q)
        part = Mixed({**parts, "z": Expected(links)}, 3)
        found = over_batches(target.step_model, q, part)
        for mean, want in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(mean, want, rtol=1e-10)
        # Rows that count once in log p, though N / B times in log q, are seen.
        wrong = over_batches(target.step_model, q, part, weight=1.0)
        assert np.abs(wrong.factors["z"].logit - exact.factors["z"].logit).max() > 0.05


def test_parts_are_taken_and_put_back():
    with working("double"):
        target = native_target(switched, {"x": X, "y": Y}, "double", batch_size=2)
        q, batch = product(), target.step_model.batch(jnp.array([4, 1]))
        part = q.at(batch)
        np.testing.assert_array_equal(part.factors["z"].logit, q.factors["z"].logit[jnp.array([4, 1])])
        again = q.put(jax.tree.map(lambda x: x + 1.0, part), batch)
        moved = np.asarray(again.factors["z"].logit - q.factors["z"].logit)
        np.testing.assert_allclose(moved, [0, 1, 0, 0, 1, 0])
        assert float(again.factors["slope"].loc - q.factors["slope"].loc) == pytest.approx(1.0)
        assert target.subsample is not None
        rows = target.subsample.rows(np.random.default_rng(0), 7)
        assert rows.shape == (7, 2)
        assert sorted(rows[:3].reshape(-1)) == list(range(6))


COUNTS = RNG.poisson(np.exp(1.0 + 0.5 * RNG.normal(size=60)))


def overdispersed(y):
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", len(y)):
        rate = numpyro.sample("rate", dist.Gamma(4.0, 4.0 / jnp.exp(level)))
        numpyro.sample("y", dist.Poisson(rate), obs=y)


@pytest.mark.slow
def test_a_fit_by_batches_agrees_with_one_on_all_rows():
    """With local factors that only gradients move; the bound is on all rows in both."""
    by_batches = jn.fit(overdispersed, {"y": COUNTS}, jn.bbvi(batch_size=15))
    whole = jn.fit(overdispersed, {"y": COUNTS}, "bbvi")
    assert by_batches.elbo.value > whole.elbo.value - 0.5
    assert by_batches.q.factors["rate"].rows == (60,)
    a, b = by_batches.q, whole.q
    for site, most in (("level", 0.3), ("rate", 0.4)):
        gap = np.asarray(a.means()[site]) - np.asarray(b.means()[site])
        assert (np.abs(gap) / np.sqrt(np.asarray(b.variances()[site]))).max() < most


@pytest.mark.slow
def test_free_form_rows_are_moved_batch_by_batch():
    """Labels of 60 rows, 12 at a time: close to the optimum of coordinate ascent on all rows."""
    x = np.random.default_rng(3).normal(size=60)
    y = 2.0 * x * (np.arange(60) % 3 == 0) + 0.3 * np.random.default_rng(4).normal(size=60)
    fit = jn.fit(switched, {"x": x, "y": y}, jn.bbvi(batch_size=12, num_starts=1, max_steps=400))
    slope, spread = (float(np.asarray(f()["slope"])) for f in (fit.q.means, fit.q.variances))
    energy = x * y * slope - 0.5 * x**2 * (slope**2 + spread)
    np.testing.assert_allclose(fit.q.means()["z"], 1 / (1 + np.exp(-energy) * 0.7 / 0.3), atol=0.03)
    assert len(fit.sample(3, raw=True)["z"][0]) == 60


def centred(y):
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y - y.mean())


def mixture(y):
    centre = numpyro.sample("centre", dist.Normal(jnp.array([-2.0, 2.0]), 1.0).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.4, 0.6])))
        numpyro.sample("y", dist.Normal(centre[z], 1.0), obs=y)


def test_batches_of_a_summed_out_mixture_average_to_its_density():
    target = jn.advi(batch_size=2).prepare(mixture, {"y": Y}, "double")
    pairs = np.array(list(itertools.combinations(range(6), 2)))
    with working("double"):
        model = target.subsample.model

        def density(model, rows, point):
            return model.log_density(point, model.batch(rows))

        point = np.array([0.3, 1.1])
        found = Program(jax.vmap(density, (None, 0, None)))(model, pairs, point)
        assert float(found.mean()) == pytest.approx(float(target.value(point[None])[0]), rel=1e-12)
        assert model.inside == {"z + y"}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_gaussians_by_batches_agree_with_those_on_all_rows(family):
    rng = np.random.default_rng(7)
    y = np.where(rng.uniform(size=2000) < 0.4, -1.5, 1.0) + rng.normal(size=2000)
    part = jn.fit(mixture, {"y": y}, jn.advi(family=family, batch_size=100))
    whole = jn.fit(mixture, {"y": y}, jn.advi(family=family))
    assert part.converged
    assert "batches of 100 of 2000 rows" in part.status
    sd = whole.q.scales()
    assert (np.abs(np.asarray(part.q.loc) - np.asarray(whole.q.loc)) / sd).max() < 0.25
    assert part.elbo.value > whole.elbo.value - 0.1
    assert part.marginals()["z"].shape == (2000, 2)


def test_what_it_refuses():
    density = jn.LogDensity(lambda z: -(z["x"] ** 2), {"x": ()})
    cases = [
        (centred, {"y": Y}, {"batch_size": 2}, r"term 'y' of 2 rows.*among 6.*compute what depends on all rows"),
        (switched, {"x": X, "y": Y}, {"batch_size": 9}, "batch_size is 9, but the plate 'row' has 6 rows"),
        (switched, {"x": X, "y": Y}, {"batch_size": 2, "plate": "rwo"}, "no plate 'rwo'.*Did you mean 'row'"),
        (density, {}, {"batch_size": 2}, "plain log density has no plates"),
        (_unplated, {"y": Y}, {"batch_size": 2}, "has no plate"),
        (_of_fixed_size, {"y": Y}, {"batch_size": 2}, "cannot be run on 2 of the 6 rows.*len"),
    ]
    for model, data, options, message in cases:
        with pytest.raises(jn.JensenError, match=message):
            jn.fit(model, data, jn.bbvi(**options))
    for method in (jn.bbvi, jn.advi):
        with pytest.raises(jn.OptionError, match="Add batch_size"):
            method(plate="row")
    with pytest.raises(jn.OptionError, match=r"'rate' has a coordinate for each row.*jn.bbvi"):
        jn.fit(overdispersed, {"y": COUNTS}, jn.advi(batch_size=10))
    with pytest.raises(jn.OptionError, match=r"'k' is summed out, and it is outside the plate 'row'"):
        jn.fit(_shared_label, {"y": Y}, jn.advi(batch_size=2))
    with pytest.raises(jn.OptionError, match="family='flow' is not fitted by batches"):
        jn.advi(family="flow", batch_size=2)
    with pytest.raises(jn.OptionError, match="not a sum over rows"):
        jn.bbvi(batch_size=2, bound=jn.ImportanceWeighted(5), estimator=jn.ScoreFunction(10))


def _shared_label(y):
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    k = numpyro.sample("k", dist.Bernoulli(0.5))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(level * k, 1.0), obs=y)


def _unplated(y):
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    numpyro.sample("y", dist.Normal(level, 1.0).expand([6]).to_event(1), obs=y)


def _of_fixed_size(y):
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", 6):
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y)
