"""Full-rank Gaussian variational inference by natural gradients on symmetric draws."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from jensen._core import Progress
from jensen._families import FullRank
from jensen._math import linalg
from jensen._math.noise import symmetric_draws
from jensen._model import Target


@dataclass(frozen=True)
class Ascent:
    """Result of `ascend`: q, whether it settled, the last shift in posterior sd, and the bounds by step.

    `trouble` is a point at which the density was not finite, if the ascent ended among such points.
    """

    q: FullRank
    converged: bool
    shift: float
    bounds: tuple[float, ...]
    rollbacks: int
    trouble: np.ndarray | None = None


def draws_per_step(dim: int) -> int:
    """64, or four per dimension: twice as many mirrored pairs as coordinates, so the draws' covariance is exactly I."""
    return max(64, 4 * dim)


def ascend(
    target: Target,
    start: FullRank,
    seed: int,
    *,
    max_steps: int = 40,
    tolerance: float = 0.01,
    phase: str = "full rank",
) -> Generator[Progress, None, Ascent]:
    """Maximise the ELBO over N(m, FFᵀ).

    With whitened draws ε and gradients g = Fᵀ∇log p(x, m + Fε), Stein's identity gives the exact natural gradient from
    first derivatives: E[-Fᵀ∇²log p F] = -E[ε gᵀ]. The step in natural parameters

        S ← I - ρG + ½ρ²G²,  G = I + E[ε gᵀ],     m ← m + ρ F S⁻¹ E[g],     F ← F S^{-1/2}

    keeps the precision positive definite (Lin, Schmidt and Khan 2020, equation 9). Fresh symmetric draws, whose
    sample covariance is exactly the identity, make both estimates free of noise for a quadratic log density: a Gaussian
    posterior is reached in one step. Once steps no longer shrink, ρ falls as 1/k, which averages the natural
    parameters; it ends when the averaged shift is below `tolerance` posterior standard deviations.
    """
    mean, factor = np.asarray(start.loc, float), start.factor()
    count, dim = draws_per_step(len(mean)), len(mean)
    bounds: list[float] = []
    best: tuple[float, np.ndarray, np.ndarray] = (-np.inf, mean, factor)
    ceiling, settled, flat, shift, previous, rollbacks = 1.0, 0, 0, np.inf, np.inf, 0
    trouble: np.ndarray | None = None
    for step in range(max_steps):
        noise = symmetric_draws(count, dim, seed + 7919 * step)
        points = mean + noise @ factor.T
        values, gradients = target.value_and_grad(points)
        fine = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
        bound, error = _bound(values, noise, factor, fine)
        if not fine.all() or bound < best[0] - 3.0 - 5.0 * error:
            # Off the support or overshot: back to the best q, with a smaller and more careful step.
            rollbacks += 1
            trouble = trouble if fine.all() else points[~fine][0]
            if np.isfinite(best[0]):
                mean, factor = best[1], best[2]
                ceiling *= 0.5
            else:
                factor = 0.5 * factor
            if rollbacks > 15:
                break
            continue
        bounds.append(bound)
        flat = 0 if bound > best[0] + error else flat + 1
        if bound > best[0] - error:
            best = (max(bound, best[0]), mean, factor)
        rho = min(ceiling, 1.0 / (1 + settled))
        mean, factor, raw = _stepped(mean, factor, noise, gradients, rho)
        yield Progress(phase, step, bound, FullRank.from_factor(mean, factor))
        if flat > 1 or 0.5 * previous < raw < 0.3:
            settled += 1  # noise dominates: average from here on
        previous, ceiling = raw, min(1.0, 1.5 * ceiling)
        shift = raw / (1 + settled)  # the averaged iterate moves by about this much from here on
        if shift < tolerance or raw < 1e-9:
            return Ascent(FullRank.from_factor(mean, factor), True, shift, tuple(bounds), rollbacks)
    trouble = trouble if rollbacks > 15 else None
    return Ascent(FullRank.from_factor(mean, factor), False, float(shift), tuple(bounds), rollbacks, trouble)


def _bound(values: np.ndarray, noise: np.ndarray, factor: np.ndarray, fine: np.ndarray) -> tuple[float, float]:
    """The ELBO of N(m, FFᵀ) from values of the log joint at m + Fε, in nats, and its error where all are fine."""
    count, dim = noise.shape
    log_weights = values + 0.5 * (noise**2).sum(axis=1)
    bound = float(log_weights.mean()) + linalg.log_det_factor(factor) + 0.5 * dim * np.log(2 * np.pi)
    return bound, float(log_weights.std()) / np.sqrt(count) if fine.all() else np.inf


def describe(target: Target, fit: Ascent) -> str:
    """Why the ascent stopped, in a sentence; names the site where the density is not finite."""
    if fit.converged:
        return f"The averaged natural-gradient step is {fit.shift:.1g} posterior sd."
    if fit.trouble is not None:
        terms = target.terms(fit.trouble)
        names = [name for name, term in terms.items() if not np.isfinite(term).all()]
        return (
            f"Draws kept meeting a density that is not finite (site {', '.join(names) or 'unknown'}); "
            "this is the last finite approximation."
        )
    return f"Stopped at the step limit; the last step still moved {fit.shift:.2g} posterior sd."


def shift_mean(target: Target, start: FullRank, seed: int, num_draws: int = 32) -> tuple[FullRank, float]:
    """One natural-gradient step of the mean alone, m ← m + F E[Fᵀ∇log p], and the sd of the log weights before it.

    Half the variance of the log weights is the divergence from the posterior to second order, so a small sd says that
    the covariance needs no step. Cost: `num_draws` gradients, whatever the dimension.
    """
    mean, factor = np.asarray(start.loc, float), start.factor()
    noise = symmetric_draws(num_draws, len(mean), seed)
    values, gradients = target.value_and_grad(mean + noise @ factor.T)
    log_weights = values + 0.5 * (noise**2).sum(axis=1)
    pull = (gradients @ factor).mean(axis=0)
    return FullRank.from_factor(mean + factor @ pull, factor), float(log_weights.std())


def _stepped(
    mean: np.ndarray, factor: np.ndarray, noise: np.ndarray, gradients: np.ndarray, rho: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """(m, F, length of a whole step in posterior standard deviations) after one of size ρ."""
    count, dim = noise.shape
    whitened = gradients @ factor
    pull = whitened.mean(axis=0)
    excess = np.eye(dim) + linalg.symmetrise(noise.T @ whitened / count)
    precision = np.eye(dim) - rho * excess + 0.5 * rho**2 * excess @ excess
    eigenvalues, vectors = np.linalg.eigh(precision)
    # The spread changes by at most a factor √10 a step; the mean's step keeps the whole curvature.
    move = rho * (vectors @ ((vectors.T @ pull) / np.maximum(eigenvalues, 0.1)))
    eigenvalues = np.clip(eigenvalues, 0.1, 10.0)
    length = float(np.linalg.norm(move))
    limit = 3.0 + np.sqrt(dim)
    move *= min(1.0, limit / max(length, 1e-300))
    scales = np.linalg.norm(factor, axis=1)
    raw = float(max(np.abs(factor @ move / scales).max(), 0.5 * np.abs(np.log(eigenvalues)).max())) / rho
    return mean + factor @ move, linalg.lower_factor(factor @ (vectors / np.sqrt(eigenvalues))), raw
