"""One width of integers and of floats inside a program, whatever narrower types it writes down itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro import handlers
from numpyro.contrib.control_flow.scan import scan_wrapper
from numpyro.primitives import Messenger

from jensen._program.argument_checks import ConcreteChecks
from jensen._program.hidden_loops import OneTrace

_PLAIN = (bool, int, float, np.ndarray)


class OneWidth(Messenger):
    """Runs a program with the states of its scans and the counts of its distributions in the width at work.

    A program written for JAX's default types starts a scan from `jnp.ones(n, dtype=jnp.int32)`, say; in double
    precision its states are 64-bit, and a scan refuses states that differ from its start in width alone. Values stay
    what they are: narrower types become wider ones, never the reverse. Enter it inside all other handlers.
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        """Widen the start of a scan, what its steps carry on, and the parameters of a distribution.

        Observed values that the program writes down itself become JAX's where the support is traced: NumPyro compares
        the two in NumPy otherwise.
        """
        if msg["type"] == "control_flow" and msg["fn"] is scan_wrapper:
            body, init, *rest = msg["args"]
            msg["args"] = (_same_types(body), jax.tree.map(widened, init), *rest)
        elif msg["type"] == "sample":
            leaves = jax.tree.leaves(msg["fn"])
            if any(_narrow(leaf) for leaf in leaves):
                msg["fn"] = jax.tree.map(_whole, msg["fn"])
            if isinstance(msg["value"], _PLAIN) and _moves(msg["fn"]):
                msg["value"] = jnp.asarray(msg["value"])


def _moves(fn: Any) -> bool:
    """Whether the support of a distribution is traced; elsewhere data stay the arrays that they are known by."""
    try:
        return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(fn.support))
    except NotImplementedError:
        return False


def seeded(fn: Callable[..., Any], key: Any = 0) -> Callable[..., Any]:
    """The program with a key, in one width of numbers; the fixed one is for programs that only rearrange data."""
    return handlers.seed(watched(fn), rng_seed=key)


def watched(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The program in one width of numbers, its sites outside JAX's own loops."""
    return ConcreteChecks(OneTrace(OneWidth(fn)))


def _same_types(body: Callable[..., Any]) -> Callable[..., Any]:
    def step(carry: Any, x: Any) -> Any:
        with OneTrace(), OneWidth():
            after, y = body(carry, x)
        if jax.tree.structure(after) != jax.tree.structure(carry):
            return after, y  # which the scan refuses in its own words
        return jax.tree.map(_like, after, carry), y

    return step


def _like(value: Any, other: Any) -> Any:
    """The value in the type of another where they differ in width alone."""
    own, wanted = jnp.result_type(value), jnp.result_type(other)
    wider = own != wanted and _kind(own) == _kind(wanted) != "" and wanted.itemsize >= own.itemsize
    return jnp.asarray(value, wanted) if wider else value


def widened(value: Any) -> Any:
    """An array of integers or floats in the width at work; 32-bit unsigned ones may be random keys and stay."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not _kind(dtype) or dtype == np.uint32:
        return value
    wide = jnp.result_type(float if _kind(dtype) == "float" else int)
    if wide.itemsize <= dtype.itemsize:
        return value
    return jnp.asarray(value, wide) if isinstance(value, Tracer) else np.asarray(value).astype(wide)


def _whole(leaf: Any) -> Any:
    return widened(leaf) if _narrow(leaf) else leaf


def _narrow(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and _kind(dtype) == "int" and dtype.itemsize < jnp.result_type(int).itemsize


def _kind(dtype: Any) -> str:
    if jnp.issubdtype(dtype, jnp.integer):
        return "int"
    return "float" if jnp.issubdtype(dtype, jnp.floating) else ""
