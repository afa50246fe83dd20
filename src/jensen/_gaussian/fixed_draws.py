"""Mean-field ADVI as a deterministic optimisation: fixed draws, Newton steps, a certificate and linear response."""

from collections.abc import Generator
from dataclasses import dataclass

import jax
import numpy as np

from jensen._base.typing import leaf
from jensen._bounds import ELBO
from jensen._core import AbstractBound, AbstractModel, Progress
from jensen._estimators import FixedDraws
from jensen._families import FullRank, MeanField
from jensen._math import linalg
from jensen._math.curvature import AbstractCurvature, Dense, MatrixFree
from jensen._math.noise import symmetric_draws
from jensen._math.precision import float_type, working
from jensen._math.trust_region import Newton, advance
from jensen._model import Target
from jensen._model.views import Affine, Unconstrained

DENSE = 800
"""Most variational parameters (2D) for which the Hessian is formed."""

RUNAWAY = 30.0
"""Log ratio of a standard deviation to its start beyond which the objective has no maximum."""


@dataclass(frozen=True)
class FixedDrawsFit:
    """A maximum of the fixed-draws ELBO in coordinates scaled by the starting q.

    Attributes:
        q: the mean-field optimum on the unconstrained space.
        bound: the fixed-draws ELBO there, in nats. decrement: gᵀ(-H)⁻¹g in nats.
        step_in_sd: largest coordinate of the remaining Newton step of the means, in q's standard deviations.
        covariance: (D, D) linear-response covariance, or None where -H is not positive definite.
        converged: whether both certificates are met.
    """

    q: MeanField
    bound: float
    decrement: float
    step_in_sd: float
    covariance: np.ndarray | None
    converged: bool


def _objective(bound: AbstractBound, estimator: FixedDraws, model: AbstractModel, flat: jax.Array) -> jax.Array:
    dim = flat.shape[0] // 2
    return estimator(bound, model, MeanField(flat[:dim], flat[dim:]), None, None)


_value_and_grad = jax.jit(jax.value_and_grad(_objective, argnums=3))


@jax.jit
def _hessian_vectors(
    bound: AbstractBound, estimator: FixedDraws, model: AbstractModel, flat: jax.Array, directions: jax.Array
) -> jax.Array:
    gradient = jax.grad(lambda point: _objective(bound, estimator, model, point))
    return jax.vmap(lambda v: jax.jvp(gradient, (flat,), (v,))[1])(directions)


