"""Rows on several axes: what is credited to a row, or summed over its values, is what its own block has at stake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jensen._core import total
from jensen._estimators.credit import by_blocks
from jensen._estimators.expectation import surrogate_terms
from jensen._families.native import Bernoulli, Product
from jensen._math.precision import working
from jensen._program.dependence import MANY, Links, links

RNG = np.random.default_rng(0)
WEIGHT, UPPER = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 2))


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def log_joint(value):
    """Four documents of two units each (z), and three topics whose rows lie behind the units (t)."""
    z, t = value["z"].astype(float), value["t"].astype(float)
    return {
        "z": z * UPPER - 0.1,
        "words": -((z @ WEIGHT - 1.0) ** 2),  # mixes the units of a document
        "t": jnp.sin(t[0] - 2.0 * t[1]) + t[0] * t[1] * jnp.arange(3.0),  # mixes the units of a topic, axis 1
        "all": -jnp.sum(z) * jnp.sum(t) * 0.3,
    }


SHAPES = {"z": (4, 2), "t": (2, 3)}


def known(terms=("z", "words", "t", "all")):
    values = {name: jnp.zeros(shape, int) for name, shape in SHAPES.items()}
    return links(lambda value: {k: v for k, v in log_joint(value).items() if k in terms}, values, SHAPES)


def test_the_smallest_block_is_found():
    found = known(("z", "words", "t"))
    assert {name: found.common(name) for name in SHAPES} == {"z": (0,), "t": (1,)}
    assert {name: found.together(name) for name in SHAPES} == {"z": 2, "t": 2}
    assert not found.separable("z")
    np.testing.assert_array_equal(found.by_block("words", "z", (0,)), np.repeat(np.arange(4), 3).reshape(4, 3))
    np.testing.assert_array_equal(found.by_block("z", "z", (0,)), np.repeat(np.arange(4), 2).reshape(4, 2))
    coupled = known()
    assert coupled.common("z") == ()
    assert (coupled.by_block("all", "z", (0,)) == MANY).all()


def test_a_rows_credit_changes_as_the_log_joint_does():
    """Without blocks, or with the wrong ones, other rows would be credited too, or something would be left out."""
    found = known()
    rng = np.random.default_rng(1)
    value = {name: jnp.asarray(rng.integers(0, 2, size=shape)) for name, shape in SHAPES.items()}
    terms = jax.jit(log_joint)

    def credit(value, site):
        stacked = {name: term[None] for name, term in terms(value).items()}
        return sum(np.asarray(by_blocks(stacked[t], found, t, site)[0]) for t in found.touching(site))

    for site, shape in SHAPES.items():
        before = credit(value, site)
        for at in np.ndindex(*shape):
            other = {**value, site: value[site].at[at].set(1 - value[site][at])}
            by_hand = float(total(terms(other)) - total(terms(value)))
            assert credit(other, site)[at] - before[at] == pytest.approx(by_hand, abs=1e-12)
    words = Links({"words": found.rows["words"]}, found.shapes, blocks=found.blocks)
    own = np.asarray(by_blocks(terms(value)["words"][None], words, "words", "z")[0])
    np.testing.assert_allclose(own, np.repeat(np.asarray(terms(value)["words"]).sum(1), 2).reshape(4, 2))


def test_blocks_change_together():
    """Looked at one row of each block at a time, the slopes are those of rows looked at one by one."""
    rng = np.random.default_rng(2)
    q = Product({name: Bernoulli(jnp.asarray(rng.normal(size=shape))) for name, shape in SHAPES.items()})
    values = {name: jnp.asarray(rng.integers(0, 2, size=(5, *shape))) for name, shape in SHAPES.items()}

    def slopes(terms):
        found = known(terms)

        def some(value):
            return {name: term for name, term in log_joint(value).items() if name in terms}

        def surrogate(q, with_links):
            return sum(surrogate_terms(q, n, some, values, found if with_links else None) for n in SHAPES)

        both = jax.jit(lambda q: [jax.grad(surrogate)(q, with_links) for with_links in (True, False)])
        return [[np.asarray(g.factors[n].logit) for n in SHAPES] for g in both(q)]

    for terms in (("z", "words", "t"), ("z", "words", "t", "all")):
        by_block, one_by_one = slopes(terms)
        for a, b in zip(by_block, one_by_one, strict=True):
            assert np.abs(b).max() > 0.01
            np.testing.assert_allclose(a, b, atol=1e-13)
