"""How far an approximation is from a product: correlations, total correlation, and a sentence when there is none."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jensen._hierarchical.family import Hierarchical
from jensen._math.programs import Program

COLLAPSED = 0.02
"""Total correlation in nats, and correlation, below which q is mean field for every purpose."""


@dataclass(frozen=True)
class Dependence:
    """What a hierarchical family says beyond its marginals.

    Attributes:
        names: scalars; correlations: (scalars, scalars) by the law of total covariance, `None` where they are many.
        information: E_q[log r(λ | z) - log q(λ)] in nats, at most the mutual information of z and λ.
        total_correlation: KL(q(z) ‖ Π q(z_i)) in nats with its standard error.
    """

    names: tuple[str, ...]
    correlations: np.ndarray | None
    information: float
    information_se: float
    total_correlation: tuple[float, float] | None

    def largest(self) -> dict[str, float]:
        """The largest correlation in size of each scalar with another."""
        if self.correlations is None or len(self.names) < 2:
            return {}
        off = np.where(np.eye(len(self.names), dtype=bool), 0.0, self.correlations)
        where = np.abs(off).argmax(axis=1)
        return {name: float(off[i, where[i]]) for i, name in enumerate(self.names)}

    @property
    def collapsed(self) -> bool:
        """Whether q is mean field in all but name."""
        if self.total_correlation is None:
            return self.information < COLLAPSED
        most = max(map(abs, self.largest().values()), default=0.0)
        value, error = self.total_correlation
        return most < COLLAPSED + 0.02 and value < COLLAPSED + 2.0 * error


def total_correlation(
    q: Hierarchical, draws: Mapping[str, np.ndarray], log_q: np.ndarray, seed: int, count: int = 1024
) -> tuple[float, float]:
    """E[log q(z) - Σ_i log q(z_i)] over draws with their log q(z); the marginals by `count` fresh draws of λ."""
    run = Program(functools.partial(_marginals, count))
    marginals = np.asarray(jax.device_get(run(q, dict(draws), jax.random.key(seed + 77))), float)
    values = log_q - marginals
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def _marginals(count: int, q: Hierarchical, draws: Any, key: Any) -> Any:
    points = jax.vmap(lambda k: q.mix(k).value)(jax.random.split(key, count))

    def one(value: Any) -> Any:
        logs = jax.vmap(lambda point: q.given(point).log_probs(value))(points)
        rows = {name: jax.nn.logsumexp(log, axis=0) - np.log(count) for name, log in logs.items()}
        return sum(jax.numpy.sum(row) for row in rows.values())

    return jax.lax.map(one, draws, batch_size=32)