class FixedDrawsProblem:
    """The objective L̂(m, log s | Z) for one set of draws, on the host, in coordinates (m - m₀)/s₀, log s - log s₀."""

    def __init__(self, target: Target, start: MeanField, num_draws: int, seed: int):
        self.target, self.dim = target, target.dim
        dtype = float_type(target.precision)
        self.shift, self.scale = np.asarray(start.loc, dtype), start.scales().astype(dtype)
        noise = symmetric_draws(num_draws, target.dim, seed, dtype=dtype)
        view = Unconstrained(model=target.model, bijection=Affine(leaf(self.shift), leaf(self.scale)))
        self.arguments = (ELBO(), FixedDraws(noise=leaf(noise)), view)
        self.num_draws, self.dtype = num_draws, dtype

    def value_and_grad(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """The bound in nats and its gradient (2D,)."""
        self.target.gradients += self.num_draws
        with working(self.target.precision):
            value, gradient = jax.device_get(_value_and_grad(*self.arguments, flat.astype(self.dtype)))
        return float(value), np.asarray(gradient, float)

    def curvature(self, flat: np.ndarray) -> AbstractCurvature:
        """Minus the Hessian: a matrix up to `DENSE` parameters, products with vectors beyond."""
        if len(flat) > DENSE:
            return MatrixFree(lambda direction: self._products(flat, direction[None])[0])
        return Dense(linalg.symmetrise(self._products(flat, np.eye(len(flat)))))

    def _products(self, flat: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Minus the Hessian times each row."""
        rows = len(directions)
        block = 1 if rows == 1 or self.target.heavy else 16
        self.target.gradients += 2 * self.num_draws * rows
        directions = np.concatenate([directions, np.zeros((-rows % block, len(flat)))]).astype(self.dtype)
        with working(self.target.precision):
            point = flat.astype(self.dtype)
            parts = [
                _hessian_vectors(*self.arguments, point, directions[i : i + block])
                for i in range(0, len(directions), block)
            ]
            return -np.concatenate(jax.device_get(parts))[:rows].astype(float)

    def family(self, flat: np.ndarray) -> MeanField:
        """q on the unconstrained space."""
        flat = np.asarray(flat, float)
        loc = self.shift + self.scale * flat[: self.dim]
        return MeanField(leaf(loc), leaf(np.log(self.scale) + flat[self.dim :]))

    def coordinates(self, q: MeanField) -> np.ndarray:
        """The flat point of q."""
        loc = (np.asarray(q.loc, float) - self.shift) / self.scale
        return np.concatenate([loc, np.asarray(q.log_scale, float) - np.log(self.scale)])


def maximise(
    target: Target, start: MeanField, num_draws: int, seed: int, *, max_steps: int = 60, phase: str = "mean field"
) -> Generator[Progress, None, FixedDrawsFit]:
    """Trust-region Newton on the fixed-draws ELBO until the decrement is below 10⁻⁶ nats and the step below 10⁻⁴ sd."""
    problem = FixedDrawsProblem(target, start, num_draws, seed)
    flat = problem.coordinates(start)
    value, gradient = problem.value_and_grad(flat)
    state = Newton(flat, value, gradient, problem.curvature(flat), radius=np.sqrt(target.dim))
    step, decrement, in_sd = 0, np.inf, np.inf
    for step in range(max_steps):
        newton = state.step()
        decrement = float(state.gradient @ newton) if np.isfinite(newton).all() else np.inf
        q = problem.family(state.point)
        in_sd = float(np.abs(newton[: target.dim] * problem.scale / q.scales()).max())
        yield Progress(phase, step, state.value, q)
        if decrement < 1e-6 and in_sd < 1e-4:
            break
        if state.rejected > 12:
            break
        ahead = advance(state, problem.value_and_grad, problem.curvature)
        if np.abs(ahead.point[target.dim :]).max() > RUNAWAY:
            decrement = in_sd = np.inf  # a variance grows or vanishes without end: the last sane q is the answer
            break
        state = ahead
    point, value = state.point, state.value
    converged = bool(decrement < 1e-4 and in_sd < 1e-2)
    if converged:  # take the step that was certified: on a quadratic it leads to the exact optimum
        last = point + state.step()
        higher, _ = problem.value_and_grad(last)
        if higher >= value - 1e-12 * (1.0 + abs(value)):
            point, value = last, higher
    q = problem.family(point)
    return FixedDrawsFit(q, value, decrement, in_sd, linear_response(problem, state.curvature), converged)


def linear_response(problem: FixedDrawsProblem, curvature: AbstractCurvature) -> np.ndarray | None:
    """Σ_LR = (∂m/∂η)ᵀ (-H)⁻¹ (∂m/∂η): for a mean-field Gaussian the block of (-H)⁻¹ that belongs to the means.

    It answers how the optimal means move when the log density is tilted by tᵀu, which for exact posteriors is the
    covariance. Giordano, Broderick and Jordan (2018), equation 11. None where the optimum is not a strict one,
    or too large for a matrix.
    """
    if not isinstance(curvature, Dense) or not linalg.is_positive_definite(curvature.matrix):
        return None
    factor = linalg.inverse_factor(curvature.matrix)
    block = (factor @ factor.T)[: problem.dim, : problem.dim]
    return block * np.outer(problem.scale, problem.scale).astype(float)


def standard_start(q: FullRank) -> MeanField:
    """The mean-field optimum for a Gaussian: its means, and the inverse roots of the precision's diagonal."""
    inverse = linalg.inverse_triangular(q.factor())
    precision = (inverse**2).sum(axis=0)
    return MeanField(leaf(np.asarray(q.loc, float)), leaf(-0.5 * np.log(precision)))
