"""NumPy evaluates small programs as JAX does, or leaves them to it."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from jensen._math.precision import working
from jensen._program.argument_checks import ConcreteChecks
from jensen._program.on_host import HostProgram

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 4, 5))
L = np.tril(RNG.normal(size=(2, 3, 3))) + 3.0 * np.eye(3)
ROWS = np.array([[2, 0], [1, 1]])
FUNCTIONS = {
    "batched products": (lambda x, w: jnp.einsum("bij,bjk->bki", x, w), X, W),
    "contraction of two axes": (lambda x, w: jnp.einsum("bij,bjk->k", x, w), X, W),
    "lookup": (lambda x, i: x[1, i, :2], X, ROWS),
    "along an axis": (lambda x, i: jnp.take_along_axis(x[0], i, axis=0), X, np.array([[0, 2, 1, 0]])),
    "clip and argmax": (lambda x: (jnp.clip(x, -0.5, 0.5), jnp.argmax(x, axis=1)), X),
    "inner programs": (lambda x: (jax.nn.softplus(x), jax.nn.logsumexp(x, axis=-1), jax.nn.softmax(x, axis=1)), X),
    "Cholesky": (lambda x: jnp.linalg.cholesky(x @ jnp.swapaxes(x, -1, -2)), X),
    "triangular": (
        lambda a, x: [
            jax.lax.linalg.triangular_solve(a, y, left_side=left, lower=True, transpose_a=transposed)
            for left, y in ((True, x), (False, jnp.swapaxes(x, -1, -2)))
            for transposed in (False, True)
        ],
        L,
        X,
    ),
    "a whole number divided": (lambda i: i // 2, ROWS),  # NumPy's division gives floats: JAX does it
    "a loop": (lambda x: jax.lax.fori_loop(0, 3, lambda _, s: s + x.sum(), 0.0), X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_values_and_types(name):
    fn, *arguments = FUNCTIONS[name]
    with working("double"):
        found = HostProgram(fn).on_host(*arguments)
        wanted = jax.device_get(jax.jit(fn)(*map(jnp.asarray, arguments)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_nothing_is_compiled_where_numpy_has_every_primitive():
    program = HostProgram(lambda x, w: jnp.einsum("bij,bjk->bki", x, jnp.exp(w)))

    def refuse(*_):
        raise AssertionError("compiled")

    program.__class__ = type("Refusing", (HostProgram,), {"__call__": refuse})
    with working("double"):
        np.testing.assert_allclose(program.on_host(X, W), np.einsum("bij,bjk->bki", X, np.exp(W)), rtol=1e-12)


def test_arguments_that_are_known_are_checked_and_traced_ones_cost_nothing():
    seen = []

    def program(x):
        seen.append(len(jax.make_jaxpr(lambda c: dist.MultivariateNormal(jnp.zeros(2), c).mean)(x).eqns))
        dist.Normal(x[0, 0], -1.0)

    before = dist.Distribution.validate_args
    with (
        dist.distribution.validation_enabled(),
        pytest.raises(ValueError, match="Normal distribution got invalid scale"),
    ):
        jax.eval_shape(ConcreteChecks(program), jnp.eye(2))
    assert dist.Distribution.validate_args is before
    with dist.distribution.validation_enabled(), pytest.raises(ValueError, match="invalid scale"):
        jax.eval_shape(program, jnp.eye(2))
    assert seen[0] < seen[1]
