"""Counts of operations: elementwise, products, loops."""

import jax
import jax.numpy as jnp

from jensen._math.operations import operations


def count(fn, *arguments):
    return operations(jax.make_jaxpr(fn)(*arguments))


def test_what_programs_cost():
    x, square = jnp.ones(10), jnp.ones((10, 10))
    assert count(lambda x: x + x, x) == 10
    assert count(lambda x: jnp.exp(x), x) == 100
    assert count(lambda a, x: a @ x, square, x) == 200
    once = count(lambda x: jnp.sin(x) * x, x)
    assert count(lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c) * c, None), x, None, length=7)[0], x) == 7 * once
    assert count(lambda x: jax.lax.cond(x[0] > 0, lambda x: x, lambda x: jnp.sin(x), x), x) >= 100
    assert count(jax.jit(lambda x: x + x), x) == 10
