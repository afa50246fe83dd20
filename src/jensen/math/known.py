"""A function of two arguments, with everything that depends on the first alone computed once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jensen._typing import Array


def split(fn: Callable[..., Any], first: Sequence[Any], second: Array) -> tuple[Callable[..., Any], list[Array]]:
    """(g, known) with fn(*first, x) = g(known, x) for every x like `second`; `known` is what g needs of `first`.

    The function is traced once, here. Equations of its outermost program are told apart; what calls a program of its
    own with both arguments is left whole.
    """
    closed = jax.make_jaxpr(fn)(*first, second)
    jaxpr = closed.jaxpr
    moving = {jaxpr.invars[-1]}
    before, after = [], []
    for eqn in jaxpr.eqns:
        moves = any(v in moving for v in eqn.invars if not isinstance(v, Literal))
        (after if moves else before).append(eqn)
        if moves:
            moving.update(eqn.outvars)
    wanted = [v for eqn in after for v in eqn.invars] + list(jaxpr.outvars)
    needed = list(dict.fromkeys(v for v in wanted if not isinstance(v, Literal) and v not in moving))
    own = {v for eqn in after for v in eqn.outvars}
    needed = [v for v in needed if v not in own]
    names = jaxpr.debug_info.with_unknown_names()
    head = jaxpr.replace(eqns=before, outvars=needed, debug_info=names)
    tail = jaxpr.replace(
        eqns=after, constvars=[], invars=[*needed, jaxpr.invars[-1]], outvars=jaxpr.outvars, debug_info=names
    )
    known = jaxpr_as_fun(ClosedJaxpr(head, closed.consts))(*first, second)
    run = jax.jit(jaxpr_as_fun(ClosedJaxpr(tail, [])))
    return lambda known, x: run(*known, x)[0], known
