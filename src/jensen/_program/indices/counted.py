"""Negative Python numbers of the data as indices: JAX counts them from the end while it traces, and nothing is left.

`t[-1]` is the last entry where a program says so, and a slice of the traced program; `t[g]` with g = -1 among the data
is the same slice. The program is traced again with every such number one less: an index moves with it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jensen._base.errors import DataError
from jensen._data.columns import first
from jensen._program.folding import called
from jensen._program.indices.judge import line_of
from jensen._program.indices.known import MISSING

MEANT: tuple[Callable[[Any], Any], ...] = (lambda value: value < 0, lambda value: value == 0)
"""Numbers that are tried: negative ones, and those of which a program makes -1 by counting from 1."""


def refuse_counted(
    closed: ClosedJaxpr, plain: Mapping[str, Any], trace: Callable[[dict[str, Any]], ClosedJaxpr], inputs: list[Any]
) -> None:
    """Raise a `DataError` where a number of `plain`, the data that a program takes as they are, counts from the end.

    `trace` gives the program at other values of these data, and `inputs` are its arguments: a lookup that a mask or
    `where` leaves out changes nothing and is legal.
    """
    for name, value in plain.items():
        for meant in MEANT:
            where = meant(value) if _whole(value) else np.zeros(0, bool)
            if not np.any(where):
                continue
            try:
                other = trace({**plain, name: _lower(value, where)})
            except Exception:  # another number may mean another program
                continue
            line = next(_moved(closed.jaxpr, other.jaxpr), None)
            if line is not None and _differ(closed, other, inputs):
                raise DataError(
                    f"'{name}' gives a negative index, which JAX counts from the end.",
                    f"{first(name, where) if np.ndim(where) else f'Data key: {name!r}.'} {line}",
                    MISSING,
                )


def _whole(value: Any) -> bool:
    return type(value) is int or (isinstance(value, np.ndarray) and value.dtype.kind == "i")


def _lower(value: Any, where: Any) -> Any:
    """The same with these whole numbers one less."""
    return value - 1 if type(value) is int else np.where(where, value - 1, value).view(type(value))


def _moved(before: Any, after: Any) -> Iterator[str]:
    """The lines of slices that begin one entry earlier in the second of two programs."""
    for one, two in zip(before.eqns, after.eqns, strict=False):
        if one.primitive is not two.primitive:
            return
        inner = called(one), called(two)
        if inner[0] is not None and inner[1] is not None:
            yield from _moved(inner[0][0], inner[1][0])
        elif one.primitive.name == "slice":
            starts = [np.array(eqn.params["start_indices"]) for eqn in (one, two)]
            sizes = [
                np.array(eqn.params["limit_indices"]) - start for eqn, start in zip((one, two), starts, strict=True)
            ]
            same = starts[0].shape == starts[1].shape and (sizes[0] == sizes[1]).all()
            if same and (starts[0] - starts[1] == 1).any():
                yield line_of(one)


def _differ(before: ClosedJaxpr, after: ClosedJaxpr, inputs: list[Any]) -> bool:
    outputs = [jax.device_get(jax.jit(jaxpr_as_fun(closed))(*inputs)) for closed in (before, after)]
    return not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*outputs, strict=True))
