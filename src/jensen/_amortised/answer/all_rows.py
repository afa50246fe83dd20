"""All rows of a fit under q, weighed row by row at draws of what they share."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jensen._amortised.answer.looked import Looked
from jensen._amortised.ascent.evaluate import Evaluator, Weighed, shared_draws
from jensen._amortised.family import Amortised
from jensen._amortised.model import RowTarget
from jensen._amortised.row_posterior import picked, resampled_rows, row_axes
from jensen._math.precision import float_type, working
from jensen._verdict.answer import Draws

LISTED = 4_000
"""Scalars of the rows' latents that tables and files hold."""
BUDGET = 2e8
"""Numbers of data that one look at all rows may read."""
HELD = 2e7
"""Numbers in the draws that are weighed together."""
INNER = 32
"""Draws of every row for each draw of what they share."""


class AllRows:
    """The rows that the fit has seen, at its encoder and learned parameters.

    Attributes:
        target: the rows. q: encoder and shared factor. parameters: the learned ones, unconstrained.
        evaluator: the compiled programs. seed: of the fit.
    """

    def __init__(self, target: RowTarget, q: Amortised, parameters: Mapping[str, Any], seed: int):
        self.target, self.q, self.parameters, self.seed = target, q, parameters, seed
        self.evaluator = Evaluator(target)

    @property
    def size(self) -> int:
        """N."""
        return self.target.size

    def weigh(self, shared: np.ndarray, seed: int) -> Weighed:
        """All rows, each draw of them at one of these of what they share."""
        return self.evaluator.weigh(self.q, self.parameters, self.target.rows, shared, seed)

    def count(self, least: int, most: int) -> int:
        """Draws of all rows that the budget allows."""
        per_draw = sum(np.size(v) for v in self.target.rows.values()) + self.target.size * (self.q.shape.size + 1)
        return int(np.clip(BUDGET // per_draw, least, most))

    @functools.cached_property
    def looked(self) -> Looked:
        """Outer draws of what rows share, each with inner draws of every row."""
        inner = INNER if self.q.shared.dim else self.count(64, 256)
        outer = int(np.clip(self.count(64, 16384) // inner, 16, 512)) if self.q.shared.dim else 1
        shared, axes, seed = shared_draws(self.q, outer, self.seed + 11), row_axes(self.evaluator), self.seed + 11
        side = max(1, int(HELD // (inner * self.target.size * (self.q.shape.size + 1))))
        logs, log_shared, raws, corrected = [], [], [], []
        for first in range(0, outer, side):
            group = shared[first : first + side]
            found = self.weigh(np.repeat(group, inner, axis=0), seed + 13 * first)
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
        axes = row_axes(self.evaluator)
        per_row = sum(np.size(value[0]) for value in values.values()) // self.target.size
        rows = min(self.target.size, max(1, LISTED // max(per_row, 1)))
        return {name: np.take(value, np.arange(rows), axes[name] + 1) for name, value in values.items()}

    def with_shared(self, values: Draws, points: np.ndarray) -> Draws:
        """The draws with the latents outside the plate at these points, (draws, dim)."""
        layout = self.evaluator.model.layout
        if not layout.shared:
            return values
        with working(self.target.precision):
            kind = float_type(self.target.precision)
            found = jax.device_get(jax.vmap(lambda u: layout.shared_values(u)[0])(np.asarray(points, kind)))
        return {**{name: np.asarray(value) for name, value in found.items()}, **values}

    def picked(self, points: np.ndarray, count: int, seed: int) -> Draws:
        """Every row resampled by its own weights, at these shared draws, (count, dim), or without any."""
        axes = row_axes(self.evaluator)
        if not self.q.shared.dim:
            most = max(count, 256)
            found = self.weigh(shared_draws(self.q, most, seed), self.seed + 7 * seed + 1)
            return picked(found.values, resampled_rows(found.log_weights, count, seed), axes)
        parts = []
        side = max(1, int(HELD // (INNER * self.target.size * (self.q.shape.size + 1))))
        for first in range(0, len(points), side):
            group = points[first : first + side]
            found = self.weigh(np.repeat(group, INNER, axis=0), self.seed + 7 * seed + first)
            for i in range(len(group)):
                part = slice(i * INNER, (i + 1) * INNER)
                chosen = resampled_rows(found.log_weights[part], 1, seed + first + i)
                parts.append(picked({n: v[part] for n, v in found.values.items()}, chosen, axes))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self.with_shared(values, points)
