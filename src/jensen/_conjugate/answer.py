"""Products of exponential-family factors on the latents' own supports, as the coordinate methods leave them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import jax
import numpy as np

from jensen._base.errors import OptionError
from jensen._conjugate.algebra import ConjugateTarget
from jensen._conjugate.algebra.target import HybridTarget
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.collapsed_pool import Collapsed, collapsed
from jensen._conjugate.coordinate.hybrid_solution import HybridSolution, restored_hybrid
from jensen._conjugate.coordinate.solution import Solution, restored
from jensen._conjugate.factor_checks import BY_AUTO, FACTORS, factor_checks, factor_probabilities
from jensen._conjugate.local_factors import LocalFactors, local_factors, row_plate
from jensen._core import AbstractCheck, Outcome
from jensen._families.exponential import Product, draw_many
from jensen._math.precision import Precision, working
from jensen._model import build
from jensen._model.program import deterministic_names
from jensen._verdict.answer import AbstractAnswer, Draws
from jensen._verdict.checks import Integrated
from jensen._verdict.evidence import Decomposition, Evidence
from jensen._verdict.importance import Pool
from jensen._verdict.labellings import View
from jensen._verdict.moments import Agreement, compare_exact
from jensen._verdict.states import LISTED as FEW
from jensen._verdict.states import Probabilities
from jensen._verdict.unconstrained import on_the_line

DRAWS = 4096
"""Draws of q behind its probabilities of states."""
LARGEST = 2_000_000_000
"""Bytes of draws of one site that are handed out."""
LISTED = 2_000
"""Scalars of a site up to which it takes part in tables and in the check."""


class ConjugateAnswer(AbstractAnswer):
    """q(z) = Π_j q_j(z_j). Its importance weights are on some latents, the others being integrated out exactly."""

    kind: ClassVar[str] = "factors"
    approximates: ClassVar[tuple[type, ...]] = (Solution, HybridSolution)
    space: str = "the latents that were not integrated out exactly"

    def __init__(self, target: Any, outcome: Outcome, seed: int):
        del target  # a solution knows its own
        self.target: ConjugateTarget | HybridTarget = outcome.q.target
        self.outcome, self.seed = outcome, seed
        self.advice = BY_AUTO if outcome.stages else FACTORS
        self.structure, self.program = self.target.structure, self.target.program

    @property
    def solution(self) -> Solution | HybridSolution:
        """The approximation as the ascent left it."""
        return self.outcome.q

    @functools.cached_property
    def q(self) -> Product:
        """The product of all factors."""
        return self.solution.product()

    @property
    def approximation(self) -> Product:
        """The same: its factors live on the latents' own supports."""
        return self.q

    @functools.cached_property
    def _energy(self) -> dict[str, float]:
        return self.solution.energies()

    def elbo(self, seed: int) -> tuple[float, float]:
        """Exact where every factor is conjugate; else on fresh draws of the Gaussian."""
        del seed
        exact = self.outcome.certificate.elbo
        if exact is not None and np.isfinite(exact):
            return exact, self.outcome.certificate.elbo_se or 0.0
        return sum(self._energy.values()), 0.0

    @functools.cached_property
    def _collapsed(self) -> Collapsed:
        return collapsed(self.solution)

    def pool(self, seed: int) -> Pool:
        """Half from q, half from its factors at a lower power, weighed with as much integrated out as can be."""
        return self._collapsed.pool(seed)

    def settled_pool(self, seed: int) -> Pool:
        """More draws near a limit of the verdict, where these are cheap."""
        self.grows = self._collapsed.weigher.size >= DRAWS
        return super().settled_pool(seed)

    def view(self, pool: Pool) -> View | None:
        """The latents with weights."""
        return self._collapsed.view(pool.points) if self._collapsed.way.weighed else None

    def draws_of(self, pool: Pool) -> Draws:
        """The pool's draws; what was integrated out is drawn from its exact conditional."""
        return self._with_deterministic(self._collapsed.draws(pool.points, self._small(), len(pool.points)))

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """Every latent at these rows of the pool; what was integrated out is drawn anew from its conditional."""
        names = [site.name for site in self.structure.latents]
        if set(names) <= set(draws):
            return {name: values[rows] for name, values in draws.items()}
        check_affordable(self.structure.latents, len(rows))
        return self._with_deterministic(self._collapsed.draws(pool.points[rows], names, seed))

    def _small(self) -> list[str]:
        """Latents that are few enough for tables."""
        return [site.name for site in self.structure.latents if np.prod(site.shape, dtype=int) <= LISTED]

    def sample(self, count: int, seed: int) -> Draws:
        """Draws of every latent."""
        check_affordable(self.structure.latents, count)
        with working(self.target.precision):
            draws = draw_many(self.q, count, 1_000_003 * self.seed + seed)
        return self._with_deterministic(draws)

    def _with_deterministic(self, draws: Draws) -> Draws:
        draws = {site.name: draws[site.name] for site in self.structure.latents if site.name in draws}
        names = deterministic_names(self.structure)
        if not names or len(draws) < len(self.structure.latents):
            return draws
        assert self.program is not None  # coordinate methods work on programs
        return draws | self.program.deterministic(draws, names)

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Other optima, weights, moments."""
        way = self._collapsed.way
        how = f"{', '.join(way.left_out)} integrated out exactly" if way.left_out else "all latents drawn"
        integrated = () if way.plan.exact else (Integrated(tuple(way.left_out), False),)
        return (*factor_checks(how, exact=not way.weighed), *integrated)

    def probabilities(self, pool: Pool, draws: Draws, without: Collection[str] = ()) -> dict[str, Probabilities]:
        """By frequencies of exact conditional draws, and of draws of q."""
        del without
        small = {n: s.values for n, s in self.solution.infos.items() if n in draws and s.values is not None}
        small = {n: v for n, v in small.items() if draws[n][0].size * len(v) <= FEW}
        own = self.sample(DRAWS, self.seed + 5) if small else {}
        return factor_probabilities(small, own, pool, draws)

    def unconstrained(self, pool: Pool, draws: Draws, always: bool = False) -> Any:
        """The program over R^D, discrete latents summed out."""
        program, precision = self.program, self.target.precision
        if program is None or not self._collapsed.way.weighed:
            return None
        latents = self.structure.latents
        return on_the_line(lambda: build(program.fn, program.kwargs, precision), pool, draws, latents, always)

    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Of exact moments, where anything has weights."""
        listed = {name: site.values for name, site in self.solution.infos.items() if site.values is not None}
        ranges = {name: float(values.max() - values.min()) for name, values in listed.items()}
        weighed = draws if self._collapsed.way.weighed else {}
        return compare_exact(weighed, pool.weights, self.exact_moments(), ranges)

    def evidence(self, pool: Pool) -> Evidence:
        """The exact ELBO; the other bounds from the pool."""
        found = super().evidence(pool)
        value, error = self.elbo(0)
        low = max(found.interval[0], value - 2.24 * error - 1e-9 * (1.0 + abs(value)))
        return replace(found, elbo=value, elbo_se=error, interval=(low, found.interval[1]))

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """Exact."""
        del seed, num_draws
        parts = self._energy
        seen = sum(v for k, v in parts.items() if k and self.structure.sites[k].kind != "latent")
        prior = sum(v for k, v in parts.items() if k and self.structure.sites[k].kind == "latent")
        entropy = parts[""]
        elbo = seen + prior + entropy
        return Decomposition(elbo, seen + prior, entropy, seen, -entropy - prior, log_evidence, log_evidence - elbo)

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd of every factor of moderate size, in closed form."""
        small = set(self._small())
        whole = any(site in small for site in self.solution.streamed)
        with working(self.target.precision):
            q = self.q if whole else self.solution.held()
            means, variances = jax.device_get(q.moments())
        return {
            name: (np.asarray(means[name], float), np.sqrt(np.asarray(variances[name], float)))
            for name in means
            if name in small
        }

    def infer(self, new_data: Mapping[str, Any] | None, refine: bool) -> LocalFactors:
        """The optimal factors of new rows' latents, or of the fit's own."""
        if not isinstance(self.target, ConjugateTarget):
            return super().infer(new_data, refine)
        held = self.solution.held()
        with working(self.target.precision):
            parts = row_plate(held, self.target.model)
        size = parts.size if parts else -1
        return local_factors(held, self.target, lambda _, value: np.shape(value)[:1] == (size,), new_data)

    def parameters(self) -> dict[str, np.ndarray]:
        """The natural parameters of the factors that were not streamed."""
        return self.solution.arrays()

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Solution | HybridSolution | None:
        """The factors need their model."""
        if target is None:
            return None
        return restored_hybrid(target, parameters) if isinstance(target, HybridTarget) else restored(target, parameters)

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> Any:
        """The derived expected log joint, with the blocks of the fit."""
        return CAVI(blocks=tuple(options.get("blocks") or ())).prepare(model, data, precision)


EXACT = "Draw fewer, or read `fit.q.means()` and `fit.q.variances()`, which are exact."


def check_affordable(sites: Iterable[Any], count: int, remedy: str = EXACT) -> None:
    """Raise where so many draws of a site would fill the memory."""
    for site in sites:
        if count * np.prod(site.shape, dtype=float) * 8 > LARGEST:
            raise OptionError(
                f"{count} draws of '{site.name}', of shape {site.shape}, are more than "
                f"{LARGEST / 1e9:.0f} GB of numbers.",
                "Argument: num_draws.",
                remedy,
            )
