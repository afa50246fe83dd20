"""Sites inside loops and transformations of JAX's own are refused in words."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn

Y = np.arange(5.0)


def normal(name, mean=0.0, obs=None):
    return numpyro.sample(name, dist.Normal(mean, 1), obs=obs)


def stepped(carry, y):
    z = normal("z", carry)
    normal("seen", z, y)
    return z, None


CASES = {
    "lax.scan": (lambda m, y: jax.lax.scan(stepped, m, y)[0], "control_flow.scan"),
    "lax.fori_loop": (lambda m, y: jax.lax.fori_loop(0, 3, lambda i, c: c + normal("z"), m), "control_flow.scan"),
    "lax.while_loop": (
        lambda m, y: jax.lax.while_loop(lambda c: c < 3, lambda c: c + normal("z"), m),
        "control_flow.scan",
    ),
    "lax.map": (lambda m, y: jax.lax.map(lambda one: normal("z", m, one), y).sum(), "numpyro.plate"),
    "vmap": (lambda m, y: jax.vmap(lambda one: normal("z", one))(y).sum(), "numpyro.plate"),
    "lax.cond": (lambda m, y: jax.lax.cond(m > 0, lambda: normal("z"), lambda: 0.0), "jnp.where"),
    "jit": (lambda m, y: jax.jit(lambda: normal("z", m))(), "jensen compiles"),
    "checkpoint": (lambda m, y: jax.checkpoint(lambda m: normal("z", m))(m), "jensen compiles"),
    "grad": (lambda m, y: jax.grad(lambda m: normal("z", m) ** 2)(m), "jensen compiles"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_the_loop_and_the_way_out(case):
    inside, remedy = CASES[case]

    def model(y):
        m = normal("m")
        normal("y", inside(m, y), y)

    for call in (lambda: jn.fit(model, {"y": Y}, "laplace", progress=False), lambda: jn.explain(model, {"y": Y})):
        with pytest.raises(jn.ModelError) as raised:
            call()
        for word in (
            "'z'",
            f"inside jax.{case}" if "lax" in case or case == "vmap" else case,
            remedy,
            "test_one_trace.py",
        ):
            assert word in str(raised.value)


def test_other_sites_inside_are_refused_too():
    def factor(y):
        m = normal("m")
        jax.vmap(lambda one: numpyro.factor("f", -((one - m) ** 2)))(y)

    def deterministic(y):
        m = normal("m")
        normal("y", jax.vmap(lambda one: numpyro.deterministic("f", one * m))(y), y)

    for model in (factor, deterministic):
        with pytest.raises(jn.ModelError, match=r"'f' is inside jax\.vmap"):
            jn.explain(model, {"y": Y})


def test_loops_without_sites_and_numpyros_own_scan_are_theirs():
    def model(y):
        m = normal("m")
        level = jax.lax.fori_loop(0, 3, lambda i, c: 0.5 * c + m, 0.0)
        wide = jax.jit(jax.vmap(lambda one: 0.0 * one + level))(y)
        scan(stepped, jnp.sum(wide), y)

    assert jn.explain(model, {"y": Y}).dim == 6
