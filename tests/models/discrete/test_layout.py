"""What is assumed about discrete latents, that wrong assumptions are caught, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.extend.core import jaxpr_as_fun
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from scipy import stats

import jensen as jn
from jensen._discrete import Mode
from jensen._discrete.layout import DiscreteLayout, DiscreteSite
from jensen._discrete.selfcheck import contradicted
from jensen._math.precision import working
from jensen._math.programs import quick_options
from jensen._model import build
from tests.models.discrete.zoo import MODELS

Y = np.array([0.3, -1.2, 0.8, 2.0])


def modes(model, data):
    return {name: site.mode for name, site in build(model, data, "double").model.discrete.sites.items()}


def shifted(y):
    """Every row sees the entry of the row before it, which no shape tells."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(mu * jnp.roll(z, 1), 1.0), obs=y)


def crossed(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    rows, columns = numpyro.plate("row", y.shape[0], dim=-2), numpyro.plate("column", y.shape[1], dim=-1)
    with rows:
        a = numpyro.sample("a", dist.Bernoulli(0.3))
    with columns:
        b = numpyro.sample("b", dist.Bernoulli(0.6))
    with rows, columns:
        numpyro.sample("y", dist.Normal(mu * a * b, 1.0), obs=y)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("mixture", {"z": Mode.ROWS}), ("factorial Markov", {"a": Mode.CHAIN, "b": Mode.CHAIN, "spread": Mode.ROWS})],
)
def test_the_weakest_assumption_that_holds(name, wanted):
    assert modes(*MODELS[name]) == wanted


def test_entries_that_meet_take_an_axis_each_and_picked_ones_share_one():
    assert modes(shifted, {"y": Y}) == {"z": Mode.GROUPS}
    assert modes(all_meet, {"y": 1.0, "count": 5}) == {"z": Mode.EACH}
    assert sorted(mode.value for mode in modes(crossed, {"y": Y.reshape(2, 2)}).values()) == ["each", "rows"]


@pytest.mark.parametrize("name", ["hidden Markov"])
def test_a_wrong_assumption_is_contradicted(name):
    model = build(*MODELS[name], "double").model
    site = model.discrete.sites["z"]
    wrong = DiscreteLayout({"z": DiscreteSite("z", site.values, site.shape, Mode.ROWS, (0,))})
    with working("double"):
        assert contradicted(model, wrong) == ["z"]
        assert contradicted(model, model.discrete) == []
        swapped = dataclasses.replace(site, values=site.values[::-1])  # the tables of other values
        assert contradicted(dataclasses.replace(model, discrete=model.discrete), DiscreteLayout({"z": swapped})) == []


def all_meet(y, count=25):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("part", count):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(mu * z.sum(), 1.0), obs=y)


