"""Prefix scans against a loop, for an operation that does not commute."""

import jax.numpy as jnp
import numpy as np
import pytest

from jensen._math.prefix import prefix_scan


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 101])
@pytest.mark.parametrize("reverse", [False, True])
def test_products_of_matrices(length, reverse):
    steps = np.random.default_rng(length).normal(size=(length, 2, 2)).astype(np.float32) * 0.7
    order = range(length - 1, -1, -1) if reverse else range(length)
    expected, so_far = np.zeros_like(steps), np.eye(2, dtype=np.float32)
    for t in order:
        so_far = so_far @ steps[t]
        expected[t] = so_far
    found = prefix_scan(jnp.matmul, jnp.asarray(steps), reverse=reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
