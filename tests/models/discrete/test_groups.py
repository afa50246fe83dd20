"""Latents whose rows data pick, c[group[n]]: sums by group against those by hand, far beyond 2^16 joint states."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from scipy import special, stats

from jensen._discrete import Mode
from jensen._discrete.layout import DiscreteLayout
from jensen._discrete.selfcheck import contradicted
from jensen._math.precision import working
from jensen._math.programs import quick_options
from jensen._model import build

GROUPS, ROWS = 40, 120
GROUP = np.random.default_rng(0).integers(0, GROUPS - 2, size=ROWS)  # two groups have no rows
Y = np.random.default_rng(1).normal(size=ROWS)
CENTRES = np.array([-1.0, 0.5, 2.0])


def model(y, group):
    """Rows with a label of their own and one of their group, the last ten with none of the latter."""
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    with numpyro.plate("group", GROUPS):
        c = numpyro.sample("c", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        of_group = jnp.concatenate([jnp.asarray(CENTRES)[c[group[:-10]]], jnp.zeros(10)])
        numpyro.sample("y", dist.Normal(mu * of_group + 2.0 * z, 1.0), obs=y)


@pytest.fixture(scope="module")
def target():
    return build(model, {"y": Y, "group": GROUP}, "double")


def by_hand(mu):
    """(log Σ_c Σ_z p(y, c, z | mu), posterior of c)."""
    centre = np.where(np.arange(ROWS)[:, None] < ROWS - 10, mu * CENTRES, 0.0)
    row = np.logaddexp(
        np.log(0.7) + stats.norm.logpdf(Y[:, None], centre), np.log(0.3) + stats.norm.logpdf(Y[:, None], centre + 2)
    )
    table = np.log([0.2, 0.3, 0.5]) + np.zeros((GROUPS, 1))
    np.add.at(table, GROUP[:-10], row[:-10])
    return special.logsumexp(table, axis=1).sum() + row[-10:, 0].sum(), special.softmax(table, axis=1)


def test_sums_and_marginals_are_those_by_hand(target):
    assert {name: site.mode for name, site in target.model.discrete.sites.items()} == {"c": Mode.GROUPS, "z": Mode.ROWS}
    with working("double"):
        run = jax.jit(
            lambda u: (jax.value_and_grad(target.model.log_density)(u), target.model.marginals(u)["c"]),
            compiler_options=quick_options(),
        )
        (value, slope), marginals = jax.device_get(run(np.array([0.6])))
    want, posterior = by_hand(0.6)
    assert np.isclose(value, want + stats.norm.logpdf(0.6, 0, 2), rtol=1e-12)
    np.testing.assert_allclose(marginals, posterior, rtol=1e-9)
    density = [by_hand(mu)[0] + stats.norm.logpdf(mu, 0, 2) for mu in (0.6 - 1e-5, 0.6 + 1e-5)]
    assert np.isclose(slope[0], (density[1] - density[0]) / 2e-5, rtol=1e-6)


def test_another_index_is_contradicted(target):
    site = target.model.discrete.sites["c"]
    moved = dataclasses.replace(site, index={"y": np.where(site.index["y"] < 0, -1, (site.index["y"] + 1) % GROUPS)})
    with working("double"):
        assert contradicted(target.model, DiscreteLayout({**target.model.discrete.sites, "c": moved}))[:1] == ["c"]


@pytest.mark.slow
def test_a_chain_that_picks_other_rows_at_other_steps_is_not_grouped():
    """Few entries here, so that each takes an axis; the same row at all steps is a group's."""

    def model(y, group):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("group", 2):
            c = numpyro.sample("c", dist.Bernoulli(0.3))

        def step(z, now):
            value, at = now
            z = numpyro.sample("z", dist.Bernoulli(0.2 + 0.5 * z))
            numpyro.sample("y", dist.Normal(mu * z + c[at], 1.0), obs=value)
            return z, None

        scan(step, 0, (y, group))

    def modes(group):
        sites = build(model, {"y": Y[:4], "group": np.array(group)}, "double").model.discrete.sites
        return sites["c"].mode

    assert modes([1, 1, 1, 1]) is Mode.GROUPS
    assert modes([0, 1, 1, 0]) is Mode.EACH
