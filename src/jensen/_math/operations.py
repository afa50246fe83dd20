"""How much work a traced program is: a count of elementary operations, the same on every machine."""

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

COSTLY = {
    **dict.fromkeys(("exp", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "pow", "sqrt", "rsqrt"), 10.0),
    **dict.fromkeys(("erf", "erf_inv", "erfc", "random_bits", "threefry2x32"), 40.0),
    **dict.fromkeys(("lgamma", "digamma"), 100.0),
    **dict.fromkeys(("polygamma", "igamma", "random_gamma", "regularized_incomplete_beta"), 600.0),
    "random_gamma_grad": 15000.0,
    **dict.fromkeys(("bessel_i0e", "bessel_i1e", "random_gamma_p"), 40.0),
    **dict.fromkeys(("reshape", "squeeze", "broadcast_in_dim", "stop_gradient", "copy", "random_wrap"), 0.0),
}
"""Operations for one element of the result, if not one: as measured on a processor, the exponential being 10."""
TURNS = 3.0
"""Turns that a loop of unknown length is counted with."""


def operations(program: ClosedJaxpr | Jaxpr) -> float:
    """Elementary operations of a program: additions count one for each element, transcendental functions more.

    What no result depends on does not count, since a compiler leaves it out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> operations(jax.make_jaxpr(lambda x: x + jnp.exp(x))(jnp.ones(3)))
        33.0
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    needed = {id(var) for var in jaxpr.outvars}
    count = 0.0
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(id(var) in needed for var in eqn.outvars):
            needed.update(id(var) for var in eqn.invars)
            count += _of(eqn)
    return count


def _of(eqn: Any) -> float:
    name, params = eqn.primitive.name, eqn.params
    if name == "cond":
        return max(operations(branch) for branch in params["branches"])
    if name == "while":
        return TURNS * (operations(params["body_jaxpr"]) + operations(params["cond_jaxpr"]))
    if name == "pure_callback":
        return 1e4 * _elements(eqn.outvars)
    inner = [p for p in params.values() if isinstance(p, (ClosedJaxpr, Jaxpr))]
    if inner and name not in COSTLY:
        return params.get("length", 1) * sum(operations(part) for part in inner)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2.0 * _elements(eqn.outvars) * float(np.prod([shape[axis] for axis in contracted], dtype=float))
    if name.startswith(("reduce_", "cum", "arg", "scatter", "sort")):
        return _elements(eqn.invars)
    return COSTLY.get(name, 1.0) * _elements(eqn.outvars)


def _elements(variables: Any) -> float:
    return float(sum(np.prod(getattr(v.aval, "shape", ()), dtype=float) for v in variables))
