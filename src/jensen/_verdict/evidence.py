"""The log evidence and the decompositions of the bound."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from jensen._core import total
from jensen._families import AbstractGaussian
from jensen._math.noise import symmetric_draws
from jensen._model import Target
from jensen._verdict.importance import Pool
from jensen._verdict.labellings import Counted, count_in_words
from jensen._verdict.limits import lower_limit, upper_excess

ROUNDING = 1e-9
"""Of a log weight, relative."""
GROUPS = 16
"""Groups of weights from which on their own spread gives the error of their mean."""
FEW = 10.0
"""Effective draws below which there is no upper limit."""


@dataclass(frozen=True)
class Evidence:
    """Bounds on and an estimate of log p(x), in nats.

    All but `elbo`, which is the fit's own bound, count every equivalent labelling of the posterior (renumberings of
    interchangeable states), however many of them the draws of q cover: p(x) is what the prior averages to.

    Attributes:
        elbo, elbo_se: E_q[log p(x, z) - log q(z)] and its standard error.
        importance_weighted: K -> (L_K, standard error), rising with K towards log p(x).
        log_evidence, log_evidence_se: log mean importance weight over both proposals, and its error; believe it as far
            as `khat` < 0.7. Where draws of q were moved by Gibbs sweeps, the bridge between the two (`khat` -1), or not
            a number where these hardly overlap.
        interval: each end a one-sided 97.5 % confidence limit of log p(x). The lower one holds for any weights
            (`jensen._verdict.limits`); the upper one supposes that the weights' tail goes on as it began, so that
            the draws reach everywhere, and is infinite where that tail may have no mean.
        log_labellings: log of the number of equivalent labellings that these count; 0 where there is one.
        log_covered: log of how many of them the draws of q were found to cover.
    """

    elbo: float
    elbo_se: float
    importance_weighted: dict[int, tuple[float, float]]
    log_evidence: float
    log_evidence_se: float
    khat: float
    interval: tuple[float, float] = (-np.inf, np.inf)
    log_labellings: float = 0.0
    log_covered: float = 0.0

    @property
    def bound(self) -> float:
        """The ELBO of q averaged over the labellings, a bound on log p(x) too: higher where q covers few of them."""
        return self.elbo + self.log_labellings - self.log_covered

    @property
    def one_labelling(self) -> float:
        """The part of `log_evidence` that one of the equivalent labellings holds: log p(x) - log(their number)."""
        return self.log_evidence - self.log_labellings

    @property
    def notes(self) -> list[str]:
        """The interval and what was counted, in words."""
        low, high = self.interval
        lines = []
        if np.isfinite(high):
            lines.append(f"log p(x) in      [{low:.4f}, {high:.4f}], each end a bound at its 97.5 % confidence limit")
        elif not np.isfinite(low):
            lines.append("The weights allow no limits of log p(x)")
        else:
            lines.append(f"log p(x)      ≥ {low:14.4f} at 97.5 % confidence; the weights allow no upper limit")
        if np.isnan(self.log_evidence):
            lines.append("No estimate of log p(x): draws of q and draws of the posterior hardly overlap")
        if self.log_labellings:
            one = "" if np.isnan(self.log_evidence) else f"; one of them has {self.one_labelling:.4f}"
            lines.append(f"log p(x) counts {count_in_words(self.log_labellings)} equivalent labellings{one}")
        return lines

    def __str__(self) -> str:
        lines = [f"ELBO            {self.elbo:14.4f} ± {self.elbo_se:.4f} nats"]
        lines += [f"L_{k:<13} {value:14.4f} ± {se:.4f}" for k, (value, se) in self.importance_weighted.items()]
        if not np.isnan(self.log_evidence):
            error = f"{self.log_evidence_se:.4f}   (k̂ = {self.khat:.2f})"
            lines.append(f"log p(x)      ≈ {self.log_evidence:14.4f} ± {error}")
        lines += self.notes
        return "\n".join(lines)

    __repr__ = __str__


def _bound(ratios: np.ndarray, k: int) -> tuple[float, float]:
    """L_K and its standard error; of few groups that of a log mean of as many weights, which varies as much."""
    groups = ratios[: len(ratios) // k * k].reshape(-1, k)
    values = special.logsumexp(groups, axis=1) - np.log(k)
    if not np.isfinite(values).all():
        return float(values.mean()), np.inf
    if len(values) >= GROUPS:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    weights = np.exp(ratios - ratios.max())
    relative = weights.std(ddof=1) / weights.mean()
    return float(values.mean()), float(relative / np.sqrt(groups.size))


def interval(pool: Pool) -> tuple[float, float]:
    """97.5 % confidence limits of log p(x) from both sides, widened by rounding."""
    ratios, weights, half = pool.log_ratios, pool.log_weights, pool.half
    if np.isposinf(weights).any() or np.isposinf(ratios).any():
        return -np.inf, np.inf
    pairs = np.logaddexp(weights[:half], weights[half : 2 * half]) - np.log(2.0)
    top, values = pool.estimates
    exact = np.ptp(values) <= ROUNDING * abs(values.mean())
    upper = np.inf
    if pool.ess >= FEW and (pool.khat < 1.0 or pool.even) and np.isfinite(top):
        excess = upper_excess(values, heaviest=0.5 if pool.even else 1.0)
        upper = top + float(np.log(values.mean() + excess))
    lower = top + float(np.log(values.mean())) if exact and np.isfinite(top) else lower_limit([ratios, pairs])
    return lower - ROUNDING * (1.0 + abs(lower)), upper + ROUNDING * (1.0 + abs(upper))


def evidence(pool: Pool, particles: tuple[int, ...] = (10, 100), counted: Counted | None = None) -> Evidence:
    """Bounds and estimate from a pool. Burda et al. (2016), equation 8, for the importance-weighted bounds.

    `counted` holds the same draws with weights that count every equivalent labelling, where there are any.
    """
    own, every = pool.log_ratios, (counted.pool if counted else pool)
    bounds = {k: _bound(every.log_ratios, k) for k in particles if k <= every.half}
    estimate, error = every.log_evidence
    low, high = interval(every)
    if counted and counted.rotated:  # draws cover a part of all rotations, and cannot say how large a part
        high = np.inf
    se = float(own.std(ddof=1) / np.sqrt(len(own))) if np.isfinite(own).all() else np.inf
    labels = (counted.log_count, counted.log_covered) if counted else (0.0, 0.0)
    return Evidence(float(own.mean()), se, bounds, estimate, error, every.khat, (low, high), *labels)


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

    from jensen._math.precision import working

    count = num_draws or max(256, 4 * q.noise_dim)
    count += count % 2  # they come in pairs
    points = q.host_transform(symmetric_draws(count, q.noise_dim, seed))
    observed = {site.name for site in target.structure.sites.values() if site.kind != "latent"}

    def parts(model: Any, point: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        terms, log_det = model.terms_at(point)
        seen = total({name: term for name, term in terms.items() if name in observed})
        return seen, total(terms) - seen, log_det

    with working(target.precision):
        run = jax.jit(lambda model, all_of: jax.lax.map(lambda one: parts(model, one), all_of))
        seen, prior, log_det = (np.asarray(a, float) for a in jax.device_get(run(target.model, points)))
    log_q = q.host_log_prob(points) - log_det
    energy, entropy = float((seen + prior).mean()), float(-log_q.mean())
    elbo = energy + entropy
    return Decomposition(
        elbo, energy, entropy, float(seen.mean()), float((log_q - prior).mean()), log_evidence, log_evidence - elbo
    )
