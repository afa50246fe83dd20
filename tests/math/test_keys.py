"""Keys made by NumPy are JAX's own."""

import jax.random as jr
import numpy as np
import pytest

from jensen._math import keys


@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5])
def test_split_and_fold_in_are_those_of_jax(seed):
    key = jr.key(seed)
    assert np.array_equal(jr.key_data(keys.split(key, 37)), jr.key_data(jr.split(key, 37)))
    for number in (0, 3, keys.HIGH | 12345):
        assert np.array_equal(jr.key_data(keys.fold_in(key, number)), jr.key_data(jr.fold_in(key, number)))
    both = keys.pair(keys.fold_in(key, 3))
    assert [jr.key_data(k).tolist() for k in both] == jr.key_data(jr.split(jr.fold_in(key, 3))).tolist()
