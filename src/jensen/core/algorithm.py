"""Contract 6, the algorithm: a host-side loop body that reports as it goes.

An algorithm is a generator: it yields a `Progress` after every piece of work and returns an `Outcome`. The one loop in
`jensen.fit` drives it, so that progress display, interruption and timing are the same for every method, and phases
compose by `yield from`.
"""

import abc
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import equinox as eqx
import numpy as np

from jensen.core.family import AbstractDensity


@dataclass(frozen=True)
class Progress:
    """What a fit shows while it runs: the phase, its step, the bound (nats) and the best q so far."""

    phase: str
    step: int
    bound: float
    q: AbstractDensity | None = None
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an algorithm leaves behind.

    Attributes:
        q: the approximation on the unconstrained space.
        converged: whether the stopping rule was met.
        status: a sentence saying why it stopped.
        certificate: optimiser diagnostics by name, in posterior-sd units or nats.
        linear_response: (D, D) covariance of the unconstrained coordinates by linear response, where defined.
        restarts: bound or log density reached by each start, highest first.
        stages: one row per family tried: name, bound, its standard error, whether kept.
    """

    q: AbstractDensity
    converged: bool
    status: str
    certificate: dict[str, float] = field(default_factory=dict)
    linear_response: np.ndarray | None = None
    restarts: tuple[float, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()


Run: TypeAlias = Generator[Progress, None, Outcome]


class AbstractAlgorithm(eqx.Module):
    """A variational method with its options; a small frozen object."""

    name: eqx.AbstractClassVar[str]

    @abc.abstractmethod
    def run(self, target: Any, seed: int) -> Run:
        """Fit `target` (a `jensen.models.Target`), yielding progress and returning the outcome."""
