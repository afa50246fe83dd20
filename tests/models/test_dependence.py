"""Dependence read off the traced program: against finite perturbations of every row, and on idioms that plates hide."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

from jensen._math.precision import working
from jensen._model import build
from jensen._program.analysis import placeholders
from jensen._program.dependence import MANY, NONE, links

Y = np.random.default_rng(0).normal(size=6)
GROUP = np.array([0, 2, 1, 1, 0, 2])


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def found(model, data):
    target = build(model, data, "double", discrete=True)
    shapes = placeholders(target.structure)
    rows = {s.name: s.shape[: len(s.shape) - s.event_dim] for s in target.structure.latents}
    return target, links(target.model.log_joint, shapes, rows)


def mixture(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("component", 3):
        mean = numpyro.sample("mean", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(mean[z], 1), obs=y)


def groups(y, group):
    with numpyro.plate("group", 3):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(a[group], 1), obs=y)


def crossing(y):
    """A plate whose rows see their neighbours: the plate alone would say otherwise."""
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(z + jnp.roll(z, 1), 1), obs=y)


def reversed_rows(y):
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Normal(z[::-1] * 1.0, 1), obs=y)


def logistic(y, x):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(2), 1).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(x @ w, 1), obs=y)


def per_row_products(y, x):
    with numpyro.plate("row", len(y)):
        w = numpyro.sample("w", dist.Normal(jnp.zeros(2), 1).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.einsum("nd,nd->n", x, w), 1), obs=y)


def chain(y):
    def step(before, now):
        return 0.9 * before + now, 0.9 * before + now

    with numpyro.plate("row", len(y)):
        noise = numpyro.sample("noise", dist.Normal(0, 1))
    _, path = jax.lax.scan(step, 0.0, noise)
    numpyro.sample("y", dist.Normal(path, 1).to_event(1), obs=y)


def series(y):
    """A chain in one site, two states beside each other, and something that adds up along it."""

    def step(carry, item):
        before, total = carry
        with numpyro.plate("state", 2):
            x = numpyro.sample("x", dist.Normal(0.9 * before, 1.0 + 0.1 * jnp.abs(total)))
        numpyro.sample("y", dist.Normal(x[0] - x[1], 1), obs=item)
        return (x, total + 0.5), None

    scan(step, (jnp.zeros(2), 0.0), y)


def branch(y):
    switch = numpyro.sample("switch", dist.Bernoulli(0.5))
    a, b = numpyro.sample("a", dist.Normal(0, 1)), numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(jax.lax.cond(switch > 0, lambda: a, lambda: b), 1), obs=y[0])


def local_tables(y):
    with numpyro.plate("row", len(y)):
        logits = numpyro.sample("logits", dist.Normal(jnp.zeros(3), 1).to_event(1))
        z = numpyro.sample("z", dist.Categorical(logits=logits))
        numpyro.sample("y", dist.Normal(z * 1.0, 1), obs=y)


def layers(y, x):
    with numpyro.plate("row", len(y), dim=-2), numpyro.plate("unit", 2, dim=-1):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    with numpyro.plate("row", len(y), dim=-2), numpyro.plate("word", 3, dim=-1):
        numpyro.sample("y", dist.Normal(z @ x[:3].T, 1), obs=jnp.broadcast_to(y[:, None], (len(y), 3)))


def side_by_side(y):
    """Latents put together in one array."""
    with numpyro.plate("row", len(y)):
        a = numpyro.sample("a", dist.Normal(0, 1))
        b = numpyro.sample("b", dist.Bernoulli(0.5))
        both = jnp.stack([a, b * 1.0], axis=1)
        numpyro.sample("y", dist.Normal(both @ jnp.array([1.0, -2.0]), 1), obs=y)


X = np.random.default_rng(1).normal(size=(6, 2))
CASES = {
    "mixture": (mixture, {"y": Y}),
    "groups": (groups, {"y": Y, "group": GROUP}),
    "crossing": (crossing, {"y": Y}),
    "reversed": (reversed_rows, {"y": Y}),
    "logistic": (logistic, {"y": Y, "x": X}),
    "per-row products": (per_row_products, {"y": Y, "x": X}),
    "chain": (chain, {"y": Y}),
    "series": (series, {"y": Y}),
    "branch": (branch, {"y": Y}),
    "local tables": (local_tables, {"y": Y}),
    "side by side": (side_by_side, {"y": Y}),
    "layers": (layers, {"y": Y, "x": X}),
}


@pytest.mark.parametrize("name", CASES)
def test_no_dependence_is_missed(name):
    """Rows are replaced one at a time by prior draws: an entry that moves must have been found to depend on the row."""
    target, known = found(*CASES[name])
    rng = np.random.default_rng(3)

    def draw():
        return {
            s.name: jnp.asarray(rng.integers(0, 3 if s.distribution.startswith("Cat") else 2, size=s.shape))
            if s.discrete
            else jnp.asarray(rng.dirichlet(np.ones(s.shape[-1]), size=s.shape[:-1]))
            if s.distribution == "Dirichlet"
            else jnp.asarray(rng.normal(size=s.shape))
            for s in target.structure.latents
        }

    log_joint = jax.jit(lambda value: target.model.log_joint(value))
    for _ in range(4):
        base, other = draw(), draw()
        before = log_joint(base)
        for site, shape in known.shapes.items():
            for row, at in enumerate(np.ndindex(*shape)):
                after = log_joint({**base, site: base[site].at[at].set(other[site][at])})
                for term in before:
                    moved = np.asarray(before[term] != after[term])
                    ids = known.rows[term].get(site, np.full(moved.shape, NONE))
                    assert np.isin(ids[moved], [row, MANY]).all(), (term, site, row)
                    for axes, blocks in known.blocks.get(term, {}).get(site, {}).items():
                        kept = [shape[axis] for axis in axes]
                        block = np.ravel_multi_index([at[axis] for axis in axes], kept)
                        assert np.isin(blocks[moved], [block, MANY]).all(), (term, site, row, axes)
                    if site in known.rows[term]:  # and exactly one group of rows says so
                        said = [
                            (found[moved] == row) | ((found[moved] == MANY) & members[at])
                            for members, found in known.layers(term, site)
                        ]
                        assert (np.sum(said, axis=0) == 1).all(), (term, site, row)


def test_index_lookups_and_neighbours():
    _, known = found(*CASES["groups"])
    np.testing.assert_array_equal(known.rows["y"]["a"], GROUP)
    _, known = found(*CASES["reversed"])
    np.testing.assert_array_equal(known.rows["y"]["z"], np.arange(6)[::-1])
    assert known.separable("z")
    _, known = found(*CASES["crossing"])
    assert (known.rows["y"]["z"] == MANY).all()
    assert not known.separable("z")
    assert [index.tolist() for _, index in known.layers("y", "z")] == [[0, 0, 2, 2, 4, 4], [5, 1, 1, 3, 3, 5]]
    _, known = found(*CASES["series"])
    assert len(known.split["x"]) == 4  # even and odd steps of either state
    assert not any((index == MANY).any() for term in known.rows for _, index in known.layers(term, "x"))
    _, known = found(*CASES["mixture"])
    assert known.separable("z")
    assert not known.separable("mean")
    assert known.touching("mean") == ["mean", "y"]
    _, known = found(*CASES["per-row products"])
    np.testing.assert_array_equal(known.rows["y"]["w"], np.arange(6))
    _, known = found(*CASES["local tables"])
    np.testing.assert_array_equal(known.rows["z"]["logits"], np.arange(6))
    _, known = found(*CASES["side by side"])
    np.testing.assert_array_equal(known.rows["y"]["a"], np.arange(6))
    np.testing.assert_array_equal(known.rows["y"]["b"], np.arange(6))
