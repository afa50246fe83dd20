"""NumPyro's checks of what distributions are made of, where there is something to check."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import is_dependent
from numpyro.primitives import Messenger


class ConcreteChecks(Messenger):
    """Runs a program whose distributions check the arguments that are known, and no traced ones.

    Of a traced argument NumPyro learns nothing, but evaluates the constants of its check, each by a program of its own:
    that a matrix is positive definite takes twenty of them. Until the program has run, `Distribution.validate_args` is
    another function that checks the same.
    """

    def __init__(self, fn: Callable[..., Any] | None = None):
        self._before: Any = None
        super().__init__(fn)

    def __enter__(self) -> Any:
        self._before = Distribution.validate_args
        Distribution.validate_args = _validate_known
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        Distribution.validate_args = self._before
        super().__exit__(*raised)


def _validate_known(self: Distribution, strict: bool = True) -> None:
    for name, value in self.get_args().items():
        constraint = self.arg_constraints[name]
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
        if is_dependent(constraint) or (traced and not strict):
            continue
        with jax.ensure_compile_time_eval():
            valid = constraint(value)
        if isinstance(valid, Tracer):
            if strict:
                raise RuntimeError("Cannot validate arguments inside jitted code.")
        elif not np.all(valid):
            raise ValueError(f"{type(self).__name__} distribution got invalid {name} parameter.")
