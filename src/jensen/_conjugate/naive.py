"""The textbook approach made safe: write the bound in closed form, differentiate it, climb it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import biject_to

from jensen._base.errors import ModelError, OptionError, nearest
from jensen._conjugate.algebra import ConjugateTarget, conjugate_target
from jensen._conjugate.coordinate.ascent import Ascent
from jensen._conjugate.coordinate.climb import climb
from jensen._conjugate.coordinate.fit import ConjugateFit, finished
from jensen._conjugate.coordinate.solution import Solution
from jensen._core import AbstractAlgorithm, Certificate, Outcome, Progress, driven, relayed
from jensen._core.algorithm import Run
from jensen._math.precision import Precision, working
from jensen._program.indices import checked


@dataclass(frozen=True)
class NaiveFit:
    """What maximising a closed-form bound leaves behind.

    Attributes:
        params: the maximiser on the parameters' own supports; empty where there is no maximum.
        elbo: the maximum in nats; NaN where there is none.
        history: the bound after every step, never falling.
        converged, status: whether a maximum was found, and a sentence.
    """

    params: dict[str, np.ndarray]
    elbo: float
    history: np.ndarray
    converged: bool
    status: str


class Naive(AbstractAlgorithm):
    """Gradient ascent λ ← λ + ρ ∇L(λ) on a bound L known in closed form, with a line search (Armijo 1966).

    The search works on unconstrained coordinates of the parameters' supports, raises L at every step, and says so when
    L has no maximum: L = x λ² + log λ has one only for x < 0, at λ = (-2x)**-½.

    Attributes:
        max_steps: at most this many steps.
        tolerance: stop when five steps in a row gain less than this many nats.
        init: starting values of some latents of a NumPyro model, on their own supports.

    Example:
        >>> import jax.numpy as jnp
        >>> from numpyro.distributions import constraints
        >>> bound = lambda params, x: x * params["lam"] ** 2 + jnp.log(params["lam"])
        >>> supports = {"lam": constraints.positive}
        >>> fit = Naive().maximise(bound, {"lam": 2.0}, data={"x": -2.0}, supports=supports)
        >>> round(float(fit.params["lam"]), 6), round(fit.elbo, 4)
        (0.5, -1.1931)
        >>> Naive().maximise(bound, {"lam": 2.0}, data={"x": 1.0}, supports=supports).elbo
        nan
    """

    name: ClassVar[str] = "naive"
    max_steps: int = 5000
    tolerance: float = 1e-10
    init: Mapping[str, Any] | None = None

    def __check_init__(self) -> None:
        if self.max_steps < 1 or not self.tolerance > 0:
            raise OptionError("max_steps and tolerance must be positive.")

    def maximise(
        self,
        bound: Callable[..., Any],
        start: Mapping[str, Any],
        *,
        data: Mapping[str, Any] | None = None,
        supports: Mapping[str, Any] | None = None,
        precision: Precision = "double",
    ) -> NaiveFit:
        """Maximise `bound(params, **data)` from `start`; `supports` maps parameters to NumPyro constraints.

        Parameters without a support are real. A start outside its support, or at which the bound is not finite, is an
        error that names the parameter.
        """
        supports = dict(supports or {})
        for name in supports:
            if name not in start:
                raise OptionError(f"supports names '{name}', which start lacks.", remedy=nearest(name, start))
        with working(precision):
            values = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in start.items()}
            for name, support in supports.items():
                if not bool(jnp.all(support(values[name]))):
                    raise OptionError(
                        f"start gives '{name}' = {np.asarray(values[name])}, outside {support}.",
                        remedy="Start inside the support.",
                    )
            maps = {name: biject_to(support) for name, support in supports.items()}
            free = {name: maps[name].inv(v) if name in maps else v for name, v in values.items()}
            flat, unravel = ravel_pytree(free)

            def params(point: Any) -> dict[str, Any]:
                return {name: maps[name](u) if name in maps else u for name, u in unravel(point).items()}

            steps = climb(lambda u: bound(params(u), **(data or {})), flat, self.max_steps, self.tolerance)
            history, found = driven(relayed(steps, lambda at: at[1]))
            _check_start(history[0], "Start elsewhere, or look for a logarithm of a negative number in it.")
            values = np.array(history)
            if found.unbounded:
                return NaiveFit({}, float("nan"), values, False, found.status)
            best = {name: np.asarray(v) for name, v in params(jnp.asarray(found.point)).items()}
            return NaiveFit(best, found.value, values, found.converged, found.status)

    def fit_conjugate(
        self,
        model: Callable[..., Any],
        data: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        init: Mapping[str, Any] | None = None,
        precision: Precision = "double",
    ) -> ConjugateFit:
        """Climb the exact bound of a conjugate NumPyro model in the natural parameters of all blocks at once.

        The start is the q after one sweep of coordinate ascent; the line search keeps every factor inside its domain.
        Coordinate ascent itself reaches the same stationary points in far fewer steps.
        """
        with working(precision):
            return finished(self.run(self.prepare(model, checked(model, data, precision), precision), seed, init=init))

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> ConjugateTarget:
        """The expected log joint with its blocks."""
        return conjugate_target(model, data, precision=precision)

    def run(self, target: ConjugateTarget, seed: int, init: Mapping[str, Any] | None = None) -> Run:
        """Climb from the q after one sweep of coordinate ascent, yielding the bound after every step."""
        model, init = target.model, self.init if init is None else init
        ascent, rng = Ascent(model, first=tuple(init or ())), np.random.default_rng(seed)
        state = ascent.given(rng, init) if init else ascent.starts(rng, 1, 1)[0]
        flat, unravel = ravel_pytree(state.naturals)

        def bound(point: Any) -> Any:
            q = model.product(unravel(point))
            moments = {name: factor.mean_params() for name, factor in q.factors.items()}
            inside = jnp.all(jnp.stack([jnp.all(factor.contains()) for factor in q.factors.values()]))
            return jnp.where(inside, model.expected_log_joint(moments) + q.entropy(), -jnp.inf)

        steps = climb(bound, flat, self.max_steps, self.tolerance)
        number = count()

        def told(at: tuple[np.ndarray, float]) -> Progress:
            (point, value), step = at, next(number)
            if step == 0:
                _check_start(value, "Rescale the data, or give other starting values.")
            return Progress("ascent", step, value, Solution(unravel(jnp.asarray(point)), {}, target))

        found = yield from relayed(steps, told)
        elbo = float("nan") if found.unbounded else found.value
        q = Solution(unravel(jnp.asarray(found.point)), {}, target)
        return Outcome(q, found.converged, found.status, Certificate(elbo=elbo))


def _check_start(value: float, remedy: str) -> None:
    if not np.isfinite(value):
        raise ModelError(f"At the start the bound is {value}.", remedy=remedy)
