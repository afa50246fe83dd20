"""Discrete latents summed out by products of exponentials, against updates on logarithms."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._data.sources import Piece
from jensen._math.precision import working
from jensen._math.programs import equal_outputs

RNG = np.random.default_rng(5)
WORD, COUNT = RNG.integers(0, 7, (12, 4)), RNG.integers(0, 4, (12, 4))
WEIGHTS = RNG.uniform(0.0, 2.0, 12)


def documents(word, count, other=None):
    """Topics by counts; with `other` the words count differently from the topics that they come from."""
    rows, length = word.shape
    with numpyro.plate("topic", 3):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(7, 0.5)))
    with numpyro.plate("document", rows, dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(3, 0.7)))
        with numpyro.plate("entry", length, dim=-1):
            with handlers.scale(scale=count):
                z = numpyro.sample("z", dist.Categorical(theta))
            with handlers.scale(scale=count if other is None else other):
                numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


def tokens(word, shift):
    """Topics by tokens, whose distributions shift with the place in the document."""
    rows, length = word.shape
    with numpyro.plate("topic", 3):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(7, 0.5)))
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("document", rows, dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(3, 0.7)))
        with numpyro.plate("entry", length, dim=-1):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("w", dist.Categorical(phi[z]), obs=word)
            numpyro.sample("s", dist.Normal(level[z], 1.0), obs=shift)


def prepared(fn, arguments, sharp=1.0):
    """The program for these rows, and its inputs: random global moments, arrays, weights and tolerance."""
    piece = Piece(arguments, WEIGHTS)
    batches = Minibatches(fn, "double", 1e-13, None, iterations=2000)
    program = batches.first(piece)
    naturals = {"phi": {"log": jnp.asarray(sharp * RNG.gamma(1.0, 1.0, (3, 7)))}}
    if "level" in program.model.blocks:
        naturals["level"] = {
            k: jnp.full(s, -1.0) + RNG.uniform(0, 0.5, s) for k, s in program.model.blocks["level"].shapes.items()
        }
    moments, inside = batches.moments_of(naturals)
    assert np.all(inside)
    return program, (moments, *batches.inputs(piece, program), 1e-13)


@pytest.mark.parametrize(
    ("fn", "arguments"),
    [(documents, {"word": WORD, "count": COUNT}), (tokens, {"word": WORD, "shift": RNG.normal(size=WORD.shape)})],
)
def test_products_give_what_logarithms_give(fn, arguments):
    with working("double"):
        program, inputs = prepared(fn, arguments)
        assert program.local.potentials is not None
        (fast, share), bound, fine = program._fast(*inputs)
        (exact, other), expected, _ = program._exact(*inputs)
    assert fine
    assert float(share) == pytest.approx(float(other))
    # Both have stopped where a round moves q by less than 1e-13 nats a row, from different starts.
    assert float(bound) == pytest.approx(float(expected), rel=1e-9)
    for left, right in zip(jax.tree.leaves(fast), jax.tree.leaves(exact), strict=True):
        if np.ptp(np.asarray(right)) > 0:  # what constants are multiplied with is nobody's statistic
            np.testing.assert_allclose(left, right, atol=1e-4)


def test_a_weight_that_is_not_that_of_all_terms_is_not_divided_out():
    with working("double"):
        program, _ = prepared(documents, {"word": WORD, "count": COUNT, "other": RNG.integers(1, 3, WORD.shape)})
    assert program.local.potentials is None


def test_where_products_underflow_logarithms_are_taken():
    """Global moments so extreme that every product of exponentials is zero."""
    with working("double"):
        program, (moments, arrays, weights, tolerance) = prepared(documents, {"word": WORD, "count": COUNT})
        far = -2000.0 * np.eye(3)[:, np.arange(7) % 3] - 900.0 * np.arange(3)[:, None]
        moments = {"phi": {"log": jnp.asarray(far)}}
        heavy = 0.0 * weights + 1.0
        assert not np.all(program._fast(moments, arrays, heavy, tolerance)[2]) or np.isfinite(
            program.gather(moments, arrays, heavy, tolerance)[1]
        )
        found = program.gather(moments, arrays, heavy, tolerance)
        expected = program._exact(moments, arrays, heavy, tolerance)
    assert float(found[1]) == pytest.approx(float(expected[1]), rel=1e-9)


def test_equal_outputs_are_found():
    def program(x, y):
        a = jnp.reshape(jnp.reshape(x, (3, 2)), (2, 3))
        return x * 2.0, y * 2.0, a * 2.0, x + y, jnp.exp(x), jnp.exp(a), x

    same = equal_outputs(jax.make_jaxpr(program)(np.ones((2, 3)), np.ones((2, 3))).jaxpr)
    assert same == [0, 1, 0, 3, 4, 4, 6]
    assert all(a <= b for a, b in pairwise([0, *sorted(same)]))
