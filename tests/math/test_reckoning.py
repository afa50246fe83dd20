"""What programs take, reckoned from their equations."""

import jax
import jax.numpy as jnp
import pytest

from jensen._math.reckoning import BEGIN, CALL, MULTIPLIED, ROW, TURNS, price


def priced(fn, *arguments, points=1):
    return price(jax.make_jaxpr(fn)(*arguments).jaxpr, points)


def test_loops_begin_their_equations_in_every_turn():
    once = priced(jnp.sin, jnp.ones(3))
    looped = priced(lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=50)[0], jnp.ones(3))
    endless = priced(lambda x: jax.lax.while_loop(lambda c: True, lambda c: jnp.sin(c), x), jnp.ones(3))
    assert once.begun == pytest.approx(CALL + BEGIN)
    assert looped.begun == pytest.approx(CALL + 50 * BEGIN)
    assert looped.each == pytest.approx(50 * once.each)
    assert endless.begun == pytest.approx(CALL + TURNS * BEGIN)


def test_products_and_factors_cost_multiplications():
    square = jnp.eye(30)
    assert priced(lambda a: a @ a, square).each == pytest.approx(MULTIPLIED * 30**3)
    assert priced(lambda a: a @ a, square, points=10).each == pytest.approx(MULTIPLIED * 30**3 / 10)
    assert priced(jnp.linalg.cholesky, square).each > MULTIPLIED * 30**3


def test_many_small_matrices_cost_their_rows():
    """2 × 2 matrices are handed to the library one by one: a thousand of them take 100 microseconds, not two."""
    many, columns = jnp.broadcast_to(jnp.eye(2), (1000, 2, 2)), jnp.ones((1000, 2, 3))
    assert priced(jax.lax.linalg.cholesky, many).each == pytest.approx(1000 * 2 * ROW, rel=0.1)
    solved = priced(lambda a, b: jax.lax.linalg.triangular_solve(a, b, left_side=True), many, columns)
    assert solved.each == pytest.approx(1000 * 2 * 3 * ROW, rel=0.1)


def test_calls_and_points_add_up():
    found = priced(jnp.exp, jnp.ones(100), points=100)
    assert found.seconds(1000, 10) == pytest.approx(10 * found.begun + 1000 * found.each)
