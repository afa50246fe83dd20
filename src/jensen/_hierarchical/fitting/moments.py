"""Moments of a hierarchical family by the laws of total expectation and covariance, and its steps."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.random as jr
import numpy as np
import optax

from jensen._ascent.moves import ADAM, ByAdam
from jensen._ascent.rules import in_running_units
from jensen._core import total
from jensen._hierarchical.family import Hierarchical
from jensen._hierarchical.family.by_row import AbstractRowPrior
from jensen._math.keys import purpose_key, split_in
from jensen._math.programs import Program


@dataclass(frozen=True)
class Moments:
    """Means and variances by site; `covariance` of all scalars in the order of the sites, and what λ says.

    Attributes:
        between: Cov_λ(E[z | λ]), (scalars, scalars): between different latents the covariance itself, since they are
            independent given λ.
        information: E[log r(ψ | z) - log q(ψ)] in nats: at most the mutual information of λ and z.
    """

    means: dict[str, np.ndarray]
    variances: dict[str, np.ndarray]
    between: np.ndarray | None
    information: float
    information_se: float

    def correlations(self) -> np.ndarray:
        """Correlations of the latents under q, (scalars, scalars)."""
        assert self.between is not None
        variance = np.concatenate([np.ravel(v) for v in self.variances.values()])
        full = self.between - np.diag(np.diag(self.between)) + np.diag(variance)
        sd = np.sqrt(np.maximum(variance, 1e-300))
        return full / np.outer(sd, sd)


FOLLOWING = {"auxiliary": 0.1, "logits": 0.3}
"""Likewise where r follows the prior by itself and holds corrections only: noise in them is all loss. Components that
do not fit yet lose their shares more slowly, and may find a place meanwhile."""
STEADY = optax.chain(in_running_units(divide=False), optax.scale_by_adam(b1=0.9, b2=0.99, eps=0.1))
"""Adam that does not move what the bound hardly depends on. λ is in units of the factors' sds, so that a slope far
below 0.1 nats is nothing but noise, on which rows of next to nothing would walk until their tail is all there is."""
CHUNK = 1024
"""Draws of one call, so that every multiple of it shares the program."""
LISTED = 400
"""Scalars up to which their covariance is formed."""


def _measured(q: Hierarchical, keys: Any) -> Any:
    def one(key: Any) -> Any:
        first, second = jr.split(key)
        point = q.mix(first).value
        product = q.given(point)
        value = product.values(second, pathwise=False)
        gain = total(q.reverse(point, value)) - q.whole_prior.log_prob(point)
        return product.means(), product.variances(), gain

    return jax.lax.map(one, keys, batch_size=256)


def moments(q: Hierarchical, count: int, seed: int, covariance: bool = True) -> Moments:
    """From `count` draws of λ; the factors' own moments are exact."""
    run = Program(_measured)
    parts = [jax.device_get(run(q, keys)) for keys in split_in(purpose_key(seed, "moments"), count, CHUNK)]
    means, variances, gain = jax.tree.map(lambda *several: np.concatenate(several), *parts)
    average = {name: np.asarray(m, float).mean(axis=0) for name, m in means.items()}
    spread = {
        name: np.asarray(variances[name], float).mean(axis=0) + np.asarray(m, float).var(axis=0)
        for name, m in means.items()
    }
    between = None
    if covariance and sum(np.size(m) for m in average.values()) <= LISTED:
        table = np.concatenate([np.asarray(m, float).reshape(count, -1) for m in means.values()], axis=1)
        between = np.atleast_2d(np.cov(table.T, bias=True))
    gain = np.asarray(gain, float)
    return Moments(average, spread, between, float(gain.mean()), float(gain.std() / np.sqrt(count)))


class Plain(ByAdam):
    """Adam on every coordinate: λ is in units of the factors' information, whatever the model's scales."""

    def rule(self, q: Any) -> Any:
        """Slower where rows have a λ each, of which most steps say little."""
        return STEADY if isinstance(q.prior, AbstractRowPrior) else ADAM

    def shares(self, q: Any) -> dict[str, float]:
        """Corrections of r move slowly where it follows the prior by itself."""
        return FOLLOWING if getattr(q.auxiliary, "follows", False) else {}

    def apart(self, a: Hierarchical, b: Hierarchical) -> float:
        """Means in sds (probabilities and counts on their own scale), and log sds, from the same draws of λ."""
        first, second = (moments(q, 2048, 0, covariance=False) for q in (a, b))
        gaps = [0.0]
        for name, factor in a.likelihood.factors.items():
            sd, other = (np.sqrt(m.variances[name]) for m in (first, second))
            scale = np.maximum(other, 0.05 if factor.discrete else 1e-12)
            gaps.append(float((np.abs(first.means[name] - second.means[name]) / scale).max()))
            if not factor.discrete:
                gaps.append(float(np.abs(np.log(np.maximum(sd, 1e-300) / np.maximum(other, 1e-300))).max()))
        gaps.append(abs(first.information - second.information))
        return max(gaps)
