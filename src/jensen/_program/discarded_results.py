"""Statements of a model whose result is thrown away although they look as if they changed an array.

A NumPy array sorts itself, `y.sort()`; an array of JAX returns another, and so does `y.at[i].set(v)`. A program that
leaves the result alone goes on with the array as it was.
"""

import re
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jensen._base.errors import ModelError
from jensen._program.same_program import user_line

STATEMENT = re.compile(r"[\w.\[\]'\"]+(\.sort\(|\.at\[.*\]\.\w+\()")
"""A line that consists of such a call."""


def refuse_discarded(jaxpr: Any) -> None:
    """Raise a `ModelError` at the user's line where a program throws such a result away."""
    for line in _unused(jaxpr):
        code = line.partition(": ")[2]
        found = STATEMENT.match(code)
        if found:
            what = code.partition(found[1])[0]
            remedy = f"{what} = jnp.sort({what})" if found[1] == ".sort(" else f"{what} = {code}"
            raise ModelError(
                f"The model changes an array and leaves the result alone: {what} stays as it was.",
                f"At {line}.",
                f"JAX arrays are never changed in place: write {remedy}.",
            )


def _unused(jaxpr: Any) -> Iterator[str]:
    used = {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal)}
    used.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
    for eqn in jaxpr.eqns:
        if not any(v in used for v in eqn.outvars):
            yield user_line(eqn)
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                    yield from _unused(getattr(inner, "jaxpr", inner))