def picked_by_index(y, group, other):
    """Every row sees two entries, of two latents, which data pick."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("group", 25):
        c = numpyro.sample("c", dist.Bernoulli(0.3))
        d = numpyro.sample("d", dist.Bernoulli(0.3))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu * c[group] + d[other], 1.0), obs=y)


def many_sites(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    total = sum(numpyro.sample(f"z_{i}", dist.Bernoulli(0.3)) for i in range(25))
    numpyro.sample("y", dist.Normal(mu * total, 1.0), obs=y)


def scaled_partly(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        with handlers.scale(scale=3.0):
            z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(mu * z, 1.0), obs=y)


def only_discrete(y):
    z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def vector_valued(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    n = numpyro.sample("n", dist.Multinomial(3, jnp.ones(3) / 3))
    numpyro.sample("y", dist.Normal(mu * n[0], 1.0), obs=y)


REFUSED = {
    "entries meet": (
        all_meet,
        {"y": 1.0},
        ["25 entries of 'z' meet", "density of 'y'", "3.36e+07", "bbvi"],
    ),
    "picked by an index": (
        picked_by_index,
        {"y": np.zeros(50), "group": np.arange(50) % 25, "other": np.arange(50) // 2},
        ["25 entries of '", "meet", "[group[n]], with no other latent of a plate around it", "bbvi"],
    ),
    "sites meet": (many_sites, {"y": 1.0}, ["joint states at once", "'z_0' (2 values)", "bbvi"]),
    "scale": (scaled_partly, {"y": Y}, ["under handlers.scale", "'z', 'y'", "under one scale"]),
    "nothing continuous": (only_discrete, {"y": 1.0}, ["All latent sites are discrete", "cavi"]),
    "vector": (vector_valued, {"y": 1.0}, ["'n' is a discrete vector (Multinomial", "bbvi"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_site_sizes_and_remedy(name):
    model, data, parts = REFUSED[name]
    with pytest.raises(jn.ModelError) as caught:
        build(model, data, "double")
    for part in parts:
        assert part in str(caught.value)


def rows_repeated(y, scale):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)), handlers.scale(scale=scale):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(mu * z, 1.0), obs=y)


def test_a_scale_around_a_latent_repeats_its_rows():
    """Σ_n s log Σ_z p(y_n, z), with s = 3 the same as every row three times; not Σ_z p(y_n, z)^s."""
    once = build(rows_repeated, {"y": Y, "scale": 3.0}, "double")
    thrice = build(rows_repeated, {"y": np.tile(Y, 3), "scale": 1.0}, "double")
    point = np.array([[0.7]])
    np.testing.assert_allclose(once.value(point), thrice.value(point), rtol=1e-12)
    np.testing.assert_allclose(once.marginals(point)["z"], thrice.marginals(point)["z"][:4], rtol=1e-12)


def test_impossible_states_leave_the_gradient_finite():
    def model(k):
        p = numpyro.sample("p", dist.Beta(1.0, 1.0))
        n = numpyro.sample("n", dist.DiscreteUniform(0, 30))
        with numpyro.plate("row", len(k)):
            numpyro.sample("k", dist.Binomial(n, p), obs=k)

    target = build(model, {"k": np.array([3, 7, 5])}, "double")
    value, gradient = target.value_and_grad(np.array([[0.2]]))
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(target.marginals(np.array([[0.2]]))["n"][:7], 0.0)


def test_the_states_of_a_scan_are_taken_as_a_chain_where_a_step_sees_the_one_before(monkeypatch):
    """Two trials were one too many: the tables of the steps tell, and the check on the program confirms."""
    from jensen._discrete import bind

    def chain(linked):
        def model(y):
            mean = numpyro.sample("mean", dist.Normal(0, 1).expand([2]))

            def step(before, value):
                z = numpyro.sample("z", dist.Categorical(jnp.array([[0.8, 0.2], [0.3, 0.7]])[before if linked else 0]))
                numpyro.sample("y", dist.Normal(mean[z], 1.0), obs=value)
                return z, None

            scan(step, 0, y)

        return model

    tried = []
    monkeypatch.setattr(bind, "contradicted", lambda *given: tried.append(given[1]) or contradicted(*given))
    assert modes(chain(True), {"y": Y}) == {"z": Mode.CHAIN}
    assert len(tried) == 1
    assert modes(chain(False), {"y": Y}) == {"z": Mode.ROWS}
    assert len(tried) == 2


def test_covariances_are_factorised_once_for_each_component():
    """log Σ_k π_k N(x_n | 0, P_k⁻¹) by hand, with P_k = exp(s_k) A; no factor has an axis of rows."""
    rows, a = np.random.default_rng(3).normal(size=(7, 2)), np.array([[2.0, 0.6], [0.6, 1.0]])

    def model(x):
        with numpyro.plate("component", 3):
            scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
            precision = (scale[:, None, None] * a)[z]
            numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), precision_matrix=precision), obs=x)

    target, point = build(model, {"x": rows}, "double"), np.array([0.4, -0.7, 1.1])
    each = [stats.multivariate_normal(np.zeros(2), np.linalg.inv(np.exp(s) * a)).pdf(rows) for s in point]
    wanted = np.log(np.array([0.2, 0.3, 0.5]) @ np.array(each)).sum() + stats.norm.logpdf(point).sum()
    with working("double"):
        traced = jax.make_jaxpr(target.model.log_density)(point)
        value = jax.jit(jaxpr_as_fun(traced), compiler_options=quick_options())(point)[0]
    assert float(value) == pytest.approx(wanted, rel=1e-12)
    shapes = [eqn.outvars[0].aval.shape for eqn in traced.jaxpr.eqns if eqn.primitive.name == "cholesky"]
    assert (3, 1, 2, 2) in shapes
    assert all(7 not in shape for shape in shapes)
