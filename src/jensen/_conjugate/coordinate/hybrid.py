"""Coordinate ascent where some latents have no conjugate factor: exact updates for the others, a Gaussian for those."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import JensenError, ModelError
from jensen._conjugate.algebra import ConjugateModel, Moments, Naturals
from jensen._conjugate.algebra.partial import PartialModel
from jensen._conjugate.algebra.target import HybridTarget
from jensen._conjugate.coordinate.ascent import Ascent, accounted
from jensen._conjugate.coordinate.hybrid_solution import HybridSolution
from jensen._conjugate.coordinate.starts import random_start
from jensen._core import Certificate, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._families.exponential import Product, UnconstrainedNormal
from jensen._math.noise import symmetric_draws

DENSE = 200
"""Most unconstrained coordinates of the free latents: their covariance is dense."""
INNER = 3
"""Gaussian steps between two sweeps over the conjugate blocks."""
FRESH = 4096
"""Fresh draws behind the bound that is reported."""
OPTIMISM = 0.02
"""Nats by which the bound on fixed draws may lie above that on fresh ones, beyond its noise, before more are used."""


@dataclass(frozen=True)
class Point:
    """Where the ascent stands: the Gaussian N(m, F Fᵀ) over u, the conjugate blocks, the bound on the fixed draws."""

    mean: np.ndarray
    factor: np.ndarray
    moments: Moments
    naturals: Naturals
    bound: float


class HybridAscent:
    """One deterministic bound, raised block by block.

    With fixed symmetric draws ε_s and u_s = m + F ε_s, the bound is
    L = 1/S Σ_s {E_q[log p(x, z, T(u_s))] + log |T'(u_s)|} + log |F| + D/2 log 2πe + H[q(z)], z the conjugate latents.
    It is linear in the moments of each conjugate block, whose optimal factor is therefore its gradient, as without the
    Gaussian. The Gaussian takes natural-gradient steps on the same draws (Lin, Schmidt and Khan 2020, equation 9), the
    precision S of `natural_gaussian.ascend`, shortened until L rises.
    """

    def __init__(self, model: PartialModel, num_draws: int, seed: int):
        self.model, self.dim = model, model.dim
        self.noise = symmetric_draws(num_draws, self.dim, seed)
        self.layout = model.conjugate.layout
        self._averaged = jax.jit(model.averaged)
        self._values = jax.jit(self._values_program)
        self._entropies = jax.jit(
            lambda naturals: {n: model.conjugate.factor(n, naturals[n]).entropy() for n in naturals}
        )

    def _values_program(self, arrays: dict[str, Any], draws: Any, moments: Moments) -> Any:
        """(energies with log |T'|, log |T'|, gradients of the energies) at each draw."""
        lookup = self.model.conjugate._lookup(moments)

        def energy(flat: Any) -> tuple[Any, Any]:
            return self.model.energy(arrays, flat, lookup), self.model.constrain(flat)[1]

        (values, logs), gradients = jax.vmap(jax.value_and_grad(energy, has_aux=True))(draws)
        return values, logs, gradients

    def at(self, mean: np.ndarray, factor: np.ndarray, moments: Moments) -> tuple[Any, Any, Any]:
        """(values, log Jacobians, gradients) at the draws of this Gaussian, on the host."""
        draws = jnp.asarray(mean + self.noise @ factor.T)
        values, logs, gradients = jax.device_get(self._values(self.model.arrays, draws, moments))
        return np.asarray(values, float), np.asarray(logs, float), np.asarray(gradients, float)

    def entropy(self, point: Point) -> float:
        """H of the conjugate blocks, in nats."""
        return float(sum(self._entropies(point.naturals).values()))

    def gaussian_part(self, factor: np.ndarray) -> float:
        """H[u] in nats."""
        return float(np.linalg.slogdet(factor)[1]) + 0.5 * self.dim * np.log(2.0 * np.pi * np.e)

    def start(self, rng: np.random.Generator) -> Point:
        """Random moments, one sweep on draws near the origin, and the bound there."""
        mean, factor = 0.1 * rng.normal(size=self.dim), 0.1 * np.eye(self.dim)
        ascent = self._ascent(mean, factor)
        state = ascent.begin(random_start(ascent.model, rng, seeds=True))
        _, logs, _ = self.at(mean, factor, state.moments)
        bound = state.elbo + float(logs.mean()) + self.gaussian_part(factor)
        return Point(mean, factor, state.moments, state.naturals, bound)

    def _ascent(self, mean: np.ndarray, factor: np.ndarray) -> Ascent:
        draws = jnp.asarray(mean + self.noise @ factor.T)
        return Ascent(ConjugateModel(self._averaged(self.model.arrays, draws), self.layout))  # type: ignore[arg-type]

    def sweep(self, point: Point) -> Point:
        """Every conjugate block once, then the Gaussian; the bound is checked to rise at each."""
        return self.gaussian(self.conjugate(point))

    def conjugate(self, point: Point) -> Point:
        """Exact updates of the conjugate blocks on the draws, each accounted for in the bound."""
        ascent = self._ascent(point.mean, point.factor)
        _, logs, _ = self.at(point.mean, point.factor, point.moments)
        rest = float(logs.mean()) + self.gaussian_part(point.factor)
        entropies = self._entropies(point.naturals)
        moments, naturals, _, _, elbos, gains, inside = ascent._run(point.moments, point.naturals, entropies, 1)
        ascent.check_inside(inside, naturals)
        bound = ascent.finite(float(elbos[0])) + rest
        slack = 1e3 * ascent.noise(abs(bound) + abs(point.bound))
        if not accounted(bound - point.bound, gains[0], slack):
            raise JensenError(
                f"A sweep over the conjugate blocks changed the bound by {bound - point.bound:.6g} nats where its "
                f"updates account for {gains[0].sum():.6g}.",
                "Gains: " + ", ".join(f"'{n}' {g:.6g}" for n, g in zip(ascent.order, gains[0], strict=True)) + ".",
                "An exact update cannot do that; please report the model.",
            )
        return Point(point.mean, point.factor, moments, naturals, bound)

    def gaussian(self, point: Point) -> Point:
        """Natural-gradient steps of the Gaussian, each shortened until the bound rises."""
        values, _, gradients = self.at(point.mean, point.factor, point.moments)
        if not np.isfinite(values).all():
            raise ModelError(
                f"The log joint is not finite at {int((~np.isfinite(values)).sum())} of {len(values)} draws of "
                f"{', '.join(map(repr, self.model.free))}.",
                " ".join(self.model.sites[n].where for n in self.model.free),
                "Rescale the data or tighten the prior, or use advi.",
            )
        shared = self.entropy(point)
        for _ in range(INNER):
            rate, found = 1.0, None
            while rate > 1e-5 and found is None:
                mean, factor = self._step(point, gradients, rate)
                new_values, _, new_gradients = self.at(mean, factor, point.moments)
                bound = float(new_values.mean()) + self.gaussian_part(factor) + shared
                if np.isfinite(new_values).all() and np.isfinite(new_gradients).all() and bound > point.bound:
                    found = Point(mean, factor, point.moments, point.naturals, bound)
                rate *= 0.5
            if found is None:
                break
            gain, point, gradients = found.bound - point.bound, found, new_gradients
            if gain < 1e-10 * (1.0 + abs(point.bound)):
                break
        return point

    def _step(self, point: Point, gradients: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
        whitened = gradients @ point.factor
        outer = self.noise.T @ whitened / len(self.noise)
        excess = np.eye(self.dim) + 0.5 * (outer + outer.T)
        precision = np.eye(self.dim) - rate * excess + 0.5 * rate**2 * excess @ excess
        eigenvalues, vectors = np.linalg.eigh(precision)
        move = rate * (vectors @ ((vectors.T @ whitened.mean(axis=0)) / np.maximum(eigenvalues, 0.1)))
        limit = 3.0 + np.sqrt(self.dim)
        move *= min(1.0, limit / max(float(np.linalg.norm(move)), 1e-300))
        root = (vectors / np.sqrt(np.clip(eigenvalues, 0.1, 10.0))) @ vectors.T
        return point.mean + point.factor @ move, point.factor @ root

    def fresh(self, point: Point, seed: int) -> tuple[float, float]:
        """(the bound on fresh draws, its standard error) in nats."""
        half = np.random.default_rng(seed).normal(size=(FRESH // 2, self.dim))
        noise, parts = np.concatenate([half, -half]), []
        shared = self.entropy(point) + self.gaussian_part(point.factor)
        size = len(self.noise)
        for i in range(0, len(noise) - size + 1, size):
            draws = jnp.asarray(point.mean + noise[i : i + size] @ point.factor.T)
            parts.append(np.asarray(self._values(self.model.arrays, draws, point.moments)[0], float))
        values = np.concatenate(parts)
        return float(values.mean()) + shared, float(values.std() / np.sqrt(len(values)))

    def product(self, point: Point) -> Product:
        """q."""
        conjugate = self.model.conjugate.product(point.naturals)
        supports = [self.model.sites[n].support for n in self.model.free]
        shapes = [self.model.shapes[n] for n in self.model.free]
        name = "+".join(self.model.free)
        gaussian = UnconstrainedNormal.of(jnp.asarray(point.mean), jnp.asarray(point.factor), shapes, supports)
        return Product({**conjugate.factors, name: gaussian}, (*conjugate.blocks, (name, self.model.free)))


def run(
    target: HybridTarget, seed: int, *, max_sweeps: int, tolerance: float, restarts: int | None, warm_up: int
) -> Run:
    """Fit, yielding the bound on the fixed draws after every sweep."""
    model = target.model
    if model.dim > DENSE:
        raise ModelError(
            f"{', '.join(map(repr, model.free))} have no conjugate factor and {model.dim} coordinates, more than the "
            f"{DENSE} of which a dense covariance is kept. {model.refusal.what}",
            model.refusal.where,
            model.refusal.remedy,
        )
    rng = np.random.default_rng(seed)
    num_draws = max(64, 4 * model.dim)
    ascent = HybridAscent(model, num_draws, seed)
    discrete = any(b.discrete for b in model.conjugate.blocks.values())
    count, reached = restarts or (4 if discrete else 1), []
    best: tuple[Point, list[float], Point] | None = None
    warm = min(warm_up, max_sweeps) if count > 1 else 0
    for _ in range(count):
        begun = point = ascent.start(rng)
        bounds: list[float] = []
        for _ in range(warm):
            point = ascent.sweep(point)
            bounds.append(point.bound)
        reached.append(point.bound)
        yield Progress("restart", warm, point.bound, partial(HybridSolution.of, ascent, point, target))
        best = (begun, bounds, point) if best is None or point.bound > best[2].bound else best
    assert best is not None
    begun, bounds, point = best
    for number, bound in enumerate(bounds, 1):  # the sweeps of the start that is kept
        yield Progress("ascent", number, bound, partial(_replayed, ascent, begun, number, target))
    sweeps, converged = warm, False
    for _ in range(3):
        point, sweeps, converged = yield from _climbed(ascent, point, target, sweeps, max_sweeps, tolerance)
        elbo, error = ascent.fresh(point, seed + 1)
        if point.bound - elbo < OPTIMISM + 3.0 * error or sweeps >= max_sweeps:
            break
        num_draws *= 4
        ascent = HybridAscent(model, num_draws, seed)
        values, _, _ = ascent.at(point.mean, point.factor, point.moments)
        shared = ascent.entropy(point) + ascent.gaussian_part(point.factor)
        point = replace(point, bound=float(values.mean()) + shared)
    return Outcome(
        HybridSolution(ascent.product(point), target),
        converged,
        _status(model, sweeps, converged, num_draws),
        Certificate(elbo=elbo, elbo_se=error, fixed_bound=point.bound, sweeps=float(sweeps)),
        restarts=tuple(sorted(reached, reverse=True)) if count > 1 else (),
    )


def _replayed(ascent: HybridAscent, point: Point, sweeps: int, target: HybridTarget) -> HybridSolution:
    """q after so many sweeps from a point, which are made again."""
    for _ in range(sweeps):
        point = ascent.sweep(point)
    return HybridSolution.of(ascent, point, target)


def _climbed(
    ascent: HybridAscent, point: Point, target: HybridTarget, sweeps: int, max_sweeps: int, tolerance: float
) -> Generator[Progress, None, tuple[Point, int, bool]]:
    """Sweeps after number `sweeps` until the gain still to come, extrapolated geometrically, is negligible."""
    history = [point.bound]
    rows = ascent.model.conjugate.rows
    for sweep in range(sweeps, max_sweeps):
        point = ascent.sweep(point)
        history.append(point.bound)
        yield Progress("ascent", sweep + 1, point.bound, partial(HybridSolution.of, ascent, point, target))
        if len(history) < 4:
            continue
        last, before = history[-1] - history[-2], history[-2] - history[-3]
        ratio = min(last / before, 0.9999) if before > 0 else 0.9999
        if last <= 1e-11 * (abs(point.bound) + rows) or last / (1.0 - ratio) < tolerance * rows:
            return point, sweep + 1, True
    return point, max_sweeps, False


def _status(model: PartialModel, sweeps: int, converged: bool, num_draws: int) -> str:
    free = ", ".join(f"'{n}'" for n in model.free)
    how = f"Hybrid: exact updates, and a Gaussian on the unconstrained space for {free} ({num_draws} fixed draws)."
    if converged:
        return f"Converged after {sweeps} sweeps: the gain still to come is negligible. {how}"
    return f"Stopped after {sweeps} sweeps, the bound still rising. Allow more with max_sweeps. {how}"
