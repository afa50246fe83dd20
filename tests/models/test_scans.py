"""Scans evaluated at all steps at once, against the loops that they take the place of."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import compute_log_probs

from jensen._math.precision import working
from jensen._math.programs import quick_options
from jensen._program.scans import AtOnce, scanned

STEPS = 7


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def markov(z, carry, x):
    at, before = carry
    here = jax.lax.dynamic_index_in_dim(z, at, keepdims=False)
    return (at + 1, here), (here - 0.5 * before + x) ** 2


def second_order(z, carry, x):
    at, before, earlier = carry
    here = jax.lax.dynamic_index_in_dim(z, at, keepdims=False)
    return (at + 1, here * 2.0, before), here - 0.5 * before + 0.25 * earlier * x


def accumulating(z, carry, x):
    """Two carries that need each other's past, and one kept as it is."""
    at, variance, error, rate = carry
    here = jax.lax.dynamic_index_in_dim(z, at, keepdims=False)
    error = here - x
    return (at + 1, 0.2 + rate * variance + 0.3 * error**2, error, rate), -0.5 * error**2 / variance + error


def backwards(z, carry, x):
    """Looks its part up from the end, every second one."""
    at, before = carry
    here = jax.lax.dynamic_index_in_dim(z, 2 * STEPS - 2 - 2 * at, keepdims=False)
    return (at + 1, here), here * before + x


def waiting(z, carry, x):
    at, total = carry
    total = jax.lax.cond(x > 0, lambda t: t + z[0], lambda t: 0.5 * t, total)
    return (at + 1, total), total * x


CASES = {
    "markov": (markov, STEPS, (0.3,), True),
    "second order": (second_order, STEPS, (0.3, -0.2), True),
    "accumulating": (accumulating, STEPS, (0.7, 0.1, 0.6), True),
    "backwards": (backwards, 2 * STEPS, (0.3,), True),
    "waiting": (waiting, STEPS, (0.3,), False),
}


def both(name, reverse, alternating, late=0):
    """(outputs of the loop and of the replacement with their gradients, whether it was replaced)."""
    body, size, init, _ = CASES[name]
    xs = np.random.default_rng(1).normal(size=STEPS)
    z = np.random.default_rng(2).normal(size=size)

    def loop(z, x):
        start = (jnp.asarray(late), *map(jnp.asarray, init))
        return jax.lax.scan(lambda carry, x: body(z, carry, x), start, x, length=STEPS, reverse=reverse)

    took = []

    def at_once(z, x):
        closed, shape = jax.make_jaxpr(loop, return_shape=True)(z, x)
        values = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, z, x], strict=True))

        def read(v):
            return v.val if hasattr(v, "val") else values[v]

        for eqn in closed.jaxpr.eqns:
            inputs = [read(v) for v in eqn.invars]
            found = scanned(eqn.params, inputs, alternating) if eqn.primitive.name == "scan" else None
            if eqn.primitive.name == "scan":
                took.append(found is not None)
            out = eqn.primitive.bind(*inputs, **eqn.params) if found is None else found[0]
            values.update(zip(eqn.outvars, out if isinstance(out, (list, tuple)) else [out], strict=True))
        return jax.tree.unflatten(jax.tree.structure(shape), [read(v) for v in closed.jaxpr.outvars])

    def measured(run):
        def total(z, x):
            carry, ys = run(z, x)
            return jnp.sum(ys * jnp.arange(1.0, STEPS + 1)) + sum(jnp.sum(c) for c in carry[1:]), (carry, ys)

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)

    program = jax.jit(lambda z, x: (measured(loop)(z, x), measured(at_once)(z, x)), compiler_options=quick_options())
    return *program(z, xs), took


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("reverse", "alternating"), [(False, False), (True, False), (False, True)])
def test_values_carries_and_gradients_are_those_of_the_loop(name, reverse, alternating):
    want, found, took = both(name, reverse, alternating)
    assert took == [CASES[name][3]]
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_counter_that_is_one_late_would_be_seen():
    want, _, _ = both("markov", False, False)
    _, found, _ = both("markov", False, False, late=1)
    assert np.abs(want[0][1][1] - found[0][1][1]).min() > 1e-3


def volatile(y):
    """States, and a variance that adds up from them."""

    def step(carry, now):
        before, variance = carry
        x = numpyro.sample("x", dist.Normal(0.8 * before, jnp.sqrt(variance)))
        numpyro.sample("y", dist.Normal(x, 0.5), obs=now)
        numpyro.deterministic("sd", jnp.sqrt(variance))
        return (x, 0.1 + 0.5 * variance + 0.2 * x**2), 2.0 * x

    with handlers.scale(scale=3.0):
        _, doubled = scan(step, (0.0, 1.0), y)
    numpyro.factor("end", -(doubled[-1] ** 2))


def test_a_program_has_the_same_densities():
    y = np.random.default_rng(0).normal(size=STEPS)

    def terms(x, at_once):
        seeded = handlers.seed(volatile, rng_seed=0)
        if not at_once:
            return compute_log_probs(seeded, (), {"y": y}, {"x": x}, sum_log_prob=False)[0]
        with AtOnce():
            return compute_log_probs(seeded, (), {"y": y}, {"x": x}, sum_log_prob=False)[0]

    want, found = jax.jit(lambda x: (terms(x, False), terms(x, True)), compiler_options=quick_options())(y[::-1])
    assert want.keys() == found.keys() == {"x", "y", "end"}
    for name in want:
        np.testing.assert_allclose(want[name], found[name], rtol=1e-12)
    text = str(jax.make_jaxpr(lambda x: sum(jnp.sum(t) for t in terms(x, True).values()))(jnp.asarray(y)))
    assert "log" in text.split("scan[")[-1].split("]", 1)[1]  # densities are outside the loop of the variance
