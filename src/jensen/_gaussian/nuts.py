"""On from an approximation: NUTS in the coordinates in which it is standard normal."""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.errors import UndefinedError
from jensen._core import AbstractAlgorithm, AbstractTarget, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._families import AbstractGaussian, Chains
from jensen._families.chains import DENSE
from jensen._math.clock import Stopwatch
from jensen._math.mixing import RHAT, mixing
from jensen._math.precision import Precision
from jensen._model import Target

ROUND = 250
"""Draws of every chain between two looks at r̂."""


@dataclass(frozen=True)
class Beginning(AbstractTarget):
    """A density over R^D, a Gaussian of its approximation's shape, and points to start from, (n, D)."""

    target: Target
    gaussian: AbstractGaussian
    points: np.ndarray

    @property
    def precision(self) -> Precision:
        """That of the target."""
        return self.target.precision


class Refinement(AbstractAlgorithm):
    """NUTS [Hoffman and Gelman 2014] on p(m + L v), with m and L Lᵀ the mean and covariance of q.

    Where q is right, v is nearly standard normal, so that the sampler needs short trajectories and a short warm-up. The
    chains go on until every coordinate has r̂ below 1.01 and `num_effective` effective draws.

    Args:
        num_chains: chains, run side by side. num_warmup: steps of each before its draws count.
        num_effective: effective draws wanted of every coordinate.
        num_draws: the most draws of each chain. seconds: the most time, warm-up and compilation included.
    """

    name: ClassVar[str] = "refine"
    num_chains: int = eqx.field(static=True, default=4)
    num_warmup: int = eqx.field(static=True, default=300)
    num_effective: int = eqx.field(static=True, default=400)
    num_draws: int = eqx.field(static=True, default=4000)
    seconds: float | None = eqx.field(static=True, default=None)

    def prepare(self, model: Any, data: Any, precision: Precision) -> AbstractTarget:
        """It begins with a fit."""
        raise UndefinedError("NUTS goes on from a fit.", "Method: refine.", "Fit first: jn.fit(model, data).refine().")

    def run(self, target: Beginning, seed: int) -> Run:
        """Rounds of draws until they suffice."""
        watch, where = Stopwatch(), _Frame.of(target.gaussian)
        sampler = _sampler(target.target.model, where, self.num_warmup, self.num_chains)
        starts = np.random.default_rng([seed, 67]).choice(len(target.points), self.num_chains)
        sampler.run(
            jr.key(seed), init_params=jnp.asarray(where.white(target.points[starts])), extra_fields=("diverging",)
        )
        mean, sd = np.asarray(target.gaussian.loc, float), target.gaussian.scales()
        rounds, divergences = [], 0
        while True:
            rounds.append(where.points(np.asarray(sampler.get_samples(group_by_chain=True), float)))
            divergences += int(np.sum(sampler.get_extra_fields()["diverging"]))
            chains = Chains(np.concatenate(rounds, axis=1), np.asarray(divergences), mean, sd)
            rhat, effective = (float(x) for x in _worst(chains))
            drawn = chains.points.shape[1]
            done = rhat < RHAT and effective >= self.num_effective
            late = self.seconds is not None and watch.read()["total"] > self.seconds
            yield Progress("NUTS", drawn, np.nan, chains, f"r̂ {rhat:.3f}, {effective:.0f} effective draws")
            if done or late or drawn >= self.num_draws:
                break
            sampler.post_warmup_state = sampler.last_state
            sampler.run(sampler.last_state.rng_key, extra_fields=("diverging",))
        why = "" if done else f" The {'time' if late else 'number of draws'} allowed is used up."
        status = (
            f"NUTS from draws of q: {self.num_chains} chains of {drawn} draws after {self.num_warmup} of warm-up, "
            f"r̂ = {rhat:.3f}, {effective:.0f} effective draws, {divergences} divergences.{why}"
        )
        return Outcome(chains, done, status)


def _worst(chains: Chains) -> tuple[np.ndarray, np.ndarray]:
    rhat, effective = mixing(np.asarray(chains.points))
    return rhat.max(), effective.min()


@dataclass(frozen=True)
class _Frame:
    """u = m + L v; L is a matrix (D, D), or its diagonal (D,) in many dimensions."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, gaussian: AbstractGaussian) -> "_Frame":
        factor = gaussian.factor() if gaussian.dim <= DENSE else gaussian.scales()
        return cls(np.asarray(gaussian.loc, float), np.asarray(factor, float))

    def points(self, white: Any) -> Any:
        return self.mean + (white * self.factor if self.factor.ndim == 1 else white @ self.factor.T)

    def white(self, points: np.ndarray) -> np.ndarray:
        moved = points - self.mean
        return moved / self.factor if self.factor.ndim == 1 else np.linalg.solve(self.factor, moved.T).T


def _sampler(model: Any, where: _Frame, warmup: int, chains: int) -> Any:
    from numpyro.infer import MCMC, NUTS

    def potential(white: jax.Array) -> jax.Array:
        return -model.log_density(where.points(white).astype(white.dtype))

    kernel = NUTS(potential_fn=potential, target_accept_prob=0.9)
    return MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=ROUND,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
