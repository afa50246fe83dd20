"""One caller at a time: what jensen shares with everything else in the process, and how it is left behind.

NumPyro keeps its effect handlers on one stack for all threads, and JAX does not survive a `fork`.
"""

import contextlib
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, overload

import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax import core
from numpyro.primitives import _PYRO_STACK
from threadpoolctl import ThreadpoolController

from jensen._base.errors import JensenError

opaque_trace_state: Any = getattr(jax.extend.core, "get_opaque_trace_state", None) or core.get_opaque_trace_state
"""What JAX is tracing at the moment, to be compared; JAX 0.12 has moved it."""

T = TypeVar("T")
_LOCK = threading.RLock()
_INSIDE = 0
"""How often the thread that holds the lock has entered."""
_TOP = opaque_trace_state()
"""JAX's state outside of all its transformations."""
RARER = 10
"""How many times rarer Python goes through all its objects inside. JAX's programs are hundreds of thousands of them: to
read them all, for what cannot be reached, took a fifteenth of the time of short fits."""
_FORKED = False
"""Whether this process was forked from one in which JAX was running."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Everything that runs a user's program: other threads wait, and NumPyro's stack of handlers is left as it was.

    Handlers that the caller is inside of are not those of the program: they see nothing of it.

    NumPy's floating-point errors are off inside, whatever `np.seterr` says: what is not finite is looked at, not
    raised. BLAS and LAPACK have one thread inside: several of them wait for each other over one matrix of a few hundred
    rows, on a machine that has other work a thousand times as long as the factor takes.

    May be entered again by the thread that is inside; works as a decorator, too. Raises in a child that was forked
    after JAX had started threads: they are missing there, and it waits for them.
    """
    global _INSIDE
    check_process()
    with _LOCK:
        before = list(_PYRO_STACK)
        if not _INSIDE:
            _check_eager()
            _PYRO_STACK.clear()
        _INSIDE += 1
        thresholds = gc.get_threshold()
        if _INSIDE == 1:
            gc.set_threshold(*thresholds[:2], RARER * thresholds[2])
        try:
            with np.errstate(all="ignore"), _one_thread() if _INSIDE == 1 else contextlib.nullcontext():
                yield
        finally:
            _INSIDE -= 1
            if not _INSIDE:
                gc.set_threshold(*thresholds)
            _PYRO_STACK[:] = before  # an interruption can come between a handler's entry and its exit


@functools.cache
def _libraries() -> ThreadpoolController:
    """NumPy's and SciPy's, which JAX calls too; all are loaded by now."""
    return ThreadpoolController()


def _one_thread() -> Any:
    return _libraries().limit(limits=1, user_api="blas")


class Kept(Generic[T]):
    """A property computed alone and once; like `functools.cached_property`, whose own lock could be waited for."""

    fn: Callable[..., Any]

    def __init__(self, fn: Callable[[Any], T]):
        self.fn, self.__doc__ = fn, fn.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Kept[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        with alone():
            if self.name not in vars(instance):
                vars(instance)[self.name] = self.fn(instance)
            return vars(instance)[self.name]


def check_process() -> None:
    """Raise in a process in which JAX cannot run."""
    if _FORKED:
        raise JensenError(
            "This process was forked from one in which JAX was running, and JAX would stand still here.",
            f"Process {os.getpid()}.",
            "Start workers afresh: multiprocessing.get_context('spawn'), or joblib's default 'loky'.",
        )


def _check_eager() -> None:
    """Raise where JAX compiles the caller: numbers are needed here, which it has not yet."""
    if opaque_trace_state() != _TOP and isinstance(jnp.asarray(0.0) + 0.0, core.Tracer):
        raise JensenError(
            "jensen was called inside a function that JAX compiles, where arrays have no values yet.",
            "A jax.jit, jax.lax.scan, jax.eval_shape or the like around the call.",
            "Call it outside, and pass what it gives as an argument.",
        )


def _running() -> bool:
    """Whether JAX has started a backend, which it does at the first array."""
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _after_fork() -> None:
    global _LOCK, _FORKED, _INSIDE
    _LOCK, _INSIDE = threading.RLock(), 0  # another thread of the parent may have held it
    _FORKED = _FORKED or _running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
