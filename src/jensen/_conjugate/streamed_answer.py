"""Factors of the global latents, where the rows came in batches and are not held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np

from jensen._base.errors import UndefinedError
from jensen._conjugate.answer import LARGEST, LISTED, check_affordable
from jensen._conjugate.coordinate.collapse import chosen
from jensen._conjugate.coordinate.solution import nested, restored
from jensen._conjugate.coordinate.stream import Streamed, StreamTarget
from jensen._conjugate.coordinate.stream_weights import exact, log_joints
from jensen._conjugate.coordinate.weighing import tempered
from jensen._conjugate.factor_checks import FACTORS, factor_checks
from jensen._conjugate.local_factors import LocalFactors, local_factors
from jensen._conjugate.svi import SVI
from jensen._core import AbstractCheck, Outcome
from jensen._families.exponential import Product, draw_many
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import Program
from jensen._model.program import deterministic_names
from jensen._verdict.answer import AbstractAnswer, Draws
from jensen._verdict.checks import Integrated, Optimiser, Unweighed
from jensen._verdict.evidence import Decomposition, Evidence
from jensen._verdict.importance import Pool, weigh
from jensen._verdict.labellings import View
from jensen._verdict.moments import Agreement, compare_exact

READ_AGAIN = "Pass data that can be read again: arrays, a list of batches, or a function that returns a fresh iterable."
COMPARE = "Compare with a fit to rows that were left out."


class StreamedAnswer(AbstractAnswer):
    """q(g) = Π_j q_j(g_j) over what all rows share.

    Its importance weights are those of p(x, g), the latents of the rows integrated out, from one more pass over the
    data. Where the data cannot be read again there are none, and nothing is established.
    """

    kind: ClassVar[str] = "streamed"
    approximates: ClassVar[type] = Streamed
    advice: Mapping[str, str] = FACTORS
    space: str = "the latents that all rows share"
    partial: ClassVar[bool] = True

    def __init__(self, target: Any, outcome: Outcome, seed: int):
        del target  # q knows its own
        self.target: StreamTarget = outcome.q.target
        self.outcome, self.seed = outcome, seed
        self.structure, self.program = self.target.structure, self.target.program

    @property
    def q(self) -> Product:
        """The product of the global factors."""
        return self.outcome.q.product()

    @property
    def approximation(self) -> Product:
        """The same: its factors live on the latents' own supports."""
        return self.q

    @property
    def _why_not(self) -> str:
        """Why there are no weights, if there are none."""
        if not self.target.source.repeatable:
            return "The data could be read once only, so that nothing here has been checked against them."
        scalars = sum(int(np.prod(site.shape)) for site in self.structure.sites.values() if site.kind == "latent")
        if 256 * 8 * scalars > LARGEST:
            return f"The {scalars} global scalars are too many for importance weights."
        return ""

    def elbo(self, seed: int) -> tuple[float, float]:
        """Exact from a pass over all rows; from the batches of its only pass where there was one only."""
        del seed
        found = self.outcome.certificate
        if found.elbo is not None and np.isfinite(found.elbo):
            return found.elbo, found.elbo_se or 0.0
        return (self.outcome.q.elbo(), 0.0) if self.target.source.repeatable else (np.nan, np.inf)

    def size(self) -> int:
        """Draws in a pool: 4096 where the data are small, at least 256."""
        elements = 1 + self.target.size * self.target.batches.rest.local.rows.size
        return int(2 ** np.clip(np.floor(np.log2(4e8 / elements)), 8, 12))

    def pool(self, seed: int) -> Pool:
        """Half from q, half from its factors at a lower power."""
        size = self.size() if not self._why_not else 512
        names = self._pooled()
        with working(self.target.precision):
            q = self.q
            q = chosen(q, {block for block, sites in q.blocks if set(sites) & set(names)})
            wide = tempered(q)
            halves = [draw_many(part, size // 2, 2 * seed + i) for i, part in enumerate((q, wide))]
            values = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
            log_q, log_wide = jax.device_get(_DENSITIES(q, wide, values))
        columns = [np.asarray(values[site], float).reshape(size, -1) for site in names]
        points = np.concatenate([np.zeros((size, 1)), *columns], axis=1)
        proposal = np.logaddexp(log_q, log_wide) - np.log(2.0)
        if not self._why_not:
            return weigh(points, log_joints(self.target, values), log_q, proposal)
        nothing, half = np.full(size, np.nan), np.repeat([2.0 / size, 0.0], size // 2)
        return Pool(points, nothing, log_q, proposal, half, np.inf, np.inf, np.inf, False, False)

    def view(self, pool: Pool) -> View | None:
        """The latents that all rows share."""
        if self._why_not:
            return None

        def densities(values: Draws) -> tuple[np.ndarray, np.ndarray]:
            names = set(values)
            with working(self.target.precision):
                q = chosen(self.q, {block for block, sites in self.q.blocks if set(sites) & names})
                log_q, log_wide = jax.device_get(_DENSITIES(q, tempered(q), values))
            return log_q, np.logaddexp(log_q, log_wide) - np.log(2.0)

        values = self._read(pool.points, self._pooled())
        eps = float(np.finfo(float_type(self.target.precision)).eps)
        return View(values, partial(log_joints, self.target), densities, eps=eps, frugal=True)

    def _pooled(self) -> tuple[str, ...]:
        """The latents that a pool holds: all that have weights, else those for tables."""
        return tuple(self._small() if self._why_not else (site.name for site in self._latents()))

    def draws_of(self, pool: Pool) -> Draws:
        """The pool's draws of the latents that are few enough for tables."""
        values = self._read(pool.points, self._pooled())
        return self._with_deterministic({name: values[name] for name in self._small()})

    def _read(self, points: np.ndarray, names: Iterable[str]) -> Draws:
        """The sites that rows of the pool hold, one after the other from the second column on."""
        values, start = {}, 1
        for name in names:
            site = self.structure.sites[name]
            width = int(np.prod(site.shape, dtype=int))
            column = points[:, start : start + width].reshape(-1, *site.shape)
            values[name] = column.astype(np.int32) if site.support.is_discrete else column
            start += width
        return values

    def _latents(self) -> list[Any]:
        return [site for site in self.structure.sites.values() if site.kind == "latent"]

    def _small(self) -> list[str]:
        return [site.name for site in self._latents() if np.prod(site.shape, dtype=int) <= LISTED]

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """Every latent at these rows of the pool."""
        del seed
        if len(self._small()) == len(self._latents()):
            return {name: values[rows] for name, values in draws.items()}
        return self._with_deterministic(self._read(pool.points[rows], (site.name for site in self._latents())))

    def sample(self, count: int, seed: int) -> Draws:
        """Draws of every global latent."""
        check_affordable(self._latents(), count)
        with working(self.target.precision):
            draws = draw_many(self.q, count, 1_000_003 * self.seed + seed)
        return self._with_deterministic(draws)

    def _with_deterministic(self, draws: Draws) -> Draws:
        draws = {site.name: draws[site.name] for site in self._latents() if site.name in draws}
        names = deterministic_names(self.structure)
        if not names or len(draws) < len(self._latents()):
            return draws
        return draws | self.target.program.deterministic(draws, names)

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Weights and moments; "untrusted" where there are no weights."""
        if self._why_not:
            remedy = COMPARE if self.target.source.repeatable else READ_AGAIN
            return Unweighed(self._why_not, remedy), Optimiser()
        local = tuple(self.target.local_sites)
        how = f"{', '.join(local)} integrated out exactly" if local else "all latents drawn"
        integrated = () if exact(self.target) else (Integrated(local, False),)
        return (*factor_checks(how), *integrated)

    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Of exact moments."""
        infos = self.outcome.q.infos
        listed = [site.name for site in self._latents() if site.support.is_discrete]
        ranges = {name: float(np.ptp(infos[name].values)) for name in listed}
        return compare_exact(draws, pool.weights, self.exact_moments(), ranges)

    def evidence(self, pool: Pool) -> Evidence:
        """The exact ELBO; the other bounds from the pool, where there are weights."""
        value, error = self.elbo(0)
        if self._why_not:
            low = value - 2.24 * error if np.isfinite(error) else -np.inf
            return Evidence(value, error, {}, np.nan, np.inf, np.inf, (low, np.inf))
        found = super().evidence(pool)
        low = max(found.interval[0], value - 2.24 * error - 1e-9 * (1.0 + abs(value)))
        return replace(found, elbo=value, elbo_se=error, interval=(low, found.interval[1]))

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """Not without the factors of the rows."""
        raise UndefinedError(
            "The bound of rows that come in batches is summed up without the factors of its rows, of whose entropy a "
            "decomposition consists.",
            f"{self.target.size} rows of plate '{self.target.batches.plate}'.",
            "Read `fit.elbo` and `fit.evidence()`, or fit arrays in memory with method='svi'.",
        )

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd of every global factor of moderate size, in closed form."""
        with working(self.target.precision):
            means, variances = jax.device_get((self.q.means(), self.q.variances()))
        return {
            name: (np.asarray(means[name], float), np.sqrt(np.asarray(variances[name], float)))
            for name in self._small()
            if name in means
        }

    def pointwise(self, draws: Draws, names: list[str]) -> Draws:
        """Not without the latents of the rows."""
        raise UndefinedError(
            "Log likelihoods by observation need the latents of every row, which a fit of batches does not hold.",
            f"Sites: {', '.join(names)}.",
            "Use to_arviz(log_likelihood=False), or fit arrays in memory.",
        )

    def inputs(self) -> dict[str, Any]:
        """There are none but those of batches."""
        raise UndefinedError(
            "Replicated data need the inputs of every row, which come in batches here.",
            f"Plate '{self.target.batches.plate}'.",
            "Pass the inputs of some rows: fit.predict(new_data); their own latents are drawn from their prior.",
        )

    def observed(self) -> dict[str, np.ndarray]:
        """None is held."""
        return {}

    def parameters(self) -> dict[str, np.ndarray]:
        """The natural parameters of the global factors."""
        return self.outcome.q.arrays()

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Any | None:
        """The factors need their model; with arrays in memory they become a fit of those."""
        if target is None:
            return None
        if not isinstance(target, StreamTarget):
            return restored(target, parameters)
        with working(target.precision):
            return Streamed(nested(parameters), target)

    def infer(self, new_data: Mapping[str, Any] | None, refine: bool) -> LocalFactors:
        """The optimal factors of the latents of these rows."""
        del refine
        if new_data is None:
            raise UndefinedError(
                "The rows of this fit came in batches and are not held.", "", "Pass the rows: fit.infer({...})."
            )
        shared, size = self.target.source.example().shared, self.target.batches.rest.rows
        rows = lambda name, value: name not in shared and np.shape(value)[:1] == (size,)  # noqa: E731
        return local_factors(self.q, self.target, rows, new_data)

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> Any:
        """The analysed first batch."""
        return SVI(plate=options.get("plate"), batch_size=options.get("batch_size")).prepare(model, data, precision)


def _densities(q: Product, wide: Product, values: Any) -> Any:
    return jax.lax.map(lambda value: (q.log_prob(value), wide.log_prob(value)), values, batch_size=64)


_DENSITIES = Program(_densities)
