"""A program run on fewer rows than its plates say, each row counted once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from numpyro.primitives import Messenger


class _Resize(Messenger):
    """Every plate of `size` rows becomes one of `rows` rows, without the factor that a subsample would get."""

    def __init__(self, fn: Callable[..., Any], size: int, rows: int):
        self.size, self.rows = size, rows
        self.names: set[str] = set()
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate" and msg["args"][0] == self.size:
            self.names.add(msg["name"])
            msg["value"] = jnp.arange(self.rows)
        count = sum(frame.name in self.names for frame in msg.get("cond_indep_stack", ()))
        if msg["type"] == "sample" and count and msg["scale"] is not None:
            scale = msg["scale"] / (self.size / self.rows) ** count
            msg["scale"] = None if isinstance(scale, float) and abs(scale - 1.0) < 1e-12 else scale


def _run(fn: Callable[..., Any], size: int, rows: int, /, **arguments: Any) -> Any:
    return _Resize(fn, size, rows)(**arguments)


def resized(fn: Callable[..., Any], size: int, rows: int) -> Callable[..., Any]:
    """`fn` with its plates of `size` rows cut to `rows`: for data of which as many rows were taken."""
    return partial(_run, fn, size, rows)
