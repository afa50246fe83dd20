"""The log evidence and the decompositions of the bound."""

from dataclasses import dataclass

import numpy as np

from jensen.bounds import ChiUpper
from jensen.core import total
from jensen.diagnostics.importance import Pool
from jensen.families import AbstractGaussian
from jensen.math.noise import symmetric_draws
from jensen.models import Target

ROUNDING = 1e-9
"""Of a log weight, relative."""


@dataclass(frozen=True)
class Evidence:
    """Bounds on and an estimate of log p(x), in nats.

    Attributes:
        elbo, elbo_se: E_q[log p(x, z) - log q(z)] and its standard error.
        importance_weighted: K -> (L_K, standard error), rising with K towards log p(x).
        log_evidence, log_evidence_se: log mean importance weight over both proposals, and its error; believe it as far
            as `khat` < 0.7.
        interval: from a lower bound (L_100 or the ELBO) to an upper one (CUBO_2 of the mixture of both proposals), each
            at its one-sided 97.5 % confidence limit; as a whole it holds log p(x) in at least 95 % of fits whose draws
            reach everywhere. The upper end is infinite where the weights' tail allows no limit.
    """

    elbo: float
    elbo_se: float
    importance_weighted: dict[int, tuple[float, float]]
    log_evidence: float
    log_evidence_se: float
    khat: float
    interval: tuple[float, float] = (-np.inf, np.inf)

    def __str__(self) -> str:
        lines = [f"ELBO            {self.elbo:14.4f} ± {self.elbo_se:.4f} nats"]
        lines += [f"L_{k:<13} {value:14.4f} ± {se:.4f}" for k, (value, se) in self.importance_weighted.items()]
        lines.append(f"log p(x)      ≈ {self.log_evidence:14.4f} ± {self.log_evidence_se:.4f}   (k̂ = {self.khat:.2f})")
        low, high = self.interval
        lines.append(f"log p(x) in      [{low:.4f}, {high:.4f}], each end a bound at its 97.5 % confidence limit")
        return "\n".join(lines)

    __repr__ = __str__


def _interval(bounds: list[tuple[float, float]], pool: Pool) -> tuple[float, float]:
    """(the highest lower bound less 2.24 standard errors, 97.5 % for two, the CUBO's limit), widened by rounding."""
    lower = max((value - 2.24 * se for value, se in bounds if np.isfinite(value)), default=-np.inf)
    weights = pool.log_joint - pool.log_proposal
    tail = None if pool.even else pool.khat
    upper = ChiUpper(2.0).limit(np.where(np.isnan(weights), -np.inf, weights), 0.975, tail)
    return lower - ROUNDING * (1.0 + abs(lower)), upper + ROUNDING * (1.0 + abs(upper))


def evidence(pool: Pool, particles: tuple[int, ...] = (10, 100)) -> Evidence:
    """Bounds and estimate from a pool. Burda et al. (2016), equation 8, for the importance-weighted bounds."""
    ratios = np.where(np.isnan(pool.log_ratios), -np.inf, pool.log_ratios)
    bounds = {}
    for k in particles:
        groups = ratios[: len(ratios) // k * k].reshape(-1, k)
        top = groups.max(axis=1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)
        values = top[:, 0] + np.log(np.exp(groups - top).mean(axis=1))
        bounds[k] = (float(values.mean()), float(values.std() / np.sqrt(len(values))))
    estimate, error = pool.log_evidence
    se = float(ratios.std() / np.sqrt(len(ratios))) if np.isfinite(ratios).all() else np.inf
    elbo = float(ratios.mean())
    ends = _interval([(elbo, se), bounds[max(bounds)]], pool)
    return Evidence(elbo, se, bounds, estimate, error, pool.khat, ends)


@dataclass(frozen=True)
class Decomposition:
    """L = energy + entropy = reconstruction - kl = evidence - gap, each in nats, on one set of draws.

    Attributes:
        elbo: the bound. energy: E_q log p(x, z). entropy: -E_q log q(z).
        reconstruction: E_q log p(x | z), observed sites and factors. kl: KL(q ‖ p(z)), the latents' own terms.
        log_evidence, gap: log p(x) and KL(q ‖ p(z | x)) = log p(x) - L.
    """

    elbo: float
    energy: float
    entropy: float
    reconstruction: float
    kl: float
    log_evidence: float
    gap: float


def decompose(
    target: Target, q: AbstractGaussian, log_evidence: float, seed: int, num_draws: int | None = None
) -> Decomposition:
    """All three decompositions from common symmetric draws: exact where the terms are quadratic in u.

    Energies and entropies are those over the latents' own space: the Jacobian of the unconstraining map is in both
    and cancels in their sum. Cost: `num_draws` evaluations of the model's terms.
    """
    import jax

    from jensen.math.precision import working

    count = num_draws or max(256, 4 * q.noise_dim)
    points = q.host_transform(symmetric_draws(count, q.noise_dim, seed))
    observed = {site.name for site in target.structure.sites.values() if site.kind != "latent"}

    def parts(point: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        terms, log_det = target.model.terms_at(point)
        seen = total({name: term for name, term in terms.items() if name in observed})
        return seen, total(terms) - seen, log_det

    with working(target.precision):
        seen, prior, log_det = (
            np.asarray(a, float) for a in jax.device_get(jax.jit(jax.lax.map, static_argnums=0)(parts, points))
        )
    log_q = q.host_log_prob(points) - log_det
    energy, entropy = float((seen + prior).mean()), float(-log_q.mean())
    elbo = energy + entropy
    return Decomposition(
        elbo, energy, entropy, float(seen.mean()), float((log_q - prior).mean()), log_evidence, log_evidence - elbo
    )
