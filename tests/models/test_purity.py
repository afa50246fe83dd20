"""A model is the same at every run, or it is refused at the user's line; what is fixed by the user stays legal."""

# ruff: noqa: NPY002, as the programs at fault are written

import functools
import itertools
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan

import jensen as jn
from jensen._program.purity import repeatable

Y = np.random.default_rng(0).normal(1.0, 1.0, 12)
COUNT = itertools.count()
SEEN: list[float] = []
STATE = {"scale": 1.0}


def shifted(shift):
    """A normal model with a shift that is computed anew at every run."""

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + shift(), 1), obs=y)

    return model


def growing():
    SEEN.append(0.1)
    return len(SEEN)


def changed_global():
    STATE["scale"] *= 1.5
    return STATE["scale"]


def noise_in_scan(y):
    def step(state, value):
        state = numpyro.sample("x", dist.Normal(0.5 * state, 1.0))
        numpyro.sample("y", dist.Normal(state, 1.0 + np.random.uniform()), obs=value)
        return state, None

    scan(step, 0.0, y)


def random_layout(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    for i in range(next(COUNT) % 3 + 1):
        numpyro.sample(f"y{i}", dist.Normal(mu, 1), obs=y[i])


def random_prior(y):
    mu = numpyro.sample("mu", dist.Normal(0, np.random.gamma(2.0)))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def random_subset(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y[np.random.permutation(len(y))[:6]])


def noisy_branch(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    low = jax.lax.cond(mu > 0, lambda m: m * np.random.normal(), lambda m: m, mu)
    numpyro.sample("y", dist.Normal(low, 1), obs=y)


def mask_that_turns(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with handlers.mask(mask=np.random.random(12) < 0.5):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def drawn_with_prng_key(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu + jax.random.normal(numpyro.prng_key()), 1), obs=y)


def drawn_deterministic(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)
    numpyro.deterministic("next", mu + dist.Normal(0, 1).sample(numpyro.prng_key()))


def kept_tracer(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    KEPT.append(mu)
    numpyro.sample("y", dist.Normal(sum(KEPT), 1), obs=y)


KEPT: list = []
IMPURE = {
    "numpy": shifted(lambda: np.random.normal()),
    "generator": shifted(functools.partial(np.random.default_rng(3).normal, size=12)),
    "random": shifted(random.random),
    "clock": shifted(lambda: time.time() % 1.0),
    "counter": shifted(lambda: next(COUNT)),
    "third call": shifted(lambda: next(COUNT) // 3),
    "every third call": shifted(lambda: float(next(COUNT) % 3 == 0)),
    "list": shifted(growing),
    "global": shifted(changed_global),
    "uniform in jnp": shifted(lambda: jnp.asarray(np.random.uniform(size=12))),
    "scan": noise_in_scan,
    "sites": random_layout,
    "prior": random_prior,
    "rows": random_subset,
    "branch": noisy_branch,
    "mask": mask_that_turns,
    "prng_key": drawn_with_prng_key,
    "prng_key to deterministic": drawn_deterministic,
    "leak": kept_tracer,
}


@pytest.mark.parametrize("name", IMPURE)
def test_a_model_that_differs_from_run_to_run_is_refused(name):
    with pytest.raises(jn.ModelError, match=r"same at every run|numpyro.prng_key") as refusal:
        repeatable(IMPURE[name], {"y": Y}, "double")
    assert "outside" in refusal.value.remedy
    if name not in ("sites", "leak"):
        assert "test_purity.py, line" in refusal.value.where


def test_the_line_named_is_the_users():
    with pytest.raises(jn.ModelError, match=r"0, np.random.gamma\(2.0\)"):
        jn.fit(random_prior, {"y": Y}, "cavi", progress=False)
    with pytest.raises(jn.ModelError, match=r"line \d+: scan"):
        jn.explain(noise_in_scan, {"y": Y})


def test_log_densities_too():
    noisy = jn.LogDensity(lambda z: -0.5 * (z["x"] - np.random.normal()) ** 2, {"x": ()})
    with pytest.raises(jn.ModelError, match="same at every run"):
        jn.fit(noisy, method="laplace")
    calls = itertools.count()
    late = jn.LogDensity(
        lambda z: -0.5 * float(z["x"]) ** 2 - 0.01 * (next(calls) > 40), {"x": ()}, differentiable=False
    )
    _, again = repeatable(late, None, "double")
    again()
    for _ in range(40):
        next(calls)
    with pytest.raises(jn.ModelError, match="not deterministic"):
        again()


def test_a_state_that_changes_late_is_met_after_the_fit():
    calls = itertools.count()
    model = shifted(lambda: float(next(calls) > 3))
    with pytest.raises(jn.ModelError, match="same at every run"):
        jn.fit(model, {"y": Y}, "laplace", progress=False)


def fixed_draw(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    offset = jax.random.normal(jax.random.key(7), (12,)) + np.random.default_rng(0).normal(size=12)
    numpyro.sample("y", dist.Normal(mu + offset, 1), obs=y)


def key_for_starts_only(y):
    weights = numpyro.param("w", lambda key: jax.random.normal(key, (2,)))
    mu = numpyro.sample("mu", dist.Normal(weights.sum(), 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def random_starts(y):
    shift = numpyro.param("w", np.random.normal(size=2))
    mu = numpyro.sample("mu", dist.Normal(shift.sum(), 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def key_without_effect(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    one = jax.random.normal(numpyro.prng_key(), (2,)).sum() * 0 + 1.0
    numpyro.sample("y", dist.Normal(mu, one), obs=y)


def eager_module(y):
    """As flax modules are registered: initial values drawn from a key, then a param site."""
    values = numpyro.param("net$params")
    if values is None:
        values = {"kernel": jax.random.normal(numpyro.prng_key(), (3,))}
        numpyro.param("net$params", values)
    mu = numpyro.sample("mu", dist.Normal(values["kernel"].sum(), 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def logged(y):
    SEEN.append(time.time())
    unused = jnp.asarray(np.random.normal(size=3)) + jax.random.normal(numpyro.prng_key(), (3,))
    del unused
    walk(y)


def walk(y):
    def step(state, value):
        state = numpyro.sample("x", dist.Normal(0.5 * state, 1.0))
        numpyro.sample("y", dist.Normal(state, 1.0), obs=value)
        return state, None

    scan(step, 0.0, y)


def sized(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1).expand([int(y.max() > 0) + 1]).to_event(1))
    numpyro.sample("y", dist.Normal(mu.sum(), 1), obs=y)


@pytest.mark.parametrize(
    "model", [fixed_draw, key_for_starts_only, random_starts, key_without_effect, eager_module, logged, walk, sized]
)
def test_what_is_the_same_at_every_run_is_legal(model):
    found, again = repeatable(model, {"y": Y}, "double")
    assert found is model
    again()


def test_a_global_set_anew_between_two_fits_is_seen():
    """The prior's location is read from a global: posterior mean (n ȳ + m) / (n + 1)."""

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(STATE["m"], 1))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    for STATE["m"] in (0.0, 50.0, 0.0):
        fit = jn.fit(model, {"y": Y}, "laplace", progress=False)
        assert float(fit.q.loc[0]) == pytest.approx((Y.sum() + STATE["m"]) / 13, abs=1e-6)


def test_so_it_is_where_discrete_latents_are_summed_out():
    """Two rows at 0 and 3, each from m or m + 3: what is learned of mu moves against the global."""

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 10))
        with numpyro.plate("row", 2):
            z = numpyro.sample("z", dist.Bernoulli(0.5))
            numpyro.sample("y", dist.Normal(mu + STATE["m"] + 3 * z, 0.2), obs=y)

    for STATE["m"] in (0.0, 5.0):
        fit = jn.fit(model, {"y": np.array([0.0, 3.0])}, "laplace", progress=False)
        assert float(fit.q.loc[0]) == pytest.approx(-STATE["m"], abs=0.01)


def test_a_subsampled_plate_is_refused_as_that():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("row", len(y), subsample_size=2) as chosen:
            numpyro.sample("y", dist.Normal(mu, 1), obs=y[chosen])

    with pytest.raises(jn.ModelError, match=f"'row' subsamples 2 of {len(Y)} rows"):
        jn.fit(model, {"y": Y}, "laplace", progress=False)


def test_two_plates_of_one_name_and_different_sizes():
    def model(y):
        with numpyro.plate("p", 5):
            z = numpyro.sample("z", dist.Normal(0, 1))
        with numpyro.plate("p", 4):
            w = numpyro.sample("w", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(z.sum() + w.sum(), 1), obs=y)

    for method in ("auto", "cavi", "bbvi"):
        with pytest.raises(jn.ModelError, match="'p' and different sizes: 5 and 4"):
            jn.fit(model, {"y": Y}, method, progress=False)
    with pytest.raises(jn.ModelError, match="'p' and different sizes: 5 and 4"):
        jn.explain(model, {"y": Y})
