"""Hierarchical families: draws, bounds and weights on the space of the latents and λ together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jensen._blackbox.answer import NativeAnswer
from jensen._conjugate.factor_checks import factor_checks
from jensen._core import AbstractCheck, Outcome
from jensen._families import Flow, FullRank, LowRank, MeanField, Mixture, native
from jensen._hierarchical import family
from jensen._hierarchical.checks import Expressed
from jensen._hierarchical.dependence import Dependence, total_correlation
from jensen._hierarchical.family import Hierarchical
from jensen._hierarchical.fitting.moments import Moments, moments
from jensen._hierarchical.fitting.weights import LAMBDAS, weighed_draws
from jensen._math.keys import fold_in
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model.native import NativeTarget
from jensen._verdict.answer import Draws
from jensen._verdict.checks import FiniteDensity, OfPrior
from jensen._verdict.importance import Pool, weigh
from jensen._verdict.labellings import View
from jensen._verdict.moments import flatten
from jensen._verdict.packing import packed, unpacked

FAMILIES = {cls.__name__: cls for cls in (Flow, FullRank, LowRank, MeanField, Mixture)}


class HierarchicalAnswer(NativeAnswer):
    """q(z) = ∫ q(λ) Π q(z_i | λ_i) dλ. Its density is known through draws of λ only.

    Bounds and importance weights stand on z together with λ and `LAMBDAS` further draws of r: they are valid as they
    are (Sobolev and Vetrov 2019), and approach those of z alone as the draws grow in number.
    """

    kind: ClassVar[str] = "hierarchical"
    approximates: ClassVar[type] = Hierarchical  # type: ignore[assignment]

    def __init__(self, target: NativeTarget, outcome: Outcome, seed: int):
        super().__init__(target, outcome, seed)
        self.space = f"the latents and λ, with {self._count + 1} draws of λ for each"

    @property
    def q(self) -> Any:
        """The hierarchical family."""
        return self.outcome.q

    @property
    def _count(self) -> int:
        return max(self.q.importance, LAMBDAS)

    @property
    def approximation(self) -> Any:
        """q over the latents, with `log_prob` by importance sampling."""
        return Marginal(self.q, self.target.precision)

    def _weighed(self, count: int, seed: int, label: int) -> tuple[Draws, np.ndarray]:
        """Draws of z and the estimates of log q(z) that go with them."""
        with working(self.target.precision):
            key = fold_in(fold_in(jax.random.key(self.seed), label), seed % 2**32)
            draws, log_q = weighed_draws(self.q, key, count, self._count)
        return draws, log_q

    def _draws(self, q: Any, count: int, seed: int, label: int) -> Draws:
        return self._weighed(count, seed, label)[0]

    def elbo(self, seed: int) -> tuple[float, float]:
        """The importance-weighted hierarchical bound on fresh draws."""
        draws, log_q = self._weighed(self._size() // 2, seed, 1)
        ratios = self.target.log_joint(draws) - log_q
        error = float(ratios.std() / np.sqrt(len(ratios))) if np.isfinite(ratios).all() else np.inf
        return float(ratios.mean()), error

    def pool(self, seed: int) -> Pool:
        """Draws of q."""
        draws, log_q = self._weighed(self._size(), seed, 2)
        columns = [np.asarray(draws[s.name], float).reshape(len(log_q), -1) for s in self._latents()]
        return weigh(np.concatenate(columns, axis=1), self.target.log_joint(draws), log_q, log_q)

    def _log_q(self, q: Any, draws: Draws) -> np.ndarray:
        del q
        return self.approximation.log_prob(draws)[0]

    def view(self, pool: Pool) -> View | None:
        """As for a product, but that the density of q is known at its own draws only."""
        found = super().view(pool)
        return dataclasses.replace(found, densities=None) if found else None

    @functools.cached_property
    def _moments(self) -> Moments:
        with working(self.target.precision):
            return moments(self.q, 8192, self.seed + 5)

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """None: λ is always drawn."""
        return {}

    def _known_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd by the laws of total expectation and variance, from 8192 draws of λ."""
        found = self._moments
        closed = {name for name, factor in self.q.likelihood.factors.items() if factor.exact_moments}
        return {n: (found.means[n], np.sqrt(found.variances[n])) for n in found.means if n in closed}

    @functools.cached_property
    def dependence(self) -> Dependence:
        """How much the latents depend on each other under q."""
        found = self._moments
        names: list[str] = flatten({name: mean[None] for name, mean in found.means.items()})[1]
        correlations = found.correlations() if found.between is not None else None
        draws, log_q = self._weighed(1024, self.seed, 7)
        with working(self.target.precision):
            joint = total_correlation(self.q, draws, log_q, self.seed) if correlations is not None else None
        return Dependence(tuple(names), correlations, found.information, found.information_se, joint)

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Other optima, weights, moments, and whether q is more than mean field."""
        return (*factor_checks(f"on {self.space}"), FiniteDensity(), OfPrior(), Expressed(self.dependence))

    def _discrete(self) -> dict[str, Any]:
        return {name: factor for name, factor in self.q.likelihood.factors.items() if factor.discrete}

    def columns(self, names: list[str]) -> dict[str, np.ndarray]:
        """`max_corr`: the largest correlation of each scalar with another under q, by the law of total covariance."""
        largest = self.dependence.largest()
        return {"max_corr": np.array([largest.get(name, np.nan) for name in names])} if largest else {}

    def parameters(self) -> dict[str, np.ndarray]:
        """All parts of q."""
        return packed(self.q, "family")

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Any | None:
        """q from its parts; a factor behind a bijection needs its model for it."""
        names = {str(value) for key, value in parameters.items() if key.endswith("/@")}
        if "Transformed" in names and target is None:
            return None
        site = {"Transformed": functools.partial(_behind_a_bijection, target)}
        known = {name: getattr(native, name) for name in native.__all__ if name in names}
        auxiliaries = {name: getattr(family, name) for name in family.__all__ if name in names}
        return unpacked(parameters, "family", FAMILIES | known | auxiliaries | site)


def _behind_a_bijection(target: Any, **parts: Any) -> Any:
    shape = np.shape(parts["loc"])
    for site in target.structure.latents:
        made = native.native_factor(site, target.supports.get(site.name))
        if isinstance(made, native.Transformed) and np.shape(made.loc) == shape:
            return dataclasses.replace(made, loc=parts["loc"], log_scale=parts["log_scale"])
    raise KeyError("Transformed")


class Marginal:
    """q(z) of a hierarchical family.

    Example:
        values, errors = fit.approximation.log_prob(fit.sample(100, raw=True))
    """

    def __init__(self, q: Hierarchical, precision: Any):
        self.q, self.precision = q, precision

    def log_prob(self, draws: Mapping[str, Any], num_draws: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """log q(z) of stacked latents in nats and its standard error, by `num_draws` importance draws λ ~ r(λ | z).

        The estimate is of q(z), so that its logarithm is low by half its squared error.
        """
        with working(self.precision):
            values = {name: jnp.asarray(draws[name]) for name in self.q.likelihood.factors}
            run = Program(functools.partial(_ratios, num_draws))
            logs = np.asarray(jax.device_get(run(self.q, values, jax.random.key(seed))), float)
        top = logs.max(axis=1, keepdims=True)
        weights = np.exp(logs - top)
        mean = weights.mean(axis=1)
        error = weights.std(axis=1) / np.sqrt(num_draws) / np.maximum(mean, 1e-300)
        found = top[:, 0] + np.log(mean)
        if found.ndim > 1:  # λ is row by row, and rows are independent
            return found.sum(axis=1), np.sqrt((error**2).sum(axis=1))
        return found, error


def _ratios(count: int, q: Hierarchical, values: Any, key: Any) -> Any:
    def one(item: Any) -> Any:
        value, index = item
        found, keys = q.features(value), jax.random.split(jax.random.fold_in(key, index), count)
        points = jax.vmap(lambda k: q.auxiliary.draw(k, found, q.whole_prior)[0])(keys)
        return jax.vmap(lambda point: q.log_ratio(point, value))(points)

    rows = jax.tree.leaves(values)[0].shape[0]
    return jax.lax.map(one, (values, jnp.arange(rows)), batch_size=16)
