"""Row factors by an encoder: weights row by row, new rows answered without a refit."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from numpyro.distributions import constraints

from jensen._errors import OptionError, UndefinedError
from jensen._typing import leaf
from jensen.algorithms.amortise.evaluate import Evaluator, Weighed, shared_draws
from jensen.algorithms.amortise.refine import refined
from jensen.algorithms.amortised import AmortisedVI
from jensen.answers.contract import AbstractAnswer, Draws
from jensen.answers.row_posterior import RowPosterior, picked, resampled_rows, row_axes
from jensen.bounds import ChiUpper
from jensen.core import Outcome
from jensen.diagnostics.check import Report
from jensen.diagnostics.evidence import Decomposition, Evidence
from jensen.diagnostics.importance import Pool, even, smooth
from jensen.diagnostics.rows import ROWS, Rows, judge, log_mean, looked_at, shared_differences
from jensen.diagnostics.surgery import Surgery, log_aggregate
from jensen.families.amortised import Amortised
from jensen.math.precision import Precision, float_type, working
from jensen.models.learning import LEARNED, Closed
from jensen.models.program import NumPyroProgram, deterministic_names
from jensen.models.rows import RowTarget

LISTED = 4_000
"""Scalars of the rows' latents that tables and files hold."""
BUDGET = 2e8
"""Numbers of data that one look at all rows may read."""
MEASURED = 50_000
"""Draws of rows, all together, on which the bound is measured."""
HELD = 2e7
"""Numbers in the draws that are weighed together."""
INNER = 32
"""Draws of every row for each draw of what they share."""
OTHERS = 4096
"""Rows at most that stand for all of them in the aggregate posterior."""


@dataclass(frozen=True)
class Looked:
    """All rows weighed at some draws of what they share.

    Attributes:
        shared: (outer, dim). log_shared: log p(β) - log q(β) and what lies outside the plate, (outer,).
        rows: log Σ_n-parts: (outer, inner, rows) log weights.
        raw, corrected: one draw of every row for each outer draw, as drawn and resampled by weight; site -> values.
    """

    shared: np.ndarray
    log_shared: np.ndarray
    rows: np.ndarray
    raw: Draws
    corrected: Draws

    @property
    def log_weights(self) -> np.ndarray:
        """log of an unbiased estimate of p(x, β) / q(β) for every outer draw."""
        return self.log_shared + log_mean(self.rows, 1).sum(axis=1)


