"""One caller at a time: what jensen shares with everything else in the process, and how it is left behind.

NumPyro keeps its effect handlers on one stack for all threads, and JAX does not survive a `fork`.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpyro.primitives import _PYRO_STACK

from jensen._errors import JensenError

T = TypeVar("T")
_LOCK = threading.RLock()
_FORKED = False
"""Whether this process was forked from one in which JAX was running."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Everything that runs a user's program: other threads wait, and NumPyro's stack of handlers is left as it was.

    NumPy's floating-point errors are off inside, whatever `np.seterr` says: what is not finite is looked at, not
    raised. May be entered again by the thread that is inside; works as a decorator, too. Raises in a child that was
    forked after JAX had started threads: they are missing there, and it waits for them.
    """
    check_process()
    with _LOCK:
        before = list(_PYRO_STACK)
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            _PYRO_STACK[:] = before  # an interruption can come between a handler's entry and its exit


class Kept(Generic[T]):
    """A property computed alone and once; like `functools.cached_property`, whose own lock could be waited for."""

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


def _running() -> bool:
    """Whether JAX has started a backend, which it does at the first array."""
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _after_fork() -> None:
    global _LOCK, _FORKED
    _LOCK = threading.RLock()  # another thread of the parent may have held it
    _FORKED = _FORKED or _running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
