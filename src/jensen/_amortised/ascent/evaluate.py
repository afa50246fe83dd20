"""An amortised q looked at row by row: draws, log weights in their parts, and what rows share, streamed over blocks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jensen._amortised.family import Amortised, RowFactors, Shape
from jensen._amortised.model import RowModel, RowTarget
from jensen._math.noise import key_data, key_of
from jensen._math.precision import float_type, working
from jensen._math.programs import Program

BLOCK = 256
"""Rows looked at together."""
HEAVY = 100_000
"""Numbers of data and latents beyond which programs are worth optimising."""
TOGETHER = 1_000_000
"""Numbers of data that up to 8 draws evaluated side by side may read."""
SMALL = 50_000
"""The same for more draws than 8, whose programs are called less often."""


@dataclass(frozen=True)
class Weighed:
    """Draws of rows with their log weights, in nats.

    Attributes:
        observed: log p(x_n | z_n, β), (draws, rows). latent: log p(z_n | β) - log q(z_n), (draws, rows).
        shared_observed, shared_latent: the same of what lies outside the plate, (draws,).
        point: unconstrained coordinates, (draws, rows, dim). codes: site -> (draws, *site). values: site -> values of
            the rows' latents on their supports, (draws, *site).
    """

    observed: np.ndarray
    latent: np.ndarray
    shared_observed: np.ndarray
    shared_latent: np.ndarray
    point: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def log_weights(self) -> np.ndarray:
        """Of the rows, (draws, rows)."""
        return self.observed + self.latent

    @property
    def shared(self) -> np.ndarray:
        """Of what rows share, (draws,)."""
        return self.shared_observed + self.shared_latent


class Evaluator:
    """Programs that evaluate q on any number of rows, the same ones for all of them."""

    target: RowTarget
    block: int
    model: RowModel
    heavy: bool

    def __init__(self, target: RowTarget, block: int | None = None):
        self.target, self.block = target, min(block or BLOCK, target.size)
        self.model = target.model(self.block)
        per_row = sum(int(np.prod(v.shape[1:], dtype=int)) for v in target.rows.values()) + target.layout.dim + 1
        one = self.block * per_row
        self._side = int(max(np.clip(TOGETHER // one, 1, 8), min(SMALL // one, 128)))
        self.heavy = self.target.size * per_row > HEAVY
        self.mode: Any = "middle" if self.heavy else False
        self._programs: dict[Shape, Program] = {}
        self._encode = Program(lambda q, model, parameters, data: q.numbers(model.at(data), data, parameters))

    def _program(self, shape: Shape) -> Program:
        if shape not in self._programs:
            self._programs[shape] = Program(lambda *given: _weighed(shape, *given), heavy=self.mode)
        return self._programs[shape]

    def blocks(self, rows: Mapping[str, np.ndarray]) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
        """(places, rows padded to the size of a block) for all rows."""
        count = len(next(iter(rows.values())))
        for start in range(0, count, self.block):
            index = np.minimum(np.arange(start, start + self.block), count - 1)
            yield slice(start, min(start + self.block, count)), {name: value[index] for name, value in rows.items()}

    def encoded(self, q: Amortised, parameters: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """The numbers of these rows' factors."""
        with working(self.target.precision):
            known = dict(parameters)
            parts = [
                np.asarray(self._encode(q, self.model, known, data))[: at.stop - at.start]
                for at, data in self.blocks(rows)
            ]
        return np.concatenate(parts)

    def weigh(
        self,
        q: Amortised,
        parameters: Mapping[str, Any],
        rows: Mapping[str, np.ndarray],
        shared: np.ndarray,
        seed: int,
        raw: np.ndarray | None = None,
    ) -> Weighed:
        """One draw of every row for each of the shared points (draws, shared_dim), weighed against q."""
        kind = float_type(self.target.precision)
        raw = self.encoded(q, parameters, rows) if raw is None else raw
        shared, count = np.asarray(shared, kind), len(shared)
        padded = np.minimum(np.arange(-(-count // self._side) * self._side), count - 1)
        found = []
        with working(self.target.precision):
            program = self._program(q.shape)
            for number, (at, data) in enumerate(self.blocks(rows)):
                index = np.minimum(np.arange(at.start, at.start + self.block), len(raw) - 1)
                keys = key_data(len(padded), seed, number)
                given = (self.model, q.shared, raw[index], dict(parameters), data)
                parts = [
                    jax.device_get(program(*given, shared[padded[i : i + self._side]], keys[i : i + self._side]))
                    for i in range(0, len(padded), self._side)
                ]
                part = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
                found.append((at.stop - at.start, part))
                self.target.values += count * self.block
        axes = {site.name: site.axis + 1 for site in self.model.layout.continuous}
        axes |= {code.name: code.axis + 1 for code in self.model.layout.codes}

        def rows_of(pick: Callable[[Any], Any], axis: int) -> np.ndarray:
            parts = [np.take(np.asarray(pick(part)), np.arange(rows), axis) for rows, part in found]
            return np.concatenate(parts, axis=axis)

        first = found[0][1]
        return Weighed(
            rows_of(lambda p: p[0], 1).astype(float),
            rows_of(lambda p: p[1], 1).astype(float),
            np.asarray(first[2], float),
            np.asarray(first[3], float),
            rows_of(lambda p: p[4], 1),
            {name: rows_of(lambda p, n=name: p[5][n], axis) for name, axis in axes.items()},
        )


def _weighed(
    shape: Shape, model: RowModel, common: Any, raw: Any, parameters: Any, data: Any, shared: Any, keys: Any
) -> Any:
    model = model.at(data)
    factors = RowFactors.of(model.layout, shape, raw)

    def one(at: Any, key: Any) -> Any:
        first, second = jax.random.split(key_of(key))
        point = factors.transform(jax.random.normal(first, factors.loc.shape, factors.loc.dtype))
        codes = factors.draw_codes(second)
        parts = model.parts(point, codes, at, parameters)
        latent = parts.latent - factors.log_prob(point) - factors.codes_log_prob(codes)
        values = {**model.layout.values(point)[0], **codes}
        shared_latent = parts.shared_latent - common.log_prob(at)
        return parts.observed, latent, parts.shared_observed, shared_latent, point, values

    return jax.vmap(one)(shared, keys)


def shared_draws(q: Amortised, count: int, seed: int) -> np.ndarray:
    """Draws of the unconstrained coordinates that rows share, (count, shared_dim)."""
    noise = np.random.default_rng([seed, 5]).normal(size=(count, q.shared.noise_dim))
    return q.shared.host_transform(noise)


def picked_rows(rows: Mapping[str, np.ndarray], most: int, seed: int) -> dict[str, np.ndarray]:
    """At most so many of the rows, chosen at random, in order."""
    size = len(next(iter(rows.values())))
    chosen = np.sort(np.random.default_rng(seed).permutation(size)[:most])
    return {name: value[chosen] for name, value in rows.items()}


def measure(
    evaluator: Evaluator, rows: Mapping[str, np.ndarray], size: int, draws: int, seed: int
) -> Callable[..., float]:
    """(q, parameters) -> the ELBO on fixed noise, these rows standing for `size`; comparable between calls."""
    count = len(next(iter(rows.values())))

    def bound(q: Amortised, parameters: Mapping[str, Any]) -> float:
        found = evaluator.weigh(q, parameters, rows, shared_draws(q, draws, seed), seed)
        return float((found.shared + size / count * found.log_weights.sum(axis=1)).mean())

    return bound
