"""Compiled programs are found again by what they compute."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._math.programs import _SHARED as SHARED
from jensen._math.programs import Program


def made():
    """The same equations from another function; softplus has a differentiation rule of its own."""
    return Program(lambda x: jnp.sum(jax.nn.softplus(3.7 * x)))


def test_equal_programs_are_shared_whatever_their_rules_and_weak_types():
    x = np.arange(3.0, dtype=np.float32)
    want = np.log1p(np.exp(3.7 * x)).sum()
    np.testing.assert_allclose(made()(x), want, rtol=1e-5)
    before = len(SHARED)
    np.testing.assert_allclose(made()(x), want, rtol=1e-5)
    assert len(SHARED) == before
    weak = jnp.full(3, 2.0)
    strong = jnp.asarray(np.full(3, 2.0, np.float32))
    assert weak.weak_type
    np.testing.assert_array_equal(made()(weak), made()(strong))
    assert len(SHARED) == before
    Program(lambda x: jnp.sum(jax.nn.softplus(3.8 * x)))(x)
    assert len(SHARED) == before + 1
