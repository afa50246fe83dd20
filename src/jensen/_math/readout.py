"""Values that are read off a pytree of arrays, outside of any compiled program or inside one."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
from jax.core import Tracer

from jensen._math.precision import stored_in
from jensen._math.programs import Program


def readout(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`fn` of a pytree of arrays; outside of a trace as one compiled program, in the precision of the arrays.

    Operation by operation, each would be compiled by itself (a Cholesky factor and what follows: fourteen programs), in
    single precision wherever the user's own flag says so.
    """
    program = Program(fn)

    @wraps(fn)
    def read(tree: Any) -> Any:
        leaves = jax.tree.leaves(tree)
        if not leaves or any(isinstance(leaf, Tracer) for leaf in leaves):
            return fn(tree)
        with stored_in(tree):
            return program(tree)

    return read
