"""A gradient method from outside: Gaussian score matching (Modi et al. 2023), which needs no bound and no step size."""

import equinox as eqx
import numpy as np

from jensen.extend import AbstractContinuous, FullRank, Outcome, Progress


class ScoreMatching(AbstractContinuous):
    """A full-rank Gaussian whose scores agree with those of the posterior at draws of it.

    For a draw u with score g = ∇ log p(u) there is one Gaussian, closest to q in KL, that has this score there; it is
    closed. A step goes to the mean of those of a batch. The posterior is a fixed point where it is Gaussian.

    Args:
        num_draws: draws of each step.
        max_steps: steps at most.
    """

    name = "score_matching"
    num_draws: int = eqx.field(static=True, default=16)
    max_steps: int = eqx.field(static=True, default=200)

    def run(self, target, seed):
        """From a standard Gaussian until a step moves no mean by a hundredth of its sd."""
        rng = np.random.default_rng(seed)
        mean, covariance = np.zeros(target.dim), np.eye(target.dim)
        moved, step = np.inf, 0
        while moved > 0.01 and step < self.max_steps:
            q = FullRank.from_factor(mean, np.linalg.cholesky(covariance))
            points = q.host_transform(rng.normal(size=(self.num_draws, target.dim)))
            values, scores = target.value_and_grad(points)
            pairs = [matched(mean, covariance, u, g) for u, g in zip(points, scores, strict=True)]
            new, covariance = (np.mean([pair[i] for pair in pairs], axis=0) for i in (0, 1))
            moved, mean, step = float(np.abs((new - mean) / q.scales()).max()), new, step + 1
            yield Progress("score matching", step, float((values - q.host_log_prob(points)).mean()), q)
        q = FullRank.from_factor(mean, np.linalg.cholesky(covariance))
        status = f"The last of {step} steps moved a mean by {moved:.1g} sd."
        return Outcome(q, moved <= 0.01, status, {"shift_in_sd": moved})


def matched(mean, covariance, u, g):
    """Mean and covariance of the Gaussian closest to N(mean, covariance) whose score at u is g (their Theorem 1)."""
    spread, away = covariance @ g, mean - u
    product = away @ g
    rho = 0.5 * np.sqrt(1.0 + 4.0 * (g @ spread + product**2)) - 0.5
    gap = spread - away
    shift = (gap - away * (g @ gap) / (1.0 + rho + product)) / (1.0 + rho)
    beyond = away + shift
    return mean + shift, covariance + np.outer(away, away) - np.outer(beyond, beyond)
