"""Flows and mixtures on the unconstrained space."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from jensen._core import AbstractDensity, total
from jensen._families import AbstractLocationScale, FullRank, OnSupport
from jensen._families.heavier import TAIL, student_log_prob
from jensen._gaussian.answer import GaussianAnswer
from jensen._math import linalg
from jensen._math.noise import normal_draws
from jensen._math.precision import working
from jensen._verdict.answer import Draws
from jensen._verdict.evidence import Decomposition
from jensen._verdict.importance import Pool, pool_size, weigh
from jensen._verdict.packing import named, packed, unpacked


class FlexibleAnswer(GaussianAnswer):
    """q(u) an `AbstractLocationScale`, a flow or a mixture say; a Gaussian of its moments where only shape matters."""

    kind: ClassVar[str] = "flexible"
    approximates: ClassVar[Any] = AbstractLocationScale

    @property
    def q(self) -> Any:
        """The density over R^D."""
        return self.outcome.q

    @property
    def approximation(self) -> Any:
        """q on the latents' supports."""
        return OnSupport(base=self.q, bijection=self.target.model.bijection)

    def _seed(self, label: int, seed: int) -> int:
        return int(np.random.SeedSequence([self.seed, label, seed]).generate_state(1)[0])

    def _draws(self, count: int, label: int, seed: int) -> np.ndarray:
        with working(self.target.precision):
            return self.q.host_draws(count, self._seed(label, seed))

    def _scored(self, count: int, label: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws and log q there; +∞, which gives them no weight, where q contradicts itself."""
        with working(self.target.precision):
            points, log_q = self.q.host_scored(count, self._seed(label, seed))
        return points, np.where(np.isnan(log_q), np.inf, log_q)

    def _log_q(self, points: np.ndarray) -> np.ndarray:
        with working(self.target.precision):
            return self.q.host_log_prob(points)

    @functools.cached_property
    def gaussian(self) -> FullRank:
        """The Gaussian with q's mean and covariance."""
        points = self._draws(max(4096, 20 * self.target.dim), 0, 0)
        covariance = np.atleast_2d(np.cov(points.T))
        return FullRank.from_factor(points.mean(axis=0), linalg.cholesky(covariance))

    def elbo(self, seed: int) -> tuple[float, float]:
        """On fresh draws."""
        points, log_q = self._scored(64 if self.target.heavy else 4096, 1, seed)
        ratios = self.target.value(points) - log_q
        error = float(ratios.std() / np.sqrt(len(ratios))) if np.isfinite(ratios).all() else np.inf
        return float(ratios.mean()), error

    def pool(self, seed: int) -> Pool:
        """Half from q, half from a Student-t of its scatter."""
        count, wide = pool_size(self.target) // 2, self.gaussian
        own, scored = self._scored(count, 2, seed)
        stretch = np.sqrt(TAIL / np.random.default_rng([seed, 1]).chisquare(TAIL, size=(count, 1)))
        location = np.asarray(wide.loc, float)
        heavy = location + stretch * (wide.host_transform(normal_draws(count, wide.noise_dim, seed + 1)) - location)
        points = np.concatenate([own, heavy])
        log_q = np.concatenate([scored, self._log_q(heavy)])
        log_proposal = np.logaddexp(log_q, student_log_prob(wide, points)) - np.log(2.0)
        return weigh(points, self.target.value(points), log_q, log_proposal)

    def _densities(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_q = self._log_q(points)
        return log_q, np.logaddexp(log_q, student_log_prob(self.gaussian, points)) - np.log(2.0)

    def sample(self, count: int, seed: int) -> Draws:
        """Fresh draws of q."""
        return self.target.complete(self._draws(count, 3, seed), seed)

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """On fresh draws."""
        points = self._draws(num_draws or 1024, 4, seed)
        observed = {site.name for site in self.target.structure.sites.values() if site.kind != "latent"}

        def parts(model: Any, point: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            terms, log_det = model.terms_at(point)
            seen = total({name: term for name, term in terms.items() if name in observed})
            return seen, total(terms) - seen, log_det

        with working(self.target.precision):
            found = jax.device_get(
                jax.jit(lambda m, all_of: jax.lax.map(lambda one: parts(m, one), all_of))(self.target.model, points)
            )
        seen, prior, log_det = (np.asarray(a, float) for a in found)
        log_q = self._log_q(points) - log_det
        energy, entropy = float((seen + prior).mean()), float(-log_q.mean())
        elbo, kl = energy + entropy, float((log_q - prior).mean())
        return Decomposition(elbo, energy, entropy, float(seen.mean()), kl, log_evidence, log_evidence - elbo)

    def parameters(self) -> dict[str, np.ndarray]:
        """All parts of q."""
        return packed(self.q, "family") | self._chart()

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Any:
        """q from its parts; it needs no model."""
        del target
        return unpacked(parameters, "family", named(AbstractDensity))