class AmortisedAnswer(AbstractAnswer):
    """q(z, β) = q(β) Π_n q(z_n | x_n). Weights of rows are their own, given β; those of β hold the rows weighed out."""

    kind: ClassVar[str] = "amortised"
    approximates: ClassVar[type] = Amortised
    space: str = "what rows share, each row being weighed by itself"

    def __init__(self, target: RowTarget, outcome: Outcome, seed: int):
        self.target, self.outcome, self.seed = target, outcome, seed
        self.structure = target.structure

    @functools.cached_property
    def program(self) -> NumPyroProgram:  # type: ignore[override]
        """The program with all rows, at the learned parameters."""
        estimates = self.outcome.estimates
        return self.target.program_at(dict(estimates) if estimates else {})

    @functools.cached_property
    def parameters_at(self) -> dict[str, np.ndarray]:
        """The learned parameters, unconstrained."""
        if self.outcome.estimates is None:
            return {}
        kind = float_type(self.target.precision)
        with working(self.target.precision):
            values = {name: np.asarray(value, kind) for name, value in self.outcome.estimates.items()}
            return {name: np.asarray(value, kind) for name, value in self.target.charts.points(values).items()}

    @property
    def q(self) -> Amortised:
        """Encoder and shared factor."""
        return self.outcome.q

    @property
    def approximation(self) -> RowPosterior:
        """The posterior of the fit's own rows."""
        return self.infer(None, False)

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.target)

    def _weigh(self, shared: np.ndarray, seed: int) -> Weighed:
        return self._evaluator.weigh(self.q, self.parameters_at, self.target.rows, shared, seed)

    def _draws(self, least: int, most: int) -> int:
        """Draws of all rows that the budget allows."""
        per_draw = sum(np.size(v) for v in self.target.rows.values()) + self.target.size * (self.q.shape.size + 1)
        return int(np.clip(BUDGET // per_draw, least, most))

    def elbo(self, seed: int) -> tuple[float, float]:
        """On fresh draws of all rows."""
        count = self._draws(16, int(np.clip(MEASURED // self.target.size, 16, 512)))
        found = self._weigh(shared_draws(self.q, count, self.seed + 101 + seed), self.seed + 101 + seed)
        if self.q.shared.dim:
            totals = found.shared + found.log_weights.sum(axis=1)
            return float(totals.mean()), float(totals.std() / np.sqrt(count))
        error = float(np.sqrt(found.log_weights.var(axis=0).sum() / count))
        return float(found.shared.mean() + found.log_weights.mean(axis=0).sum()), error

    @functools.cached_property
    def _looked(self) -> Looked:
        """Outer draws of what rows share, each with inner draws of every row."""
        inner = INNER if self.q.shared.dim else self._draws(64, 256)
        outer = int(np.clip(self._draws(64, 16384) // inner, 16, 512)) if self.q.shared.dim else 1
        shared, axes, seed = shared_draws(self.q, outer, self.seed + 11), row_axes(self._evaluator), self.seed + 11
        side = max(1, int(HELD // (inner * self.target.size * (self.q.shape.size + 1))))
        logs, log_shared, raws, corrected = [], [], [], []
        for first in range(0, outer, side):
            group = shared[first : first + side]
            found = self._weigh(np.repeat(group, inner, axis=0), seed + 13 * first)
            together = found.log_weights.reshape(len(group), inner, -1)
            logs.append(together)
            log_shared.append(found.shared.reshape(len(group), inner)[:, 0])
            kept = self._listed(found.values)
            rows = min((v.shape[axes[n] + 1] for n, v in kept.items()), default=0)
            for i in range(len(group) if rows else 0):
                own = {name: value[i * inner : (i + 1) * inner] for name, value in kept.items()}
                draws = 1 if outer > 1 else inner
                chosen = resampled_rows(together[i][:, :rows], draws, seed + first + i)
                corrected.append(picked(own, chosen, axes))
                raws.append({name: value[:draws] for name, value in own.items()})

        def joined(parts: list[Draws]) -> Draws:
            return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}

        return Looked(shared, np.concatenate(log_shared), np.concatenate(logs), joined(raws), joined(corrected))

    def _listed(self, values: Draws) -> Draws:
        """The rows' latents, of as many rows as tables hold."""
        axes = row_axes(self._evaluator)
        per_row = sum(np.size(value[0]) for value in values.values()) // self.target.size
        rows = min(self.target.size, max(1, LISTED // max(per_row, 1)))
        return {name: np.take(value, np.arange(rows), axes[name] + 1) for name, value in values.items()}

    def pool(self, seed: int) -> Pool:
        """First draws of q, then as many with every row resampled by its weights and weighed by what rows share."""
        del seed
        found = self._looked
        logs, outer = found.log_weights, len(found.shared)
        rows = next(iter(found.raw.values())).shape[0] if found.raw else outer
        if outer == 1:  # nothing is shared: the rows' own weights are all there is
            totals = found.log_shared[0] + found.rows[0, :rows].sum(axis=1)
            weights, logs = np.full(rows, 1.0 / rows), np.repeat(logs, rows)
            khat, level, points = -1.0, True, np.zeros((2 * rows, 1))
        else:
            totals = found.log_shared + found.rows[:, 0].sum(axis=1)
            weights, khat = smooth(logs)
            level = even(logs)
            points = np.concatenate([np.zeros((2 * rows, 1)), np.tile(found.shared, (2, 1))], axis=1)
        zeros = np.zeros(rows)
        return Pool(
            points,
            np.concatenate([totals, logs]),
            np.zeros(2 * rows),
            np.concatenate([totals - logs, zeros]),
            np.concatenate([zeros, weights]),
            khat,
            khat,
            0.0,
            level,
            level,
        )

    def _with_shared(self, values: Draws, points: np.ndarray) -> Draws:
        """The draws with the latents outside the plate at these points, (draws, dim)."""
        layout = self._evaluator.model.layout
        if not layout.shared:
            return values
        with working(self.target.precision):
            kind = float_type(self.target.precision)
            found = jax.device_get(jax.vmap(lambda u: layout.shared_values(u)[0])(np.asarray(points, kind)))
        return {**{name: np.asarray(value) for name, value in found.items()}, **values}

    def _complete(self, values: Draws) -> Draws:
        """In the model's order, with deterministic sites where all latents are there."""
        latents = self.structure.latents
        draws = {site.name: values[site.name] for site in latents if site.name in values}
        whole = all(site.name in draws and draws[site.name].shape[1:] == site.shape for site in latents)
        names = deterministic_names(self.structure)
        return draws | self.program.deterministic(draws, names) if whole and names else draws

    def draws_of(self, pool: Pool) -> Draws:
        """What tables show: latents outside the plate, and those of the rows, of the first rows if there are many."""
        found = self._looked
        values = {name: np.concatenate([found.raw[name], found.corrected[name]]) for name in found.raw}
        return self._complete(self._with_shared(values, pool.points[:, 1:]))

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """Every latent, each row resampled by its own weights at the shared draws of these rows of the pool."""
        self._affordable(len(rows))
        axes = row_axes(self._evaluator)
        if not self.q.shared.dim:
            count = max(len(rows), 256)
            found = self._weigh(shared_draws(self.q, count, seed), self.seed + 7 * seed + 1)
            return self._complete(picked(found.values, resampled_rows(found.log_weights, len(rows), seed), axes))
        points, parts = pool.points[rows, 1:], []
        side = max(1, int(HELD // (INNER * self.target.size * (self.q.shape.size + 1))))
        for first in range(0, len(points), side):
            group = points[first : first + side]
            found = self._weigh(np.repeat(group, INNER, axis=0), self.seed + 7 * seed + first)
            for i in range(len(group)):
                part = slice(i * INNER, (i + 1) * INNER)
                chosen = resampled_rows(found.log_weights[part], 1, seed + first + i)
                parts.append(picked({n: v[part] for n, v in found.values.items()}, chosen, axes))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._complete(self._with_shared(values, points))

    def sample(self, count: int, seed: int) -> Draws:
        """Fresh draws of q."""
        self._affordable(count)
        shared = shared_draws(self.q, count, self.seed + 31 * seed + 17)
        found = self._weigh(shared, self.seed + 31 * seed + 17)
        return self._complete(self._with_shared(found.values, shared))

    def _affordable(self, count: int) -> None:
        for site in self.structure.latents:
            if count * np.prod(site.shape, dtype=float) * 8 > 2e9:
                raise OptionError(
                    f"{count} draws of '{site.name}', of shape {site.shape}, are more than 2 GB of numbers.",
                    "Argument: num_draws.",
                    "Draw fewer, or ask for some rows: fit.infer(rows).sample().",
                )

    # ---- verdict and evidence ----------------------------------------------------------------------------------

    def _some(self, count: int, seed: int) -> dict[str, np.ndarray]:
        chosen = np.sort(np.random.default_rng([seed, 3]).permutation(self.target.size)[:count])
        return {name: value[chosen] for name, value in self.target.rows.items()}

    @functools.cached_property
    def row_statistics(self) -> Rows:
        """Weights, moments and the amortisation gap on a sample of rows."""
        rows = self._some(ROWS, self.seed)
        return looked_at(self._evaluator, self.q, self.parameters_at, rows, self.seed + 3)

    def judge(self, pool: Pool, draws: Draws, seed: int) -> Report:
        """Row by row, with the amortisation gap."""
        del draws, seed
        dim, found = self.q.shared.dim, self._looked
        weights, _ = smooth(found.log_weights)
        shared = shared_differences(self.q.shared, found.shared, weights) if dim else None
        return judge(self.outcome, self.row_statistics, pool, shared)

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd under q of the latents on the real line, where tables hold all rows."""
        if self._looked.raw and any(v.shape[1:] != self.structure.sites[n].shape for n, v in self._looked.raw.items()):
            return {}
        found, layout, start = {}, self._evaluator.model.layout, 0
        loc, sds = np.asarray(self.q.shared.loc, float), self.q.shared.scales()
        for site in layout.shared:
            part = slice(start, start + site.size)
            start += site.size
            if on_the_line(site.support):
                found[site.name] = (loc[part].reshape(site.shape), sds[part].reshape(site.shape))
        rows = self.infer(None, False)
        for site in layout.continuous:
            if on_the_line(site.support):
                columns = (rows.loc[:, site.start : site.stop], rows.scale[:, site.start : site.stop])
                shaped = [np.moveaxis(c.reshape(rows.size, *site.shape), 0, site.axis) for c in columns]
                found[site.name] = (shaped[0], shaped[1])
        return found

    def evidence(self, pool: Pool) -> Evidence:
        """L_K with every row weighed by itself; the estimate from all inner draws."""
        found = self._looked
        outer, inner, _ = found.rows.shape
        elbo, elbo_se = self.elbo(0)
        bounds = {}
        for k in (10, 32) if outer > 1 else (10, 64):
            groups = inner // k
            parts = found.rows[:, : groups * k].reshape(outer, groups, k, -1)
            by_row = log_mean(parts, 2)
            totals = found.log_shared[:, None] + by_row.sum(axis=2)
            if outer == 1:
                error = float(np.sqrt(by_row[0].var(axis=0, ddof=1).sum() / groups)) if groups > 1 else np.inf
                bounds[k] = float(totals.mean()), error
            else:
                bounds[k] = float(totals.mean()), float(totals.mean(axis=1).std() / np.sqrt(outer))
        logs = found.log_weights
        if outer == 1:
            relative = np.exp(found.rows[0] - found.rows[0].max(axis=0))
            noise = relative.var(axis=0) / np.maximum(relative.mean(axis=0), 1e-300) ** 2 / inner
            value, error = float(logs[0]), float(np.sqrt(noise.sum()))
            khat = self.row_statistics.khat
            upper = _row_limit(found.rows[0], found.log_shared[0]) if khat < 0.25 else np.inf
        else:
            weights = np.exp(logs - logs.max())
            value = float(logs.max() + np.log(weights.mean()))
            error = float(weights.std() / np.sqrt(outer) / weights.mean())
            khat = pool.khat
            upper = ChiUpper(2.0).limit(logs, 0.975, None if pool.even else khat)
        ends = [(elbo, elbo_se), *bounds.values()]
        lower = max((v - 2.4 * se for v, se in ends if np.isfinite(v) and np.isfinite(se)), default=-np.inf)
        return Evidence(elbo, elbo_se, bounds, value, error, khat, (lower, upper))

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """On fresh draws of all rows."""
        count = num_draws or self._draws(16, 512)
        shared = shared_draws(self.q, count, self.seed + seed)
        found = self._weigh(shared, self.seed + seed)
        seen = float((found.shared_observed + found.observed.sum(axis=1)).mean())
        latent = float((found.shared_latent + found.latent.sum(axis=1)).mean())
        elbo = seen + latent
        entropy = self._entropy(shared)
        return Decomposition(elbo, elbo - entropy, entropy, seen, -latent, log_evidence, log_evidence - elbo)

    def _entropy(self, shared: np.ndarray) -> float:
        """Of q over the unconstrained coordinates, exact for Gaussians and small codes."""
        with working(self.target.precision):
            factors = self.infer(None, False).factors
            gaussian = 0.5 * factors.loc.size * (1.0 + np.log(2 * np.pi))
            gaussian += float(np.asarray(factors.spread, float)[:, : factors.loc.shape[1]].sum())
            codes = sum(float(np.asarray(e).sum()) for f in factors.codes.values() if (e := f.entropy()) is not None)
            del shared
            return gaussian + codes + float(self.q.shared.entropy())

    def surgery(self, num_draws: int | None = None) -> Surgery:
        """Mutual information of rows and codes, and the divergence of the aggregate posterior from the prior."""
        size = self.target.size
        count = max(1, (num_draws or 2000) // size) if num_draws or size < 2000 else 1
        shared = shared_draws(self.q, count, self.seed + 41)
        found = self._weigh(shared, self.seed + 41)
        rng = np.random.default_rng([self.seed, 43])
        draws = np.sort(rng.permutation(size)[: max(1, min(size, 2000))])
        posterior = self.infer(None, False)
        others = np.sort(rng.permutation(size)[:OTHERS])
        own, rest = _densities(posterior, found, draws, others, row_axes(self._evaluator))
        aggregate = log_aggregate(own, rest, size)
        information = own - aggregate
        divergence = -found.latent[:, draws].reshape(-1)
        marginal = divergence - information
        observed = float(found.observed.mean())
        per_row = float(-found.latent.mean())
        common = float(found.shared.mean()) / size
        n = len(information)
        return Surgery(
            observed - per_row + common,
            observed,
            per_row,
            float(information.mean()),
            float(information.std() / np.sqrt(n)),
            float(per_row - information.mean()),
            float(marginal.std() / np.sqrt(n)),
            common,
            size,
            posterior.loc.var(axis=0),
        )

    # ---- new rows ----------------------------------------------------------------------------------------------

    def infer(self, new_data: Mapping[str, Any] | None, refine: bool) -> RowPosterior:
        """The posterior of new rows, or of the fit's own."""
        if new_data is None:
            rows = self.target.rows
        else:
            rows, _ = self.target.new_rows(new_data)
        evaluator = self._evaluator
        raw = (
            refined(evaluator, self.q, self.parameters_at, rows, self.seed + 61)
            if refine
            else evaluator.encoded(self.q, rows)
        )
        return RowPosterior(evaluator, self.q, self.parameters_at, rows, raw, refine, self.seed + 71)

    def latents_for(self, arguments: Mapping[str, Any], count: int, seed: int) -> Draws | None:
        """Draws of the latents of new rows, from their own data, and of what rows share."""
        if any(arguments.get(name) is None for name in self.target.cut):
            return None
        new = {name: np.asarray(arguments[name]) for name in self.target.cut}
        posterior = self.infer(new, False)
        shared = shared_draws(self.q, count, self.seed + 83 + seed)
        found = posterior.evaluator.weigh(self.q, self.parameters_at, posterior.data, shared, seed, posterior.raw)
        return self._with_shared(found.values, shared)

    # ---- files -------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        """The encoder's arrays by path, the shared factor's by name."""
        static = self.q.encoder.static
        arrays = {
            f"encoder/{jax.tree_util.keystr(path, simple=True, separator='.')}": np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.q.encoder.arrays)
        }
        shared = {f"shared/{name}": np.asarray(value) for name, value in vars(self.q.shared).items()}
        facts = {"full": np.asarray(int(self.q.shape.full)), "built": np.asarray(int(static.flat))}
        return (
            arrays
            | shared
            | facts
            | {"inputs": np.asarray(static.inputs), "missing": np.asarray(sorted(static.missing))}
        )

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Amortised | None:
        """The family with these arrays; it needs the model, and an encoder of the user's own."""
        if target is None:
            return None
        return _restored(parameters, target)

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> RowTarget:
        """The rows of a model, closed at its estimates if it has any."""
        method = AmortisedVI(
            encoder=options.get("encoder"),
            family=options.get("family", "mean_field"),
            hidden=options.get("hidden"),
            inputs=options.get("inputs"),
            plate=options.get("plate"),
        )
        if isinstance(model, Closed):
            rest = {name: value for name, value in data.items() if name != LEARNED}
            given = {**rest, **{p.name: data[LEARNED][p.name] for p in model.parameters if p.kind == "argument"}}
            from jensen.models.learning import find_parameters

            known = {p.name: p for p in find_parameters(model.fn, given)}
            asked = [p for p in model.parameters if p.name not in known]
            if asked:
                learn = [p.name for p in asked]
                known = {p.name: p for p in find_parameters(model.fn, given, learn)}
            return method.prepare_learning(model.fn, tuple(known[p.name] for p in model.parameters), given, precision)
        return method.prepare(model, data, precision)


def on_the_line(support: Any) -> bool:
    """Whether the unconstrained coordinates are the values themselves."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


def _row_limit(logs: np.ndarray, shared: float) -> float:
    """Σ_n CUBO_2 of the rows, (draws, rows) log weights, at its one-sided 97.5 % confidence limit."""
    squares = np.exp(2.0 * (logs - logs.max(axis=0)))
    mean = squares.mean(axis=0)
    noise = squares.var(axis=0, ddof=1) / len(logs) / mean**2
    value = logs.max(axis=0) + 0.5 * np.log(mean) + 0.25 * noise  # the last undoes the logarithm's bias
    return float(shared + value.sum() + 1.96 * 0.5 * np.sqrt(noise.sum()))


def _densities(
    posterior: RowPosterior, found: Weighed, draws: np.ndarray, others: np.ndarray, axes: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(log q(z | x_n) of draws under their own rows, the same under other rows (draws, others)), all draws in a row."""
    factors = posterior.factors
    precision = posterior.evaluator.target.precision
    codes = {
        name: np.moveaxis(value, axes[name] + 1, 1) for name, value in found.values.items() if name in factors.codes
    }

    def under(point: Any, code: Any) -> Any:
        """One row's draw under every row's factor, (rows,)."""
        own = factors.log_prob(point[None])
        full = {}
        for name, value in code.items():
            rows = np.broadcast_shapes((posterior.size, *value.shape))
            full[name] = jax.numpy.moveaxis(jax.numpy.broadcast_to(value, rows), 0, axes[name])
        return own + factors.codes_log_prob(full) if full else own

    own_all, rest_all = [], []
    with working(precision):
        run = jax.jit(lambda p, c: jax.lax.map(lambda item: under(*item), (p, c)))
        for s in range(found.point.shape[0]):
            table = np.asarray(run(found.point[s][draws], {n: v[s][draws] for n, v in codes.items()}), float)
            own_all.append(table[np.arange(len(draws)), draws])
            rest = table[:, others]
            if len(others) == posterior.size:  # every other row: without the draw's own
                rest = np.where(others[None] == draws[:, None], -np.inf, rest)
                rest = rest + np.log(rest.shape[1] / max(rest.shape[1] - 1.0, 1.0))
            rest_all.append(rest)
    return np.concatenate(own_all), np.concatenate(rest_all)


def _restored(parameters: Mapping[str, np.ndarray], target: RowTarget) -> Amortised:
    arrays = {name.partition("/")[2]: value for name, value in parameters.items() if name.startswith("encoder/")}
    shared = {name.partition("/")[2]: value for name, value in parameters.items() if name.startswith("shared/")}
    built = bool(int(parameters["built"]))
    if not built and target.encoder is None:
        raise UndefinedError(
            "The fit was made with an encoder of your own, and a file holds its arrays, not its form.",
            "",
            "Give it back: jn.load(path).attach(model, data, encoder=module).",
        )
    hidden = None
    if built:
        count = sum(name.startswith("weights.") for name in arrays)
        hidden = tuple(int(arrays[f"weights.{i}"].shape[0]) for i in range(count - 1))
    method = AmortisedVI(
        encoder=None if built else target.encoder,
        hidden=hidden,
        inputs=tuple(str(name) for name in parameters["inputs"]),
        family="full_rank" if int(parameters["full"]) else "mean_field",
    )
    with working(target.precision):
        q = method.start(target, 0).q
    paths = jax.tree_util.tree_leaves_with_path(q.encoder.arrays)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    shapes = {name: np.shape(leaf) for name, (_, leaf) in zip(names, paths, strict=True)}
    if shapes != {name: value.shape for name, value in arrays.items()}:
        raise OptionError(
            "This encoder is not the one of the saved fit: its arrays differ in name or shape.",
            f"Saved: { {n: v.shape for n, v in arrays.items()} }; given: {shapes}.",
            "Pass a module of the form that the fit was made with.",
        )
    leaves = jax.tree.unflatten(jax.tree.structure(q.encoder.arrays), [arrays[name] for name in names])
    own = type(q.shared)(**{name: leaf(value) for name, value in shared.items()})
    return eqx.tree_at(lambda f: (f.encoder.arrays, f.shared), q, (leaves, own))


__all__ = ["AmortisedAnswer", "Looked"]
