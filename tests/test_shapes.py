"""Annotated shapes are checked while the suite runs: an array of another shape is refused, and the right one is not."""

import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import TypeCheckError

from jensen.bounds import ELBO, ImportanceWeighted
from jensen.families import FullRank, MeanField


@pytest.mark.parametrize("bound", [ELBO(), ImportanceWeighted(2)], ids=lambda b: type(b).__name__)
def test_log_weights_are_one_axis(bound):
    assert bound(jnp.zeros(4)).shape == ()
    with pytest.raises(TypeCheckError, match="log_weights"):
        bound(jnp.zeros((2, 2)))


def test_the_parts_of_a_family_have_one_dimension():
    with pytest.raises(TypeCheckError, match="log_scale"):
        MeanField(jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(TypeCheckError, match="lower"):
        FullRank(jnp.zeros(2), jnp.zeros(2), jnp.zeros((2, 3)))


def test_a_density_is_of_one_point():
    q = MeanField(jnp.zeros(2), jnp.zeros(2))
    assert q.log_prob(q.draw(jr.key(0)).value).shape == ()
    with pytest.raises(TypeCheckError, match="value"):
        q.log_prob(jnp.zeros((5, 2)))
