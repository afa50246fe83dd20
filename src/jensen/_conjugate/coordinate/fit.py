"""What the coordinate methods return."""

import functools
from dataclasses import dataclass

import jax
import numpy as np

from jensen._conjugate.algebra import ConjugateModel
from jensen._conjugate.algebra.partial import PartialModel
from jensen._conjugate.coordinate.hybrid import HybridSolution
from jensen._conjugate.coordinate.solution import Solution
from jensen._core import Outcome, driven, relayed
from jensen._core.algorithm import Run
from jensen._families.exponential import Product
from jensen._math.precision import Precision, working


@dataclass(frozen=True)
class ConjugateFit:
    """What coordinate ascent leaves behind.

    Attributes:
        solution: q as the ascent left it; `q` writes it out as a product of factors over the latents' own supports,
            discrete latents included.
        elbo: E_q[log p(x, z)] + H[q], exact, in nats; at most log p(x).
        history: the bound after every sweep (or epoch) of the run that was kept.
        converged, status: whether the stopping rule was met, and a sentence.
        saddle: whether the ascent had stopped at a stationary point that is not a maximum.
        restarts: the bound that each start had reached after its first sweeps, best first.
    """

    solution: Solution | HybridSolution
    elbo: float
    history: np.ndarray
    converged: bool
    status: str
    saddle: bool
    restarts: tuple[float, ...]

    @functools.cached_property
    def q(self) -> Product:
        """The whole approximation."""
        return self.solution.product()

    @property
    def model(self) -> ConjugateModel | PartialModel:
        """The analysed model."""
        return self.solution.target.model

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.solution.precision

    def means(self) -> dict[str, np.ndarray]:
        """E[z] by site, on the latents' own supports."""
        with working(self.precision):
            return jax.device_get(self.q.means())

    def variances(self) -> dict[str, np.ndarray]:
        """Var[z] elementwise by site; NaN where it does not exist."""
        with working(self.precision):
            return jax.device_get(self.q.variances())

    def sample(self, count: int, seed: int = 0) -> dict[str, np.ndarray]:
        """`count` draws: site -> array (count, ...), discrete latents included."""
        with working(self.precision):
            keys = jax.random.split(jax.random.key(seed), count)
            return jax.device_get(jax.jit(jax.vmap(self.q.sample))(keys))


def finished(run: Run) -> ConjugateFit:
    """Drive a run of a coordinate method to its end."""
    outcome: Outcome
    bounds, outcome = driven(relayed(run, lambda item: item.bound if item.phase == "ascent" else None))
    history = [bound for bound in bounds if bound is not None]
    return ConjugateFit(
        outcome.q,
        outcome.certificate["elbo"],
        np.asarray(history),
        outcome.converged,
        outcome.status,
        outcome.certificate.saddle,
        outcome.restarts,
    )
