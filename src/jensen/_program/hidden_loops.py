"""Sites inside a loop or transformation of JAX's own, which no handler can follow."""

import itertools
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from numpyro.primitives import Messenger

from jensen._base.alone import opaque_trace_state
from jensen._base.errors import ModelError
from jensen._program.user_code import is_user_file

_LOOP = "Write the loop with numpyro.contrib.control_flow.scan, which tells its sites apart step by step"
_INDEPENDENT = "Put the sites into a numpyro.plate, or write a loop with numpyro.contrib.control_flow.scan"
_NAMES = {
    **dict.fromkeys(("scan", "fori_loop", "while_loop", "associative_scan"), _LOOP),
    **dict.fromkeys(("map", "vmap_f", "pmap"), _INDEPENDENT),
    **dict.fromkeys(("cond", "switch"), "Sample before it, and choose with jnp.where"),
}
_OTHER = (
    "Leave it out around sites, as jensen compiles the model itself; loops over sites are written with "
    "numpyro.contrib.control_flow.scan"
)
_JAX = str(Path(jax.__file__ or "").parent)


class OneTrace(Messenger):
    """Raises a `ModelError` at a site that is inside a JAX transformation which the program itself has begun.

    The values of such a site belong to that transformation: outside they are what JAX calls leaked tracers.
    """

    def __init__(self, fn: Callable[..., Any] | None = None):
        self._own: Any = None
        super().__init__(fn)

    def __enter__(self) -> Any:
        self._own = opaque_trace_state()
        return super().__enter__()

    def process_message(self, msg: dict[str, Any]) -> None:
        """Compare where the site is with where the program began."""
        if msg["type"] not in ("sample", "param", "deterministic"):
            return
        if opaque_trace_state() == self._own:
            return
        name, remedy, line = _around(sys._getframe())
        raise ModelError(
            f"The site '{msg['name']}' is inside {name}, where its values cannot be seen from outside.",
            f"At {line}." if line else f"Site '{msg['name']}'.",
            f"{remedy}.",
        )


def _around(frame: FrameType | None) -> tuple[str, str, str]:
    """(what the site is inside of, the remedy, the user's line), from the frames of the call."""
    frames = list(_callers(frame))
    users = [i for i, one in enumerate(frames) if is_user_file(one.f_code.co_filename)]
    line = _line(frames[users[0]]) if users else ""
    for first, last in itertools.pairwise(users):
        between = [one.f_code for one in frames[first + 1 : last] if one.f_code.co_filename.startswith(_JAX)]
        known = [code.co_name for code in between if code.co_name in _NAMES]
        if known:
            name = known[-1].removesuffix("_f")
            return f"jax.{'' if name in ('vmap', 'pmap') else 'lax.'}{name}", _NAMES[known[-1]], line
        if between:
            break
    return "a JAX transformation (jit, grad, checkpoint, ...)", _OTHER, line


def _line(frame: FrameType) -> str:
    file = frame.f_code.co_filename
    return f"{Path(file).name}, line {frame.f_lineno}: {linecache.getline(file, frame.f_lineno).strip()}"


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
